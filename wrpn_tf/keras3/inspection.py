"""What a quantized model's layers hold."""

from __future__ import annotations

from typing import Any

import keras

from wrpn_tf.graph.nodes import Node
from wrpn_tf.graph.roles import Kind
from wrpn_tf.graph.views import KernelEntry, LayerView, OutputEntry, layer_view
from wrpn_tf.keras3.layers import QuantizedInput, QuantizedLayer


def named_output_quantizers(model: keras.Model) -> dict[str, OutputEntry]:
    """Every output quantizer of the model with its variables, by the layer's name."""
    return {layer.name: entry for layer in model.layers if (entry := _output_quantizer(layer))}


def named_kernel_quantizers(model: keras.Model) -> dict[str, KernelEntry]:
    """Every kernel quantizer, the kernel and the quantizer's variables, by the layer's name."""
    return {layer.name: entry for layer in model.layers if (entry := _kernel_quantizer(layer))}


def view_layer(node: Node) -> LayerView:
    """The view of a node of a quantized model."""
    layer = node.layer.layer if isinstance(node.layer, QuantizedLayer) else node.layer
    role = Kind.INPUT if isinstance(layer, QuantizedInput) else None
    return layer_view(
        node, layer, _kernel_quantizer(node.layer), _output_quantizer(node.layer), role
    )


def _kernel_quantizer(layer: Any) -> KernelEntry | None:
    if not isinstance(layer, QuantizedLayer) or layer.weight_quantizer is None:
        return None
    quantizer = layer.weight_quantizer
    return quantizer, layer.layer.kernel, quantizer.variables


def _output_quantizer(layer: Any) -> OutputEntry | None:
    quantizer = getattr(layer, "output_quantizer", None)
    return None if quantizer is None else (quantizer, quantizer.variables)
