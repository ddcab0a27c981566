"""Building the quantized model of a network with TF-MOT, and annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_annotate as annotation,
)
from tensorflow_model_optimization.python.core.quantization.keras import quantize_wrapper

from wrpn_tf.graph.nodes import Network
from wrpn_tf.graph.plan import LayerPlan
from wrpn_tf.tfmot import traversal
from wrpn_tf.tfmot.acceptance import check_accepted
from wrpn_tf.tfmot.interface import with_interface_of
from wrpn_tf.tfmot.quantize_config import WRPNQuantizeConfig
from wrpn_tf.tfmot.saving import custom_objects
from wrpn_tf.tfmot.scheme import WRPNScheme
from wrpn_tf.tfmot.wrapper import adopt


def quantize(
    model: keras.Model,
    network: Network,
    annotated: Mapping[str, LayerPlan],
    integer: bool,
    input_range: tuple[float, float] | None,
) -> keras.Model:
    """The quantized copy of a model.

    Args:
      model: the user's.
      network: its nodes, not decomposed.
      annotated: what its layers are asked to have, by name.
      integer: see `wrpn_tf.graph.plan.placed`.
      input_range: see `wrpn_tf.graph.plan.placed`.
    """

    def call(node, inputs):
        if node.name not in annotated:
            return traversal.call_node(node, inputs)
        layer = traversal.new_layer(node)
        wrapper = annotate(layer, annotated[node.name])
        outputs = wrapper(inputs, **traversal.call_arguments(node, layer))
        traversal.copy_weights(node, layer)
        return outputs

    return with_interface_of(model, _apply(traversal.build(network, call), integer, input_range))


def assemble(model: Any, network: Network) -> keras.Model:
    """The float model of a network, with the interface of `model`."""
    return with_interface_of(model, traversal.build(network))


def annotate(layer: keras.layers.Layer, plan: LayerPlan) -> keras.layers.Layer:
    """Marks one layer for `apply`."""
    config = WRPNQuantizeConfig.of(plan)
    return tfmot.quantization.keras.quantize_annotate_layer(layer, config)


def apply(
    model: keras.Model, integer: bool, input_range: tuple[float, float] | None
) -> keras.Model:
    """See `wrpn_tf.quantize_apply`."""
    check_accepted(model, integer)
    with keras.utils.custom_object_scope(custom_objects()):
        flat = traversal.build(traversal.read(model))
    if not any(isinstance(layer, annotation.QuantizeAnnotate) for layer in flat.layers):
        raise ValueError(
            f"Model {model.name!r} has no annotated layers; mark some with "
            "wrpn_tf.quantize_annotate, or use wrpn_tf.quantize_model."
        )
    return with_interface_of(model, _apply(flat, integer, input_range))


def _apply(model, integer, input_range) -> keras.Model:
    scheme = WRPNScheme(integer=integer, input_range=input_range)
    with keras.utils.custom_object_scope(custom_objects()):
        quantized = tfmot.quantization.keras.quantize_apply(model, scheme)
    wrappers = {
        layer.layer.name: layer
        for layer in quantized.layers
        if isinstance(layer, quantize_wrapper.QuantizeWrapper)
    }
    _check_applied(scheme, wrappers)
    adopt(quantized.layers)
    for wrapper in wrappers.values():
        for kernel, quantizer, variables in wrapper._weight_vars:
            quantizer.initialize(np.asarray(kernel), variables)
    return quantized


def _check_applied(scheme: WRPNScheme, wrappers: dict) -> None:
    """Raises RuntimeError for layers that do not carry what was planned."""
    lost = []
    for name, planned in scheme.plan.items():
        wrapper = wrappers.get(name)
        carried = wrapper.quantize_config.get_config() if wrapper else None
        kernels = len(wrapper._weight_vars) if wrapper else 0
        if carried != planned.get_config() or kernels != bool(planned.weight):
            lost.append(name)
    if lost:
        raise RuntimeError(f"Layers that lost their quantizers: {', '.join(lost)}.")
