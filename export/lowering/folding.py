"""Folding: what follows a kernel's accumulator becomes its scale and bias."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from export.ir.operators import (
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
    TransposeConv2D,
    Weighted,
)
from export.ir.provenance import TRAINED
from export.kernel_sets import ideal, narrow_weights, rules
from export.realization import channels
from export.realization.context import RequantizationContext
from wrpn_tf import KernelCodes, LayerView, QuantizationParameters

_ATTRIBUTES: dict[str, Callable[[keras.layers.Layer], Any]] = {
    "strides": lambda layer: tuple(layer.strides),
    "padding": lambda layer: layer.padding.upper(),
    "dilation": lambda layer: tuple(layer.dilation_rate),
}
"""How a layer calls the attributes that some operators with a kernel have."""


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


def own_bias(layer: keras.layers.Layer, count: int) -> Affine:
    """The bias of a convolution or dense layer with `count` output channels."""
    plain = identity(count)
    if not layer.use_bias:
        return plain
    return dataclasses.replace(plain, offset=np.asarray(layer.bias, np.float64))


def affine(
    layer: keras.layers.Layer, count: int, before: keras.layers.Layer | None = None
) -> Affine:
    """A BatchNormalization or Rescaling layer with `count` channels, in inference.

    Args:
      layer: the layer.
      count: number of channels.
      before: the convolution or dense layer that it follows, where that has no grid of its own.
    """
    bias = np.zeros(count) if before is None else own_bias(before, count).offset
    if isinstance(layer, keras.layers.Rescaling):  # Keras computes with float32 constants.
        gain, offset = (np.float64(np.float32(value)) for value in (layer.scale, layer.offset))
        return dataclasses.replace(
            identity(count),
            gain=np.broadcast_to(gain, count),
            shift=bias,
            offset=np.broadcast_to(offset, count),
        )
    mean = np.asarray(layer.moving_mean, np.float64)
    variance = np.asarray(layer.moving_variance, np.float64)
    return Affine(
        gain=np.asarray(layer.gamma, np.float64) if layer.scale else np.ones_like(mean),
        shift=bias - mean,
        variance=variance + np.float64(np.float32(layer.epsilon)),
        offset=np.asarray(layer.beta, np.float64) if layer.center else np.zeros_like(mean),
    )


def fit(
    operator: type[Weighted],
    codes: np.ndarray,
    scale: np.ndarray,
    affine: Affine,
    source: QuantizationParameters,
    target: QuantizationParameters,
    output_shape: Sequence[int | None],
    dtype_bits: int = 8,
) -> channels.Channels:
    """`channels.fit` for kernel codes ``[channels, taps]`` of `scale`, followed by `affine`."""
    trained = np.zeros(len(codes), TRAINED)
    trained["scale"] = scale
    for field in dataclasses.fields(affine):
        trained[field.name] = getattr(affine, field.name)
    trained["digest"] = [ideal.digest(channel) for channel in codes]
    context = RequantizationContext(
        operator=operator,
        vector_product=rules.is_vector_product(codes, output_shape),
        source=source,
        target=target,
        dtype_bits=dtype_bits,
        delegated=narrow_weights.is_delegated(operator, dtype_bits, codes.shape[1]),
    )
    return channels.fit(codes, trained, context)


def fit_kernel(
    view: LayerView,
    kernel: KernelCodes,
    affine: Affine,
    source: QuantizationParameters,
    target: QuantizationParameters,
    weights: str,
) -> tuple[type[Weighted], channels.Channels, dict[str, Any]]:
    """A convolution or dense layer as an operator, its kernel stored as `weights` says.

    Returns:
      The operator's class, the fitted channels, and its other fields: the kernel in TFLite's layout
      and what the layer's class has.
    """
    layer, operator = view.layer, _operator(view.layer)
    codes = channels_last(layer, kernel.codes)
    window = codes.shape[:2]  # A dense layer has none, and its operator does not ask.
    taps = math.prod(window if operator is DepthwiseConv2D else codes.shape[:-1])
    scale = channels_last(layer, np.broadcast_to(kernel.scale, kernel.codes.shape))
    scale = scale.reshape(taps, -1)[0]
    if operator is Conv2D and narrow_weights.is_cheaper_as_dense(codes, layer.strides, weights):
        operator = FullyConnected
    dtype_bits = narrow_weights.narrowest(weights, operator, codes)
    rows = np.ascontiguousarray(codes.reshape(taps, -1).T, np.int8)
    fitted = fit(operator, rows, scale, affine, source, target, view.output_shape, dtype_bits)
    fields: dict[str, Any] = {"bits": kernel.bits, "dtype_bits": dtype_bits}
    fields["kernel"] = operator.kernel_of(fitted.kernel, window)
    names = {field.name for field in dataclasses.fields(operator)}
    fields |= {name: read(layer) for name, read in _ATTRIBUTES.items() if name in names}
    return operator, fitted, fields


def channels_last(layer: keras.layers.Layer, kernel: np.ndarray) -> np.ndarray:
    """An array of the shape of a layer's kernel, with the output channels as its last axis.

    A transposed convolution has them before its input channels.
    """
    return kernel.swapaxes(2, 3) if isinstance(layer, keras.layers.Conv2DTranspose) else kernel


def _operator(layer: keras.layers.Layer) -> type[Weighted]:
    """The operator that a convolution or dense layer becomes."""
    if isinstance(layer, keras.layers.Dense):
        return FullyConnected
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return DepthwiseConv2D
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return TransposeConv2D
    return GroupedConv2D if layer.groups > 1 else Conv2D
