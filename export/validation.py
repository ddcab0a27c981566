"""Checks that an integer graph means something: shapes, grids, dtypes, order, accumulators.

Newer TFLite loaders accept wrong buffer sizes and read past them, so this is where they are found.
"""

from __future__ import annotations

import math

import numpy as np

from export import geometry
from export.graph import (
    TRAINED,
    Add,
    Concatenate,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Grid,
    IntegerGraph,
    Operator,
    Pad,
    Pool2D,
    Reshape,
    Softmax,
    Tensor,
    Weighted,
)

INT32_MAX = 2**31 - 1
INT16_MAX = 2**15 - 1
MULTIPLIER_LIMIT = 256
SOFTMAX_GRID = Grid(scale=1 / 256, zero_point=-128)
# Operators whose output codes are copies or averages of input codes: one grid for all.
_ONE_GRID = (Pool2D, Concatenate, Pad, Reshape)


def validate(graph: IntegerGraph) -> None:
    """Raises ValueError for the first thing that is wrong.

    Raises:
      ValueError: a tensor or an operator (named by its output tensor) is not sound.
    """
    if not graph.inputs or not graph.outputs:
        raise ValueError("the graph needs at least one input and one output")
    for name, tensor in graph.tensors.items():
        _check_tensor(name, tensor)
    for name in (*graph.inputs, *graph.outputs):
        if name not in graph.tensors:
            raise ValueError(f"tensor {name!r} is an input or output but not in the graph")
    if len(set(graph.inputs)) < len(graph.inputs) or len(set(graph.outputs)) < len(graph.outputs):
        raise ValueError("an input or output is listed twice")
    defined = set(graph.inputs)
    for operator in graph.operators:
        where = f"operator of {operator.output!r}"
        for name in operator.inputs:
            if name not in graph.tensors:
                raise ValueError(f"{where}: input {name!r} is not in the graph")
            if name not in defined:
                raise ValueError(f"{where}: input {name!r} is read before it is written")
        if operator.output not in graph.tensors:
            raise ValueError(f"{where}: its output is not in the graph")
        if operator.output in defined:
            raise ValueError(f"{where}: its output is written twice")
        defined.add(operator.output)
        problem = _problem(operator, graph)
        if problem:
            raise ValueError(f"{where}: {problem}")
    for name in graph.tensors:
        if name not in defined:
            raise ValueError(f"tensor {name!r} is never written")


def _check_tensor(name: str, tensor: Tensor) -> None:
    scale, zero_point = tensor.grid.scale, tensor.grid.zero_point
    if not name:
        raise ValueError("a tensor has an empty name")
    if len(tensor.shape) < 2 or tensor.shape[0] != 1 or min(tensor.shape) < 1:
        raise ValueError(f"tensor {name!r}: shape {tensor.shape} is not (1, ...) and positive")
    if not (math.isfinite(scale) and scale > 0 and float(np.float32(scale)) == scale):
        raise ValueError(f"tensor {name!r}: scale {scale} is not a positive float32 number")
    if zero_point != int(zero_point) or not -128 <= zero_point <= 127:
        raise ValueError(f"tensor {name!r}: zero point {zero_point} is outside [-128, 127]")
    if not 1 <= tensor.bits <= 8:
        raise ValueError(f"tensor {name!r}: {tensor.bits} bits are outside [1, 8]")


def _problem(operator: Operator, graph: IntegerGraph) -> str:
    """What is wrong with `operator`; empty where nothing is."""
    inputs = [graph.tensors[name] for name in operator.inputs]
    output = graph.tensors[operator.output]
    count = 2 if isinstance(operator, Add) else 1
    if not inputs or (len(inputs) != count and not isinstance(operator, Concatenate)):
        return f"{type(operator).__name__} has {len(inputs)} inputs, not {count}"
    if isinstance(operator, _ONE_GRID):
        for name, tensor in zip(operator.inputs, inputs, strict=True):
            if tensor.grid != output.grid:
                return f"input {name!r} is on {tensor.grid}, the output on {output.grid}"
    if isinstance(operator, Softmax) and output.grid != SOFTMAX_GRID:
        return f"the output is on {output.grid}, not on {SOFTMAX_GRID}"
    problem = ""
    if isinstance(operator, Weighted):
        problem = _weighted_problem(operator) or _multiplier_problem(operator, inputs[0], output)
    elif isinstance(operator, Add):
        problem = _add_problem(inputs, output)
    if problem:
        return problem
    needs_image = isinstance(operator, (Conv2D, DepthwiseConv2D, Pool2D, Pad))
    if needs_image and len(inputs[0].shape) != 4:
        return f"input {operator.inputs[0]!r} has shape {inputs[0].shape}, not 4 dimensions"
    try:
        shape = output_shape(operator, [tensor.shape for tensor in inputs])
    except ValueError as error:
        return str(error)
    if isinstance(operator, Reshape):
        if math.prod(output.shape) != math.prod(inputs[0].shape):
            return f"{inputs[0].shape} does not reshape to {output.shape}"
    elif shape != output.shape:
        return f"the output has shape {output.shape}, the operator gives {shape}"
    return ""


def _weighted_problem(operator: Weighted) -> str:
    channel_axis = 3 if isinstance(operator, DepthwiseConv2D) else 0
    rank = 2 if isinstance(operator, FullyConnected) else 4
    kernel, scale, bias = operator.kernel, operator.kernel_scale, operator.bias
    if kernel.dtype != np.int8 or kernel.ndim != rank or kernel.size == 0:
        return f"the kernel is {kernel.dtype} {kernel.shape}, not int8 with {rank} dimensions"
    channels = (kernel.shape[channel_axis],)
    if scale.dtype != np.float32 or scale.shape != channels:
        return f"kernel_scale is {scale.dtype} {scale.shape}, not float32 {channels}"
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        return "kernel_scale is not positive and finite"
    if bias.dtype != np.int32 or bias.shape != channels:
        return f"the bias is {bias.dtype} {bias.shape}, not int32 {channels}"
    if kernel.min() < -127:
        return "the kernel holds -128; codes lie in [-127, 127]"
    trained = operator.trained
    if trained is not None and (trained.dtype != TRAINED or trained.shape != channels):
        return f"what was trained is {trained.dtype} {trained.shape}, not {TRAINED} {channels}"
    if operator.stretch < 1:
        return f"stretch {operator.stretch} is below 1"
    axes = tuple(axis for axis in range(rank) if axis != channel_axis)
    magnitude = np.abs(kernel.astype(np.int64)).sum(axis=axes) * 255 + np.abs(bias.astype(np.int64))
    if magnitude.max() > INT32_MAX:
        worst = int(magnitude.argmax())
        return f"the accumulator of channel {worst} reaches {magnitude[worst]}, beyond int32"
    return ""


def _multiplier_problem(operator: Weighted, source: Tensor, output: Tensor) -> str:
    scale = np.float32(source.grid.scale) * operator.kernel_scale / np.float32(output.grid.scale)
    if not scale.max() < MULTIPLIER_LIMIT:
        channel = int(scale.argmax())
        return (
            f"one accumulator step of channel {channel} is {scale[channel]:g} output steps; "
            f"XNNPACK refuses models with {MULTIPLIER_LIMIT} or more"
        )
    return ""


def _add_problem(inputs: list[Tensor], output: Tensor) -> str:
    reach = (
        abs(output.grid.zero_point)
        + sum(
            max(127 - tensor.grid.zero_point, 128 + tensor.grid.zero_point) * tensor.grid.scale
            for tensor in inputs
        )
        / output.grid.scale
    )
    if reach > INT16_MAX:
        return f"the sum reaches {reach:.0f} output steps; the built-in kernels keep 16 bits"
    return ""


def output_shape(operator: Operator, inputs: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape an operator gives for `inputs` (Reshape: its input's own shape).

    Raises:
      ValueError: the operator cannot take these shapes.
    """
    first = inputs[0]
    if isinstance(operator, (Conv2D, DepthwiseConv2D)):
        height, width = operator.kernel.shape[1:3]
        depth = operator.kernel.shape[3]
        if isinstance(operator, Conv2D):
            if depth != first[3]:
                raise ValueError(f"the kernel takes {depth} channels, the input has {first[3]}")
            depth = operator.kernel.shape[0]
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
    if isinstance(operator, FullyConnected):
        if len(first) != 2 or operator.kernel.shape[1] != first[1]:
            raise ValueError(f"kernel {operator.kernel.shape} does not fit the input {first}")
        return (first[0], operator.kernel.shape[0])
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
    if isinstance(operator, Add) and inputs[1] != first:
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
