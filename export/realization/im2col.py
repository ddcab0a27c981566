"""Convolutions as dense layers over their windows (im2col), which XNNPACK takes in INT4.

A padded image ``[height, width, channels]`` is also one of blocks of ``down`` by ``across`` pixels,
the strides, without a code being moved: ``[height / down, down * (width / across), across *
channels]``. In it the codes that one tap reads, whatever strides and dilation, are a slice with
stride 1. All slices side by side are the windows, in the order of a convolution's kernel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from export.ir import geometry
from export.ir.operators import Concatenate, Operator, Pad, Reshape, Slice
from export.ir.tensors import Tensor
from export.ir.trained import TrainedKernel


def copies_windows(kernel: TrainedKernel) -> bool:
    """Whether the windows of a convolution are anything but its input as it is."""
    return not kernel.window == kernel.strides == (1, 1)


def windows(
    kernel: TrainedKernel, source: Tensor, output: Tensor
) -> tuple[list[Operator], dict[str, Tensor]]:
    """The operators that write the windows of a convolution, and the tensors that they write.

    Args:
      kernel: the convolution.
      source: its input, ``[1, height, width, channels]``.
      output: its output.

    Returns:
      PAD, RESHAPE, STRIDED_SLICE and CONCATENATION, each where it does something, and their tensors
      by name. The last one is ``[1, height, width, taps]``, height and width those of the output.
    """
    size = (output.shape[1], output.shape[2])
    amounts = [_padding(kernel, source.shape, size, axis) for axis in (0, 1)]
    operators: list[Operator] = []
    tensors: dict[str, Tensor] = {}

    def write(
        operator: type[Operator],
        part: str,
        inputs: tuple[str, ...],
        shape: tuple[int, ...],
        **fields: Any,
    ) -> str:
        name = f"{kernel.output}/{part}"
        tensors[name] = dataclasses.replace(source, shape=(1, *shape))
        operators.append(operator(inputs=inputs, output=name, **fields))
        return name

    (last,), (_, height, width, depth) = kernel.inputs, source.shape
    (top, bottom), (left, right) = amounts
    height, width = top + height + bottom, left + width + right
    if any(map(any, amounts)):
        last = write(Pad, "padded", (last,), (height, width, depth), padding=tuple(amounts))
    taps = kernel.window[0] * kernel.window[1] * depth
    if (height, width) == kernel.window:
        write(Reshape, "windows", (last,), (1, 1, taps))
        return operators, tensors
    down, across = kernel.strides
    if (down, across) != (1, 1):
        shape = (height // down, down * (width // across), across * depth)
        last = write(Reshape, "blocks", (last,), shape)
    parts: list[str] = []
    for row in range(kernel.window[0]):
        block, line = divmod(row * kernel.dilation[0], down)
        for first, count in _runs(kernel):
            column, place = divmod(first, across)
            begin = (block, line * (width // across) + column, place * depth)
            shape = (*size, count * depth)
            name = f"tap{len(parts)}"
            parts.append(write(Slice, name, (last,), shape, begin=begin))
    if len(parts) > 1:
        write(Concatenate, "windows", tuple(parts), (*size, taps), axis=3)
    return operators, tensors


def _padding(
    kernel: TrainedKernel, shape: tuple[int, ...], size: tuple[int, int], axis: int
) -> tuple[int, int]:
    """What is added before and after along an axis, so that it ends with a whole block."""
    length, stride = shape[axis + 1], kernel.strides[axis]
    before, after = geometry.pad_amounts(
        length, kernel.window[axis], stride, kernel.dilation[axis], kernel.padding
    )
    return before, after + -(before + length + after) % stride


def _runs(kernel: TrainedKernel) -> Iterator[tuple[int, int]]:
    """Neighbouring taps of a row that lie in one block: the first one's column, and how many."""
    stride, dilation = kernel.strides[1], kernel.dilation[1]
    if dilation > 1:
        yield from ((column * dilation, 1) for column in range(kernel.window[1]))
        return
    for first in range(0, kernel.window[1], stride):
        yield first, min(stride, kernel.window[1] - first)
