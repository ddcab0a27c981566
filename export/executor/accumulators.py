"""Exact integer accumulators of convolutions and dense layers, in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from export.ir import geometry
from export.ir.graph import IntegerGraph
from export.ir.operators import (
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
    Operator,
    TransposeConv2D,
    Weighted,
)

_FLOAT32_EXACT = 1 << 24


def accumulate(graph: IntegerGraph, operator: Weighted, codes: np.ndarray) -> np.ndarray:
    """The integer accumulators of a layer, bias included.

    Args:
      graph: the graph it belongs to.
      operator: the layer.
      codes: int8 ``[batch, ...]`` of its input.

    Returns:
      int64 ``[batch, ..., channels]``.
    """
    zero_point = graph.tensors[operator.inputs[0]].quantization.zero_point
    # Dividing the common factor out (the code multiplier) keeps most layers exact in float32.
    factor = max(1, int(np.gcd.reduce(np.abs(operator.kernel.astype(np.int32)), axis=None)))
    kernel: np.ndarray = operator.kernel.astype(np.int32) // factor
    axes = tuple(axis for axis in range(kernel.ndim) if axis != operator.channel_axis)
    largest = max(127 - zero_point, zero_point + 128)
    exact = int(np.abs(kernel).sum(axis=axes).max()) * largest < _FLOAT32_EXACT
    dtype = np.dtype(np.float32 if exact else np.float64)
    steps: np.ndarray = (codes.astype(np.int16) - zero_point).astype(dtype)
    total = ACCUMULATORS[type(operator)](operator, steps, kernel.astype(dtype))
    result = total.astype(np.int64)
    result *= factor
    result += operator.bias
    return result


def _dense(operator: FullyConnected, steps: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return steps @ kernel.T


def _conv(operator: Conv2D, steps: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    channels, height, width, depth = kernel.shape
    view = geometry.windows(
        steps, (height, width), operator.strides, operator.dilation, operator.padding, 0
    )
    batch, rows, columns = view.shape[:3]
    groups = steps.shape[3] // depth
    total = np.empty((batch, rows, columns, channels), steps.dtype)
    for group in range(groups):
        inputs = view[:, :, :, group * depth : (group + 1) * depth]
        patches = inputs.transpose(0, 1, 2, 4, 5, 3).reshape(-1, height * width * depth)
        outputs = slice(group * channels // groups, (group + 1) * channels // groups)
        weights = kernel[outputs].reshape(channels // groups, -1)
        total[..., outputs] = (patches @ weights.T).reshape(batch, rows, columns, -1)
    return total


def _depthwise(operator: DepthwiseConv2D, steps: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    _, height, width, channels = kernel.shape
    multiplier = channels // steps.shape[3]
    view = geometry.windows(
        steps, (height, width), operator.strides, operator.dilation, operator.padding, 0
    )
    total = np.zeros((*view.shape[:3], channels), steps.dtype)
    for row in range(height):
        for column in range(width):
            tap = view[..., row, column]
            total += (np.repeat(tap, multiplier, axis=3) if multiplier > 1 else tap) * kernel[
                0, row, column
            ]
    return total


def _transposed(operator: TransposeConv2D, steps: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Every tap adds the whole input, a stride apart; SAME padding then cuts the edges."""
    channels, height, width, _ = kernel.shape
    batch, rows, columns, _ = steps.shape
    down, right = operator.strides
    whole = (rows * down + height, columns * right + width)  # At least what the taps reach.
    total = np.zeros((batch, *whole, channels), steps.dtype)
    for row in range(height):
        for column in range(width):
            places = total[
                :, row : row + rows * down : down, column : column + columns * right : right
            ]
            places += steps @ kernel[:, row, column].T
    kept = []
    for size, window, stride in ((rows, height, down), (columns, width, right)):
        length = geometry.transposed_size(size, window, stride, operator.padding)
        first = geometry.pad_amounts(length, window, stride, 1, operator.padding)[0]
        kept.append(slice(first, first + length))
    return total[:, kept[0], kept[1]]


ACCUMULATORS: dict[type[Operator], Callable[..., np.ndarray]] = {
    Conv2D: _conv,
    GroupedConv2D: _conv,
    DepthwiseConv2D: _depthwise,
    TransposeConv2D: _transposed,
    FullyConnected: _dense,
}
"""By operator: the sums of products, from the operator, steps of the input and the kernel."""
