"""The shape that each operator of the integer graph gives."""

from __future__ import annotations

from export.ir import geometry
from export.ir.graph import (
    Add,
    Concatenate,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
    Maximum,
    Minimum,
    Multiply,
    Operator,
    Pad,
    Pool2D,
    Subtract,
    TransposeConv2D,
)


def output_shape(operator: Operator, inputs: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape an operator gives for `inputs`.

    Reshape, Slice and resizing give the shape that the graph has for their output; for them
    this is the input's.

    Raises:
      ValueError: the operator cannot take these shapes.
    """
    first = inputs[0]
    if isinstance(operator, (Conv2D, DepthwiseConv2D)):
        height, width = operator.kernel.shape[1:3]
        depth = operator.kernel.shape[3]
        if isinstance(operator, Conv2D):
            groups, rest = divmod(first[3], depth)
            depth = operator.kernel.shape[0]
            grouped = isinstance(operator, GroupedConv2D)
            if rest or not groups or depth % groups or (groups > 1) != grouped:
                raise ValueError(f"kernel {operator.kernel.shape} does not fit {first[3]} channels")
        elif operator.kernel.shape[0] != 1 or depth % first[3]:
            raise ValueError(f"kernel {operator.kernel.shape} does not fit {first[3]} channels")
        size = _size(
            first,
            (height, width),
            operator.strides,
            operator.dilation,
            operator.padding,
        )
        return (first[0], *size, depth)
    if isinstance(operator, TransposeConv2D):
        depth, *window, channels = operator.kernel.shape
        if channels != first[3]:
            raise ValueError(f"kernel {operator.kernel.shape} does not fit {first[3]} channels")
        if min(operator.strides) < 1:
            raise ValueError("strides must be at least 1")
        axes = zip(first[1:3], window, operator.strides, strict=True)
        sizes = [geometry.transposed_size(*axis, operator.padding) for axis in axes]
        return (first[0], *sizes, depth)
    if isinstance(operator, FullyConnected):
        if operator.kernel.shape[1] != first[-1]:
            raise ValueError(f"kernel {operator.kernel.shape} does not fit the input {first}")
        return (*first[:-1], operator.kernel.shape[0])
    if isinstance(operator, Pool2D):
        if operator.kind not in ("max", "average"):
            raise ValueError(f"kind must be 'max' or 'average', not {operator.kind!r}")
        size = _size(first, operator.window, operator.strides, (1, 1), operator.padding)
        return (first[0], *size, first[3])
    if isinstance(operator, Concatenate):
        axis = operator.axis
        if not 1 <= axis < len(first):
            raise ValueError(f"axis {axis} is outside [1, {len(first) - 1}]")
        rests = {shape[:axis] + shape[axis + 1 :] for shape in inputs}
        if len(rests) > 1 or len({len(shape) for shape in inputs}) > 1:
            raise ValueError(f"shapes {inputs} do not concatenate along axis {axis}")
        return (*first[:axis], sum(shape[axis] for shape in inputs), *first[axis + 1 :])
    if isinstance(operator, Pad):
        if min(min(pair) for pair in operator.padding) < 0:
            raise ValueError(f"padding {operator.padding} is negative")
        (top, bottom), (left, right) = operator.padding
        return (first[0], first[1] + top + bottom, first[2] + left + right, first[3])
    if isinstance(operator, Multiply) and inputs[1] == (1, 1, 1, first[-1]) and len(first) == 4:
        return first
    if isinstance(operator, (Add, Maximum, Minimum, Multiply, Subtract)) and inputs[1] != first:
        raise ValueError(f"shapes {first} and {inputs[1]} differ")
    return first


def _size(
    shape: tuple[int, ...],
    window: tuple[int, int],
    strides: tuple[int, int],
    dilation: tuple[int, int],
    padding: str,
) -> tuple[int, int]:
    if min(*window, *strides, *dilation) < 1:
        raise ValueError("windows, strides and dilations must be at least 1")
    height, width = (
        geometry.output_size(shape[axis + 1], window[axis], strides[axis], dilation[axis], padding)
        for axis in (0, 1)
    )
    if min(height, width) < 1:
        raise ValueError(f"the window {window} does not fit the input {shape}")
    return height, width
