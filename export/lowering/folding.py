"""Folding: what follows a kernel's accumulator becomes a gain and an offset of its channels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from export.ir.operators import (
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
    TransposeConv2D,
    Weighted,
)
from export.ir.provenance import TRAINED
from export.kernel_sets import ideal
from wrpn_tf import KernelCodes, LayerView, QuantizationParameters, class_name

_ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "strides": lambda layer: tuple(layer.strides),
    "padding": lambda layer: layer.padding.upper(),
    "dilation": lambda layer: tuple(layer.dilation_rate),
}
"""How a layer calls the attributes that some operators with a kernel have."""

_FORMS: dict[str, type[Weighted]] = {
    "Dense": FullyConnected,
    "DepthwiseConv2D": DepthwiseConv2D,
    "Conv2DTranspose": TransposeConv2D,
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """``gain * (real + shift) / sqrt(variance) + offset`` for each channel, float64.

    Kept in the numbers that were trained, so that nothing is rounded before
    `export.kernel_sets.ideal` decides what they mean (a sum of two float32 numbers is exact here,
    unless they are 2^29 apart).
    """

    gain: np.ndarray
    shift: np.ndarray
    variance: np.ndarray
    offset: np.ndarray


def identity(count: int) -> Affine:
    """No change, for `count` channels."""
    ones, zeros = np.ones(count), np.zeros(count)
    return Affine(gain=ones, shift=zeros, variance=ones, offset=zeros)


def own_bias(layer: Any, count: int) -> Affine:
    """The bias of a convolution or dense layer with `count` output channels."""
    plain = identity(count)
    if not layer.use_bias:
        return plain
    return dataclasses.replace(plain, offset=np.asarray(layer.bias, np.float64))


def affine(layer: Any, count: int, before: Any = None) -> Affine:
    """A BatchNormalization or Rescaling layer with `count` channels, in inference.

    Args:
      layer: the layer.
      count: number of channels.
      before: the convolution or dense layer that it follows, where that has no grid of its own.
    """
    bias = np.zeros(count) if before is None else own_bias(before, count).offset
    if class_name(layer) == "Rescaling":  # Keras computes with float32 constants.
        gain, offset = (np.float64(np.float32(value)) for value in (layer.scale, layer.offset))
        return dataclasses.replace(
            identity(count),
            gain=np.broadcast_to(gain, count),
            shift=bias,
            offset=np.broadcast_to(offset, count),
        )
    if class_name(layer) == "Slopes":
        slopes = np.broadcast_to(np.asarray(layer.alpha, np.float64).ravel(), count)
        return dataclasses.replace(identity(count), gain=slopes, shift=bias)
    mean = np.asarray(layer.moving_mean, np.float64)
    variance = np.asarray(layer.moving_variance, np.float64)
    return Affine(
        gain=np.asarray(layer.gamma, np.float64) if layer.scale else np.ones_like(mean),
        shift=bias - mean,
        variance=variance + np.float64(np.float32(layer.epsilon)),
        offset=np.asarray(layer.beta, np.float64) if layer.center else np.zeros_like(mean),
    )


def parameters(
    codes: np.ndarray, scale: np.ndarray, affine: Affine, source: QuantizationParameters
) -> np.ndarray:
    """`TRAINED` of kernel codes ``[channels, taps]`` of `scale`, followed by `affine`.

    Raises:
      ValueError: see `export.kernel_sets.ideal.check_finite`.
    """
    trained = np.zeros(len(codes), TRAINED)
    trained["scale"] = scale
    for field in dataclasses.fields(affine):
        trained[field.name] = getattr(affine, field.name)
    trained["digest"] = [ideal.digest(channel) for channel in codes]
    ideal.check_finite(trained, source.scale)
    return trained


def trained_kernel(
    view: LayerView, kernel: KernelCodes, affine: Affine, source: QuantizationParameters
) -> dict[str, Any]:
    """A convolution or dense layer as the fields of a `TrainedKernel`.

    Args:
      view: the layer.
      kernel: its codes and scale.
      affine: what follows it.
      source: quantization parameters of its input.

    Raises:
      ValueError: see `parameters`.
    """
    layer, form = view.layer, _form(view.layer)
    codes = channels_last(layer, kernel.codes)
    window = (1, 1) if form is FullyConnected else codes.shape[:2]
    taps = math.prod(window if form is DepthwiseConv2D else codes.shape[:-1])
    scale = channels_last(layer, np.broadcast_to(kernel.scale, kernel.codes.shape))
    rows = np.ascontiguousarray(codes.reshape(taps, -1).T, np.int8)
    names = {field.name for field in dataclasses.fields(form)}
    return {
        "form": form,
        "codes": rows,
        "window": window,
        "bits": kernel.bits,
        "parameters": parameters(rows, scale.reshape(taps, -1)[0], affine, source),
    } | {name: read(layer) for name, read in _ATTRIBUTES.items() if name in names}


def channels_last(layer: Any, kernel: np.ndarray) -> np.ndarray:
    """An array of the shape of a layer's kernel, with the output channels as its last axis.

    A transposed convolution has them before its input channels.
    """
    return kernel.swapaxes(2, 3) if class_name(layer) == "Conv2DTranspose" else kernel


def _form(layer: Any) -> type[Weighted]:
    """How the kernel of a convolution or dense layer meets its input."""
    if class_name(layer) in _FORMS:
        return _FORMS[class_name(layer)]
    return GroupedConv2D if layer.groups > 1 else Conv2D
