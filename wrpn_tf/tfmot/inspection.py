"""A quantized model as plain facts: layers, trained integers and grids."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_layer,
    quantize_wrapper,
)

from wrpn_tf.arithmetic.quantization_parameters import QuantizationParameters
from wrpn_tf.graph.fusion import Fusion
from wrpn_tf.graph.nodes import Node
from wrpn_tf.graph.roles import Kind, kind
from wrpn_tf.tfmot import traversal
from wrpn_tf.tfmot.one_grid_layers import OneGridLayer
from wrpn_tf.tfmot.output_quantizers import ObservableQuantizer
from wrpn_tf.tfmot.weight_quantizer import WeightQuantizer


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class KernelCodes:
    """The integers of a trained kernel, in the layout of the Keras kernel.

    Attributes:
      codes: int32, at most ``2 ** (bits - 1) - 1`` in magnitude; 1 for 1 bit, and ``2 ** bits - 1``
        for DoReFa.
      scale: positive float32, broadcastable to `codes`; the kernel is ``codes * scale``.
      bits: 1 to 8.
    """

    codes: np.ndarray
    scale: np.ndarray
    bits: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerView:
    """One layer of a quantized model.

    Attributes:
      name: the layer's name in the model.
      kind: its role; None for a class that cannot be quantized.
      layer: the Keras layer itself, without TF-MOT's wrapper.
      inputs: names of the layers it reads.
      output_shape: with the batch (None) first.
      kernel: the trained integers, or None for a layer without a quantized kernel.
      grid: the grid of its output, or None where it has none of its own.
      observes: whether the layer quantizes its output (its grid is None until it saw data).
      shift: what is added to its output before it is rounded: see `wrpn_tf.quantizers.pixel_grid`.
    """

    name: str
    kind: Kind | None
    layer: keras.layers.Layer
    inputs: tuple[str, ...]
    output_shape: tuple[int | None, ...]
    kernel: KernelCodes | None
    grid: QuantizationParameters | None
    observes: bool
    shift: float = 0.0


def view(model: keras.Model) -> list[LayerView]:
    """The layers of a quantized model in execution order."""
    return [_view_layer(node) for node in traversal.read(model).nodes]


def fusion_groups(model: keras.Model) -> Fusion[LayerView]:
    """The layers of a quantized model, and which of them become one operator."""
    network = traversal.read(model)
    return Fusion(map(_view_layer, network.nodes), network.results)


def output_quantizers(model: keras.Model) -> list[tuple[ObservableQuantizer, dict[str, Any]]]:
    """Every output quantizer of the model with its variables.

    Raises:
      ValueError: if the model has none.
    """
    found = list(named_output_quantizers(model).values())
    if not found:
        raise ValueError(
            f"Model {model.name!r} has no quantized outputs; quantize it with "
            "wrpn_tf.quantize_model first."
        )
    return found


def named_output_quantizers(
    model: keras.Model,
) -> dict[str, tuple[ObservableQuantizer, dict[str, Any]]]:
    """Every output quantizer of the model with its variables, by the layer's name."""
    return {layer.name: entry for layer in model.layers if (entry := _output_quantizer(layer))}


def named_kernel_quantizers(
    model: keras.Model,
) -> dict[str, tuple[WeightQuantizer, tf.Variable, dict[str, Any]]]:
    """Every kernel quantizer, the kernel and the quantizer's variables, by the layer's name."""
    return {layer.name: entry for layer in model.layers if (entry := _kernel_quantizer(layer))}


def _kernel_quantizer(layer):
    if not isinstance(layer, quantize_wrapper.QuantizeWrapper) or not layer._weight_vars:
        return None
    ((kernel, quantizer, variables),) = layer._weight_vars
    return quantizer, kernel, variables


def _output_quantizer(layer):
    if isinstance(layer, quantize_wrapper.QuantizeWrapper) and layer._output_quantizers:
        return layer._output_quantizers[0], layer._output_quantizer_vars
    if isinstance(layer, quantize_layer.QuantizeLayer | OneGridLayer):
        return layer.quantizer, layer.quantizer_vars
    return None


def _kernel_codes(layer) -> KernelCodes | None:
    entry = _kernel_quantizer(layer)
    if entry is None:
        return None
    quantizer, kernel, variables = entry
    codes, scale = quantizer.codes(kernel.numpy(), variables)
    return KernelCodes(codes=codes, scale=scale, bits=quantizer.bits)


def _view_layer(node: Node) -> LayerView:
    wrapped = isinstance(node.layer, quantize_wrapper.QuantizeWrapper)
    layer = node.layer.layer if wrapped else node.layer
    role = Kind.INPUT if isinstance(layer, quantize_layer.QuantizeLayer) else kind(layer)
    output = _output_quantizer(node.layer)
    return LayerView(
        name=node.name,
        kind=role,
        layer=layer,
        inputs=node.inputs,
        output_shape=node.shape,
        kernel=_kernel_codes(node.layer),
        grid=output[0].grid(output[1]) if output else None,
        observes=output is not None,
        shift=output[0].shift(output[1]) if output else 0.0,
    )
