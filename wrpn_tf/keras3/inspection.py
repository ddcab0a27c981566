"""What a quantized model's layers hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from wrpn_tf.graph.nodes import Node
from wrpn_tf.graph.roles import Kind, kind
from wrpn_tf.graph.views import KernelEntry, LayerView, OutputEntry, layer_view
from wrpn_tf.keras3.layers import QuantizedInput, QuantizedLayer


def named_output_quantizers(model: keras.Model) -> dict[str, OutputEntry]:
    """Every output quantizer of the model with its variables, by the layer's name."""
    return {layer.name: entry for layer in model.layers if (entry := _output_quantizer(layer))}


def named_kernel_quantizers(model: keras.Model) -> dict[str, KernelEntry]:
    """Every kernel quantizer, the kernel and the quantizer's variables, by the layer's name."""
    return {layer.name: entry for layer in model.layers if (entry := _kernel_quantizer(layer))}


def unwrapped(layer: Any) -> tuple[Any, Kind | None]:
    """The layer inside a wrapper, or the layer itself, and its role."""
    inner = layer.layer if isinstance(layer, QuantizedLayer) else layer
    return inner, Kind.INPUT if isinstance(inner, QuantizedInput) else kind(inner)


def scale_and_zero_point(quantizer: Any, variables: Mapping[str, Any]) -> tuple[Any, Any]:
    """The present int8 grid of an output quantizer, which has its variables itself; as tensors."""
    return quantizer.scale_and_zero_point()


def view_layer(node: Node) -> LayerView:
    """The view of a node of a quantized model."""
    layer, role = unwrapped(node.layer)
    return layer_view(
        node, layer, role, _kernel_quantizer(node.layer), _output_quantizer(node.layer)
    )


def _kernel_quantizer(layer: Any) -> KernelEntry | None:
    if not isinstance(layer, QuantizedLayer) or layer.weight_quantizer is None:
        return None
    quantizer = layer.weight_quantizer
    return quantizer, layer.layer.kernel, quantizer.variables


def _output_quantizer(layer: Any) -> OutputEntry | None:
    quantizer = getattr(layer, "output_quantizer", None)
    return None if quantizer is None else (quantizer, quantizer.variables)
