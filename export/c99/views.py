"""Tensors whose elements are copied in another order: sizes and steps for the C function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from export.ir.operators import (
    DepthToSpace,
    Operator,
    ResizeNearest,
    Shape,
    Slice,
    SpaceToDepth,
    Transpose,
)

AXES = 6
"""How many axes a view has: WRPN_AXES of the C functions."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """Where the elements are: `first`, and one step for each index on each of `AXES` axes."""

    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    first: int = 0


def of(operator: Operator, source: Shape, output: Shape) -> View:
    """The view of an operator's input that is its output; shapes are with the batch."""
    return _VIEWS[type(operator)](operator, source[1:], output[1:])


def repeated(shape: Shape, onto: Shape) -> View:
    """A tensor that is repeated along the axes on which it has size 1."""
    steps = [
        step if size > 1 else 0 for step, size in zip(_steps(shape[1:]), shape[1:], strict=True)
    ]
    return _view(onto[1:], steps)


def _steps(shape: Shape) -> list[int]:
    """From an index to the next, on each axis of a tensor in C order."""
    return [int(np.prod(shape[axis + 1 :], dtype=int)) for axis in range(len(shape))]


def _view(sizes: Shape, steps: Any, first: int = 0) -> View:
    missing = AXES - len(sizes)
    return View(sizes=(*(1,) * missing, *sizes), steps=(*(0,) * missing, *steps), first=first)


def _slice(operator: Slice, source: Shape, output: Shape) -> View:
    steps = _steps(source)
    first = sum(begin * step for begin, step in zip(operator.begin, steps, strict=True))
    strides = [stride * step for stride, step in zip(operator.steps, steps, strict=True)]
    return _view(output, strides, first)


def _transpose(operator: Transpose, source: Shape, output: Shape) -> View:
    steps = _steps(source)
    return _view(output, [steps[axis - 1] for axis in operator.axes[1:]])


def _depth_to_space(operator: DepthToSpace, source: Shape, output: Shape) -> View:
    (height, width, depth), size, channels = source, operator.block_size, output[2]
    steps = (width * depth, size * channels, depth, channels, 1)
    return _view((height, size, width, size, channels), steps)


def _space_to_depth(operator: SpaceToDepth, source: Shape, output: Shape) -> View:
    (_, width, depth), size, (rows, columns, _) = source, operator.block_size, output
    row = width * depth
    return _view((rows, columns, size, size, depth), (size * row, size * depth, row, depth, 1))


def _nearest(operator: ResizeNearest, source: Shape, output: Shape) -> View:
    (height, width, depth), (rows, columns, _) = source, output
    sizes = (height, rows // height, width, columns // width, depth)
    return _view(sizes, (width * depth, 0, depth, 0, 1))


_VIEWS: dict[type[Operator], Callable[..., View]] = {
    Slice: _slice,
    Transpose: _transpose,
    DepthToSpace: _depth_to_space,
    SpaceToDepth: _space_to_depth,
    ResizeNearest: _nearest,
}
