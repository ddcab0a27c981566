"""Splitting layers that fuse several steps, so that each step can carry its own quantizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tf_keras as keras
from tf_keras import layers

from wrpn_tf.graph.roles import activation_name
from wrpn_tf.tfmot import traversal
from wrpn_tf.tfmot.quantize_config import WRPNQuantizeConfig, kernel_attribute

Inherit = Callable[..., None]


def split(
    model: keras.Model, annotated: dict[str, WRPNQuantizeConfig]
) -> tuple[keras.Model, dict[str, WRPNQuantizeConfig]]:
    """Gives fused activations and the halves of separable convolutions layers of their own.

    Swish becomes a product with a sigmoid, a hard sigmoid ``clip(0.2 x + 0.5, 0, 1)`` a Rescaling
    and a ReLU. Layers without annotation stay as they are.

    Returns:
      The new model and the annotations of its layers.
    """
    plan: dict[str, WRPNQuantizeConfig] = {}

    def inherit(name: str, layer: keras.layers.Layer, weight: bool = True) -> None:
        config = annotated[layer.name].get_config()
        if not weight:
            config["weight"] = None
        plan[name] = WRPNQuantizeConfig.from_config(config)

    def apply(layer: keras.layers.Layer, inputs: Any) -> Any:
        if layer.name not in annotated:
            return traversal.call_copy(layer, inputs)
        if type(layer) is layers.Activation:
            return _call_activation(layer, layer.name, inputs, inherit)
        if type(layer) is layers.SeparableConv2D:
            outputs = _call_separable(layer, inputs)
            inherit(f"{layer.name}_depthwise", layer)
            inherit(f"{layer.name}_pointwise", layer)
        elif kernel_attribute(layer):
            outputs = traversal.call_copy(layer, inputs, activation="linear")
            inherit(layer.name, layer)
        else:
            inherit(layer.name, layer)
            return traversal.call_copy(layer, inputs)
        activation = activation_name(layer)
        if activation == "linear":
            return outputs
        return _call_activation(layer, f"{layer.name}_{activation}", outputs, inherit)

    return traversal.rebuild(model, apply), plan


def _call_activation(layer: Any, name: str, inputs: Any, inherit: Inherit) -> Any:
    """The activation of `layer` as one or two layers, the last of them called `name`."""
    inherit(name, layer, weight=False)
    match activation_name(layer):
        case "swish" | "silu":
            inherit(f"{name}_sigmoid", layer, weight=False)
            gate = layers.Activation("sigmoid", name=f"{name}_sigmoid")(inputs)
            return layers.Multiply(name=name)([inputs, gate])
        case "hard_sigmoid":
            inherit(f"{name}_line", layer, weight=False)
            line = layers.Rescaling(0.2, 0.5, name=f"{name}_line")(inputs)
            return layers.ReLU(1.0, name=name)(line)
    return layers.Activation(layer.activation, name=name)(inputs)


def _call_separable(layer, inputs):
    depthwise = layers.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        depthwise_regularizer=layer.depthwise_regularizer,
        depthwise_constraint=layer.depthwise_constraint,
        trainable=layer.trainable,
        name=f"{layer.name}_depthwise",
    )
    pointwise = layers.Conv2D(
        layer.filters,
        1,
        use_bias=layer.use_bias,
        kernel_regularizer=layer.pointwise_regularizer,
        kernel_constraint=layer.pointwise_constraint,
        bias_regularizer=layer.bias_regularizer,
        bias_constraint=layer.bias_constraint,
        trainable=layer.trainable,
        name=f"{layer.name}_pointwise",
    )
    outputs = pointwise(depthwise(inputs))
    weights = layer.get_weights()
    depthwise.set_weights(weights[:1])
    pointwise.set_weights(weights[1:])
    return outputs
