"""Checks that an integer graph means something: shapes, grids, dtypes, order, accumulators.

Newer TFLite loaders accept wrong buffer sizes and read past them, so this is where they are found.
"""

from __future__ import annotations

import math

import numpy as np

from export.ir import shapes, weight_dtypes
from export.ir.graph import (
    Add,
    Concatenate,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Grid,
    IntegerGraph,
    Logistic,
    Maximum,
    Minimum,
    Multiply,
    Operator,
    Pad,
    Pool2D,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    Slice,
    Softmax,
    Subtract,
    Tensor,
    TransposeConv2D,
    Weighted,
)
from export.ir.provenance import TRAINED

INT32_MAX = 2**31 - 1
INT16_MAX = 2**15 - 1
MULTIPLIER_LIMIT = 256
PROBABILITY_GRID = Grid(scale=1 / 256, zero_point=-128)
"""The grid of what LOGISTIC and SOFTMAX give, the only one that their kernels take."""
# Operators whose output codes are copies or averages of input codes: one grid for all.
_ONE_GRID = (
    Pool2D,
    Concatenate,
    Maximum,
    Minimum,
    Pad,
    Slice,
    ResizeBilinear,
    ResizeNearest,
    Reshape,
)
_BINARY = (Add, Maximum, Minimum, Multiply, Subtract)
# Others do not fit the fixed-point positions of the built-in kernels.
_BILINEAR_FACTORS = frozenset(2**power for power in range(7))
_IMAGES = (Conv2D, DepthwiseConv2D, TransposeConv2D, Pool2D, Pad, ResizeBilinear, ResizeNearest)


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
    count = 2 if isinstance(operator, _BINARY) else 1
    if not inputs or (len(inputs) != count and not isinstance(operator, Concatenate)):
        return f"{type(operator).__name__} has {len(inputs)} inputs, not {count}"
    if isinstance(operator, _ONE_GRID):
        for name, tensor in zip(operator.inputs, inputs, strict=True):
            if tensor.grid != output.grid:
                return f"input {name!r} is on {tensor.grid}, the output on {output.grid}"
    if isinstance(operator, (Logistic, Softmax)) and output.grid != PROBABILITY_GRID:
        return f"the output is on {output.grid}, not on {PROBABILITY_GRID}"
    problem = ""
    if isinstance(operator, Weighted):
        problem = _weighted_problem(operator) or _multiplier_problem(operator, inputs[0], output)
    elif isinstance(operator, (Add, Subtract)):
        problem = _add_problem(inputs, output)
    elif isinstance(operator, Multiply):
        problem = _product_problem(inputs, output)
    if problem:
        return problem
    if isinstance(operator, _IMAGES) and len(inputs[0].shape) != 4:
        return f"input {operator.inputs[0]!r} has shape {inputs[0].shape}, not 4 dimensions"
    try:
        shape = shapes.output_shape(operator, [tensor.shape for tensor in inputs])
    except ValueError as error:
        return str(error)
    if isinstance(operator, Reshape):
        if math.prod(output.shape) != math.prod(inputs[0].shape):
            return f"{inputs[0].shape} does not reshape to {output.shape}"
    elif isinstance(operator, Slice):
        return _slice_problem(operator, shape, output.shape)
    elif isinstance(operator, (ResizeBilinear, ResizeNearest)):
        return _resize_problem(operator, shape, output.shape)
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
    if operator.dtype_bits not in weight_dtypes.LARGEST:
        return f"storage of {operator.dtype_bits} bits; 8, 4 and 2 exist"
    if np.abs(kernel).max() > weight_dtypes.LARGEST[operator.dtype_bits]:
        return f"the kernel does not fit its storage of {operator.dtype_bits} bits"
    trained = operator.trained
    if trained is not None and (trained.dtype != TRAINED or trained.shape != channels):
        return f"what was trained is {trained.dtype} {trained.shape}, not {TRAINED} {channels}"
    if operator.code_multiplier < 1:
        return f"stretch {operator.code_multiplier} is below 1"
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


def _product_problem(inputs: list[Tensor], output: Tensor) -> str:
    scale = float(np.prod([np.float32(tensor.grid.scale) for tensor in inputs]))
    if not scale / output.grid.scale < 1:
        return (
            f"one step of the product is {scale / output.grid.scale:g} output steps; the built-in "
            "kernels take less than 1"
        )
    return ""


def _slice_problem(operator: Slice, shape: tuple[int, ...], output: tuple[int, ...]) -> str:
    if len(shape) != len(output) or len(operator.begin) != len(shape) - 1:
        return f"{shape} from {operator.begin} does not give {output}"
    ends = [begin + size for begin, size in zip(operator.begin, output[1:], strict=True)]
    if min(operator.begin) < 0 or any(e > s for e, s in zip(ends, shape[1:], strict=True)):
        return f"{output} from {operator.begin} reaches outside {shape}"
    return ""


def _resize_problem(operator: Operator, shape: tuple[int, ...], output: tuple[int, ...]) -> str:
    multiples = len(output) == 4 and output[1] % shape[1] == output[2] % shape[2] == 0
    if not multiples or (shape[0], shape[3]) != (output[0], output[3]):
        return f"{shape} is not enlarged to {output} by whole factors"
    factors = {output[1] // shape[1], output[2] // shape[2]}
    if isinstance(operator, ResizeBilinear) and not factors <= _BILINEAR_FACTORS:
        return f"{shape} is enlarged to {output}; only powers of 2 up to 64 are exact"
    return ""
