"""What a quantized model's layers hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_layer,
    quantize_wrapper,
)

from wrpn_tf.graph.nodes import Node
from wrpn_tf.graph.roles import Kind, kind
from wrpn_tf.graph.views import KernelEntry, LayerView, OutputEntry, layer_view
from wrpn_tf.tfmot.one_grid_layers import OneGridLayer

NAME_PREFIX = "quant_"
"""TF-MOT puts it before the names of layers in wrappers."""


def named_output_quantizers(model: keras.Model) -> dict[str, OutputEntry]:
    """Every output quantizer of the model with its variables, by the layer's name."""
    return {layer.name: entry for layer in model.layers if (entry := _output_quantizer(layer))}


def named_kernel_quantizers(model: keras.Model) -> dict[str, KernelEntry]:
    """Every kernel quantizer, the kernel and the quantizer's variables, by the layer's name."""
    return {layer.name: entry for layer in model.layers if (entry := _kernel_quantizer(layer))}


def unwrapped(layer: Any) -> tuple[Any, Kind | None]:
    """The layer inside a wrapper, or the layer itself, and its role."""
    inner = layer.layer if isinstance(layer, quantize_wrapper.QuantizeWrapper) else layer
    return inner, Kind.INPUT if isinstance(inner, quantize_layer.QuantizeLayer) else kind(inner)


def scale_and_zero_point(quantizer: Any, variables: Mapping[str, Any]) -> tuple[Any, Any]:
    """The present int8 grid of an output quantizer, as tensors."""
    return quantizer.scale_and_zero_point(variables)


def view_layer(node: Node) -> LayerView:
    """The view of a node of a quantized model."""
    layer, role = unwrapped(node.layer)
    return layer_view(
        node, layer, role, _kernel_quantizer(node.layer), _output_quantizer(node.layer)
    )


def _kernel_quantizer(layer) -> KernelEntry | None:
    if not isinstance(layer, quantize_wrapper.QuantizeWrapper) or not layer._weight_vars:
        return None
    ((kernel, quantizer, variables),) = layer._weight_vars
    return quantizer, kernel, variables


def _output_quantizer(layer) -> OutputEntry | None:
    if isinstance(layer, quantize_wrapper.QuantizeWrapper) and layer._output_quantizers:
        return layer._output_quantizers[0], layer._output_quantizer_vars
    if isinstance(layer, quantize_layer.QuantizeLayer | OneGridLayer):
        return layer.quantizer, layer.quantizer_vars
    return None
