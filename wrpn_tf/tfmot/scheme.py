"""The TF-MOT scheme: registry and layout transform that put WRPN's quantizers into a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_layer,
    quantize_layout_transform,
    quantize_registry,
    quantize_scheme,
)

from wrpn_tf.arithmetic.methods import ActivationMethod, WeightMethod
from wrpn_tf.arithmetic.quantizers import OFF
from wrpn_tf.graph.decomposition import decomposed
from wrpn_tf.graph.fusion import Fusion
from wrpn_tf.graph.nodes import Network, Node
from wrpn_tf.graph.placement import KBit, Placement, Range
from wrpn_tf.graph.roles import SAME_SCALE, Kind, class_name, kind
from wrpn_tf.graph.support import check_supported
from wrpn_tf.tfmot import traversal
from wrpn_tf.tfmot.one_grid_layers import QuantizedAveragePooling2D, QuantizedUpSampling2D
from wrpn_tf.tfmot.output_quantizers import ActivationQuantizer, RangeQuantizer
from wrpn_tf.tfmot.quantize_config import (
    OutputQuantizer,
    WRPNQuantizeConfig,
    kernel_attribute,
)
from wrpn_tf.tfmot.weight_quantizer import WeightQuantizer

DEFAULT_BITS = 4


def layer_config(
    layer: keras.layers.Layer,
    weight_bits: int = DEFAULT_BITS,
    activation_bits: int = DEFAULT_BITS,
    weight_method: WeightMethod = "learned",
    activation_method: ActivationMethod = "learned",
    per_channel: bool = True,
) -> WRPNQuantizeConfig:
    """What to do with one layer: the annotation that the layout transform then places.

    Dense layers get one scale, as Edge TPU wants it; convolutions one for each output channel, or
    one too.

    Raises:
      ValueError: for a method that does not exist for the layer's bits.
    """
    weight = None
    if kind(layer) is Kind.KERNEL and weight_bits != OFF:
        per_channel = per_channel and not isinstance(layer, keras.layers.Dense)
        weight = WeightQuantizer(weight_bits, weight_method, per_channel=per_channel)
    output = (
        None if activation_bits == OFF else ActivationQuantizer(activation_bits, activation_method)
    )
    return WRPNQuantizeConfig(weight=weight, output=output)


class WRPNRegistry(quantize_registry.QuantizeRegistry):
    """Answers TF-MOT with what the layout transform planned; nothing else is quantized."""

    def __init__(self):
        self.planned: dict[str, WRPNQuantizeConfig] = {}

    def supports(self, layer):
        """Whether the layer's class has a place in an integer network."""
        return kind(layer) is not None

    def get_quantize_config(self, layer):
        """The planned configuration of the layer, or None."""
        return self.planned.get(layer.name)


class WRPNLayoutTransform(quantize_layout_transform.QuantizeLayoutTransform):
    """Decomposes fused layers, then decides where each quantizer goes.

    Args:
      registry: receives the plan.
      integer: whether to add all that an integer-only network needs.
      input_range: fixed real range of the model's inputs, or None to observe it.
    """

    def __init__(self, registry: WRPNRegistry, integer: bool, input_range=None):
        self._registry = registry
        self._integer = integer
        self._input_range = input_range

    def apply(self, model, layer_quantize_map):
        """Returns the rebuilt model and each layer's configuration."""
        annotated = {
            layer.name: layer_quantize_map[layer.name].get("quantize_config") or layer_config(layer)
            for layer in model.layers
            if layer.name in layer_quantize_map and kind(layer) is not Kind.INPUT
        }
        network = decomposed(traversal.read(model), keras.layers, annotated)
        configs = {
            node.name: _own_config(node, annotated[node.part_of])
            for node in network.nodes
            if node.part_of in annotated
        }
        check_supported(network, configs)
        if self._integer:
            _check_all_annotated(network, configs)
        wanted = {name: _wanted(config.output) for name, config in configs.items()}
        fusion = Fusion(network.nodes, network.results)
        placement = Placement(fusion, wanted, self._integer)
        plan = {}
        for node in network.nodes:
            weight = configs[node.name].weight if node.name in configs else None
            output = _quantizer(placement.output(node.name))
            if output and self._input_range and node.inputs[0] in model.input_names:
                output = _rescaled_input(node.layer, self._input_range) or output
            if weight or output:
                plan[node.name] = WRPNQuantizeConfig(weight=weight, output=output)
        nodes = tuple(_freezing_with_sources(node, fusion) for node in network.nodes)
        model = self._insert(dataclasses.replace(network, nodes=nodes), plan)
        self._registry.planned = plan
        return model, {name: {"quantize_config": config} for name, config in plan.items()}

    def _insert(self, network: Network, plan: dict[str, WRPNQuantizeConfig]) -> keras.Model:
        """Puts quantizers behind the inputs and replaces average pooling that owns a grid."""
        inputs = {node.name for node in network.nodes if not node.inputs}

        def on_grid(tensor):
            name = tensor._keras_history.layer.name
            if name not in inputs:
                return tensor
            if name not in quantized_inputs:
                quantized_inputs[name] = quantize_layer.QuantizeLayer(
                    RangeQuantizer(self._input_range), name=f"quantize_{name}"
                )(tensor)
            return quantized_inputs[name]

        def call(node, tensors):
            if self._integer:
                tensors = tf.nest.map_structure(on_grid, tensors)
            if node.kind is Kind.AVERAGE and node.name in plan:
                return _on_one_grid(node, tensors, plan.pop(node.name).output)
            return traversal.call_node(node, tensors)

        quantized_inputs: dict[str, Any] = {}
        return traversal.build(network, call)


class WRPNScheme(quantize_scheme.QuantizeScheme):
    """Registry and layout transform for one call of `quantize_apply`.

    Args:
      integer: add the 8-bit ranges that an integer-only network needs, and refuse layers that have
        no integer form.
      input_range: fixed real range of the inputs, or None to observe it.
    """

    def __init__(self, integer: bool = False, input_range: tuple[float, float] | None = None):
        self._registry = WRPNRegistry()
        self._layout = WRPNLayoutTransform(self._registry, integer, input_range)

    @property
    def plan(self) -> dict[str, WRPNQuantizeConfig]:
        """After applying: what each layer is meant to carry, by its name before wrapping."""
        return self._registry.planned

    def get_layout_transformer(self):
        """The one that plans."""
        return self._layout

    def get_quantize_registry(self):
        """The one that knows the plan."""
        return self._registry


def _freezing_with_sources(node: Node, fusion: Fusion[Node]) -> Node:
    """The node, frozen where all activations that its quantizer may stand for are."""
    if node.kind not in SAME_SCALE or not node.inputs:
        return node
    alive = any(source.trainable for source in fusion.sources(node.name))
    return dataclasses.replace(node, trainable=node.trainable and alive)


def _own_config(node: Node, config: WRPNQuantizeConfig) -> WRPNQuantizeConfig:
    """What a node has of the annotation of the layer that it is a part of."""
    own = WRPNQuantizeConfig.from_config(config.get_config())
    if node.name != node.part_of and not kernel_attribute(node.layer):
        own.weight = None
    return own


def _wanted(quantizer: OutputQuantizer | None) -> KBit | None:
    """The k-bit quantizer that an annotation asks for."""
    if not isinstance(quantizer, ActivationQuantizer):
        return None
    return KBit(bits=quantizer.bits, method=quantizer.method)


def _quantizer(place: KBit | Range | None) -> OutputQuantizer | None:
    """The quantizer of TF-MOT for what was placed."""
    match place:
        case KBit():
            return ActivationQuantizer(place.bits, place.method, place.maximum)
        case Range():
            return RangeQuantizer(place.fixed)
    return None


def _check_all_annotated(network: Network, annotated: Collection[str]) -> None:
    """Raises ValueError if a layer would stay in float."""
    floats = [node.name for node in network.nodes if node.inputs and node.name not in annotated]
    if floats:
        raise ValueError(
            f"Layers without annotation: {', '.join(floats)}. An integer-only network needs "
            "wrpn_tf.quantize_annotate for every layer; or leave out integer=True."
        )


def _rescaled_input(layer, input_range) -> RangeQuantizer | None:
    """The quantizer of a Rescaling layer that reads an input: its range is known."""
    if type(layer) is not keras.layers.Rescaling:
        return None
    ends = [np.ravel(layer.scale) * end + np.ravel(layer.offset) for end in input_range]
    minimum, maximum = min(0.0, float(np.min(ends))), max(0.0, float(np.max(ends)))
    if np.size(ends[0]) > 1 and minimum < 0 < maximum:
        # Channels of their own have no pixels in common: codes below 0 are a whole number.
        below = np.clip(np.ceil(-minimum * 255 / (maximum - minimum)), 1, 254)
        step = max(-minimum / below, maximum / (255 - below))
        minimum, maximum = -below * step, (255 - below) * step
    return RangeQuantizer((minimum, maximum))


def _on_one_grid(node: Node, inputs: Any, quantizer: OutputQuantizer | None) -> Any:
    """The node's pooling or upsampling on the quantizer's grid."""
    layer = node.layer
    common = {"name": node.name, "trainable": node.trainable}
    if class_name(layer) == "UpSampling2D":
        return QuantizedUpSampling2D(quantizer, layer.size, **common)(inputs)
    if class_name(layer) == "GlobalAveragePooling2D":
        window = tuple(int(size) for size in inputs.shape[1:3])
        pooled = QuantizedAveragePooling2D(quantizer, window, window, **common)(inputs)
        if layer.keepdims:
            return pooled
        return keras.layers.Flatten(name=f"{node.name}_flatten")(pooled)
    return QuantizedAveragePooling2D(
        quantizer, layer.pool_size, layer.strides, layer.padding, **common
    )(inputs)
