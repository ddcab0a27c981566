"""Folding: what follows a kernel's accumulator becomes its scale and bias."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tf_keras as keras

from export import channels
from export.graph import Conv2D, DepthwiseConv2D, FullyConnected, GroupedConv2D, Weighted
from wrpn_tf import KernelCodes, LayerView, OutputGrid


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """``gain * real + offset`` for each channel, float64."""

    gain: np.ndarray
    offset: np.ndarray

    def then(self, after: Affine) -> Affine:
        """This, followed by `after`."""
        return Affine(gain=after.gain * self.gain, offset=after.gain * self.offset + after.offset)


def identity(count: int) -> Affine:
    """No change, for `count` channels."""
    return Affine(gain=np.ones(count), offset=np.zeros(count))


def own_bias(layer: keras.layers.Layer, count: int) -> Affine:
    """The bias of a convolution or dense layer with `count` output channels."""
    if not layer.use_bias:
        return identity(count)
    return Affine(gain=np.ones(count), offset=np.asarray(layer.bias, np.float64))


def affine(layer: keras.layers.Layer, count: int) -> Affine:
    """A BatchNormalization or Rescaling layer with `count` channels, in inference."""
    if isinstance(layer, keras.layers.Rescaling):
        gain, offset = (np.asarray(value, np.float64) for value in (layer.scale, layer.offset))
        return Affine(gain=np.broadcast_to(gain, count), offset=np.broadcast_to(offset, count))
    return batch_normalization(layer)


def batch_normalization(layer: keras.layers.BatchNormalization) -> Affine:
    """Batch normalization in inference."""
    mean = np.asarray(layer.moving_mean, np.float64)
    variance = np.asarray(layer.moving_variance, np.float64)
    gamma = np.asarray(layer.gamma, np.float64) if layer.scale else np.ones_like(mean)
    beta = np.asarray(layer.beta, np.float64) if layer.center else np.zeros_like(mean)
    with np.errstate(divide="ignore", invalid="ignore"):  # The fit rejects what is not finite.
        gain = gamma / np.sqrt(variance + layer.epsilon)
        return Affine(gain=gain, offset=beta - mean * gain)


def fit(
    codes: np.ndarray, scale: np.ndarray, affine: Affine, source: OutputGrid, target: OutputGrid
) -> channels.Channels:
    """`channels.fit` for kernel codes ``[channels, taps]`` of `scale`, followed by `affine`."""
    return channels.fit(
        codes,
        affine.gain * scale.astype(np.float64) * source.scale,
        affine.offset,
        input_scale=source.scale,
        input_low=source.low,
        input_high=source.high,
        output_scale=target.scale,
        output_low=target.low,
        output_high=target.high,
    )


def fit_kernel(
    view: LayerView, kernel: KernelCodes, affine: Affine, source: OutputGrid, target: OutputGrid
) -> tuple[type[Weighted], channels.Channels, dict[str, Any]]:
    """A convolution or dense layer as an operator.

    Returns:
      The operator's class, the fitted channels, and its other fields: the kernel in TFLite's layout
      and what the layer's class has.
    """
    layer, shape = view.layer, kernel.codes.shape
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    taps = int(np.prod(shape[:2])) if depthwise else int(np.prod(shape[:-1]))
    scale = np.broadcast_to(kernel.scale, shape).reshape(taps, -1)[0]
    fitted = fit(kernel.codes.reshape(taps, -1).T, scale, affine, source, target)
    if isinstance(layer, keras.layers.Dense):
        return FullyConnected, fitted, {"kernel": fitted.kernel, "bits": kernel.bits}
    fields = {
        "bits": kernel.bits,
        "strides": tuple(layer.strides),
        "dilation": tuple(layer.dilation_rate),
        "padding": layer.padding.upper(),
    }
    if depthwise:
        integers = np.ascontiguousarray(fitted.kernel.T).reshape(1, *shape[:2], -1)
        return DepthwiseConv2D, fitted, fields | {"kernel": integers}
    operator = GroupedConv2D if layer.groups > 1 else Conv2D
    return operator, fitted, fields | {"kernel": fitted.kernel.reshape(-1, *shape[:3])}
