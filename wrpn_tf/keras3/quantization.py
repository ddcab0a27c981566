"""Building the quantized model of a network, and annotations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

from wrpn_tf.graph.decomposition import decomposed
from wrpn_tf.graph.nodes import Network, Node
from wrpn_tf.graph.plan import (
    InputRange,
    LayerPlan,
    fixed_range,
    flattening_name,
    input_quantizer_name,
    of_all_uses,
    placed,
    without_annotations,
)
from wrpn_tf.graph.roles import Kind, class_name
from wrpn_tf.graph.support import check_supported
from wrpn_tf.keras3 import traversal
from wrpn_tf.keras3.acceptance import check_accepted
from wrpn_tf.keras3.layers import (
    AnnotatedLayer,
    QuantizedAveragePooling2D,
    QuantizedInput,
    QuantizedLayer,
    QuantizedUpSampling2D,
    output_quantizer,
    weight_quantizer,
)
from wrpn_tf.keras3.model import float_with_interface_of, with_interface_of
from wrpn_tf.keras3.output_quantizers import RangeQuantizer
from wrpn_tf.keras3.own_layers import NAMESPACE


def quantize(
    model: keras.Model,
    network: Network,
    annotated: Mapping[str, LayerPlan],
    integer: bool,
    input_range: InputRange,
) -> keras.Model:
    """The quantized copy of a model.

    Args:
      model: the user's.
      network: its nodes, not decomposed.
      annotated: what its layers are asked to have, by name.
      integer: see `wrpn_tf.graph.plan.placed`.
      input_range: see `wrpn_tf.graph.plan.placed`.
    """
    asked = {
        node.name: annotated[node.name]
        for node in network.nodes
        if node.name in annotated and node.kind is not Kind.INPUT
    }
    asked = of_all_uses(network, asked)
    check_supported(network, asked)
    network, plans = placed(decomposed(network, NAMESPACE, asked), asked, integer, input_range)

    def on_grid(node: Node, tensor: Any) -> Any:
        quantizer = RangeQuantizer(fixed_range(input_range, node.name))
        return QuantizedInput(quantizer, name=input_quantizer_name(node.name))(tensor)

    def call(node: Node, tensors: Any) -> Any:
        return _call(node, tensors, plans.get(node.name))

    built = traversal.build(network, call, on_grid if integer else None)
    return with_interface_of(model, *built)


def assemble(model: Any, network: Network) -> keras.Model:
    """The float model of a network, with the interface of `model`."""
    return float_with_interface_of(
        model, *traversal.build(network, lambda node, tensors: _call(node, tensors, None))
    )


def annotate(layer: keras.layers.Layer, plan: LayerPlan) -> keras.layers.Layer:
    """Marks one layer for `apply`."""
    return AnnotatedLayer(
        layer,
        weight=plan.weight and dataclasses.asdict(plan.weight),
        output=plan.output and dataclasses.asdict(plan.output),
        name=layer.name,
        trainable=layer.trainable,
    )


def apply(model: keras.Model, integer: bool, input_range: InputRange) -> keras.Model:
    """See `wrpn_tf.quantize_apply`."""
    check_accepted(model, integer)
    network = traversal.read(model)
    annotated = {
        node.name: node.layer.plan
        for node in network.nodes
        if isinstance(node.layer, AnnotatedLayer)
    }
    network = without_annotations(network, annotated)
    return quantize(model, network, annotated, integer, input_range)


def _call(node: Node, tensors: Any, plan: LayerPlan | None) -> Any:
    """Calls a new layer for a node, with the node's weights and the planned quantizers."""
    if node.kind is Kind.AVERAGE and plan is not None:
        return _on_one_grid(node, tensors, output_quantizer(plan.output))
    layer = traversal.new_layer(node)
    if plan is None:
        given = traversal.operands(layer, tensors)
        outputs = layer(*given, **traversal.call_arguments(node, layer))
        traversal.copy_weights(node, layer)
        return outputs
    wrapper = QuantizedLayer(
        layer,
        weight_quantizer(plan.weight),
        output_quantizer(plan.output),
        name=node.name,
        trainable=node.trainable,
    )
    outputs = wrapper(tensors, **traversal.call_arguments(node, wrapper))
    traversal.copy_weights(node, layer)
    if wrapper.weight_quantizer is not None:
        wrapper.weight_quantizer.initialize(
            layer.kernel.numpy(), wrapper.weight_quantizer.variables
        )
    return outputs


def _on_one_grid(node: Node, inputs: Any, quantizer: Any) -> Any:
    """The node's pooling or upsampling on the quantizer's grid."""
    layer = node.layer
    common: dict[str, Any] = {"name": node.name, "trainable": node.trainable}
    if class_name(layer) == "UpSampling2D":
        return QuantizedUpSampling2D(quantizer, layer.size, **common)(inputs)
    if class_name(layer) == "GlobalAveragePooling2D":
        window = tuple(int(size) for size in inputs.shape[1:3])
        pooled = QuantizedAveragePooling2D(quantizer, window, window, **common)(inputs)
        if layer.keepdims:
            return pooled
        return keras.layers.Flatten(name=flattening_name(node.name))(pooled)
    return QuantizedAveragePooling2D(
        quantizer, layer.pool_size, layer.strides, layer.padding, **common
    )(inputs)
