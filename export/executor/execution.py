"""Runs an integer graph in NumPy: the oracle that the TFLite file is compared with.

Every code is the one the chosen TFLite kernel computes (`export.kernel_sets.rules`), for any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from export.executor.accumulators import accumulate
from export.ir import geometry
from export.ir.graph import Graph, IntegerGraph
from export.ir.operators import (
    Add,
    Binary,
    Concatenate,
    Conv2D,
    DepthToSpace,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
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
    SpaceToDepth,
    Subtract,
    Sum,
    Transpose,
    TransposeConv2D,
    Weighted,
)
from export.kernel_sets import addition, logistic, multiplication, requantization, rules, softmax
from export.realization.network import integers

# Bytes that the windows of one slice of the batch may take.
_SLICE_BYTES = 64 << 20


def execute(
    graph: Graph, inputs: Mapping[str, np.ndarray], kernel_set: str = "xnnpack"
) -> dict[str, np.ndarray]:
    """Runs the whole graph.

    Args:
      graph: a valid graph; a trained one runs as `export.realize` makes it by default.
      inputs: int8 ``[batch, ...]`` by input name; the batch is free, the rest as in the graph.
      kernel_set: one of `export.kernel_sets.rules.EXECUTABLE`.

    Returns:
      int8 ``[batch, ...]`` of every tensor by name, the inputs among them.

    Raises:
      ValueError: an input is missing, unknown, not int8 or of another shape.
    """
    graph = integers(graph)
    check_inputs(graph, inputs)
    values = {name: np.asarray(inputs[name]) for name in graph.inputs}
    for operator in graph.operators:
        values[operator.output] = run_operator(
            graph, operator, [values[name] for name in operator.inputs], kernel_set
        )
    return values


def check_inputs(graph: IntegerGraph, inputs: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError where `inputs` are not int8 arrays of one batch for the graph's inputs."""
    if set(inputs) != set(graph.inputs):
        raise ValueError(f"inputs are {sorted(inputs)}, the graph takes {sorted(graph.inputs)}")
    for name in graph.inputs:
        array, shape = np.asarray(inputs[name]), graph.tensors[name].shape
        if array.dtype != np.int8 or array.ndim != len(shape) or array.shape[1:] != shape[1:]:
            raise ValueError(
                f"input {name!r} is {array.dtype} {array.shape}, not int8 (batch, "
                f"{', '.join(map(str, shape[1:]))})"
            )
    if len({np.asarray(array).shape[0] for array in inputs.values()}) > 1:
        raise ValueError("the inputs have different batches")


def run_operator(
    graph: IntegerGraph, operator: Operator, inputs: Sequence[np.ndarray], kernel_set: str
) -> np.ndarray:
    """Runs one operator.

    Args:
      graph: the graph it belongs to (for grids and shapes).
      operator: the operator.
      inputs: int8 ``[batch, ...]``, one for each of its inputs.
      kernel_set: one of `export.kernel_sets.rules.EXECUTABLE`.

    Returns:
      int8 ``[batch, ...]``.
    """
    kernel_set = rules.effective_kernel_set(graph, operator, kernel_set)
    function = FUNCTIONS[type(operator)]
    batch = inputs[0].shape[0]
    if type(operator) in WHOLE:
        return function(graph, operator, list(inputs), kernel_set)
    step = max(1, _SLICE_BYTES // max(1, _bytes_per_image(graph, operator)))
    parts = [
        function(graph, operator, [array[start : start + step] for array in inputs], kernel_set)
        for start in range(0, max(batch, 1), step)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _run_weighted(
    graph: IntegerGraph, operator: Weighted, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    return rules.weighted_codes(
        accumulate(graph, operator, inputs[0]),
        operator,
        graph.tensors[operator.inputs[0]].quantization,
        graph.tensors[operator.output].quantization,
        kernel_set,
    )


def _run_sum(
    graph: IntegerGraph, operator: Sum, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    parameters = _parameters(graph, operator)
    return addition.add_codes(operator, inputs[0], inputs[1], parameters, kernel_set)


def _run_maximum(
    graph: IntegerGraph, operator: Maximum, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    return np.maximum(*inputs)


def _run_minimum(
    graph: IntegerGraph, operator: Minimum, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    return np.minimum(*inputs)


def _run_multiply(
    graph: IntegerGraph, operator: Multiply, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    parameters = _parameters(graph, operator)
    return multiplication.multiply_codes(operator, inputs[0], inputs[1], parameters, kernel_set)


def _parameters(graph: IntegerGraph, operator: Binary) -> addition.Parameters:
    left, right = (graph.tensors[name].quantization for name in operator.inputs)
    return left, right, graph.tensors[operator.output].quantization


def _run_pool(
    graph: IntegerGraph, operator: Pool2D, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    """Padded elements are not part of a window: they neither count nor win."""
    arguments = (operator.window, operator.strides, (1, 1), operator.padding)
    if operator.kind == "max":
        return geometry.windows(inputs[0], *arguments, -128).max(axis=(4, 5))
    total = geometry.windows(inputs[0].astype(np.int32), *arguments, 0).sum(axis=(4, 5))
    ones = np.ones((1, *inputs[0].shape[1:3], 1), np.int32)
    return requantization.average_codes(
        total, geometry.windows(ones, *arguments, 0).sum(axis=(4, 5))
    )


def _run_concatenate(
    graph: IntegerGraph, operator: Concatenate, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    return np.concatenate(inputs, axis=operator.axis)


def _run_pad(
    graph: IntegerGraph, operator: Pad, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    value = operator.value(graph.tensors[operator.output].quantization)
    amounts = ((0, 0), *operator.padding, (0, 0))
    return np.pad(inputs[0], amounts, constant_values=value)


def _run_slice(
    graph: IntegerGraph, operator: Slice, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    part = inputs[0]
    axes = zip(
        operator.begin, operator.steps, graph.tensors[operator.output].shape[1:], strict=True
    )
    for axis, (begin, step, size) in enumerate(axes, start=1):
        part = part.take(begin + step * np.arange(size), axis)
    return part


def _run_transpose(
    graph: IntegerGraph, operator: Transpose, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    return np.ascontiguousarray(inputs[0].transpose(operator.axes))


def _run_depth_to_space(
    graph: IntegerGraph, operator: DepthToSpace, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    batch, height, width, _ = inputs[0].shape
    size = operator.block_size
    blocks = inputs[0].reshape(batch, height, width, size, size, -1).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(batch, height * size, width * size, -1)


def _run_space_to_depth(
    graph: IntegerGraph, operator: SpaceToDepth, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    batch, height, width, depth = inputs[0].shape
    size = operator.block_size
    blocks = inputs[0].reshape(batch, height // size, size, width // size, size, depth)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // size, width // size, -1)


def _run_resize(
    graph: IntegerGraph, operator: ResizeNearest, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    down, right = operator.factors(inputs[0].shape, graph.tensors[operator.output].shape)
    return inputs[0].repeat(down, axis=1).repeat(right, axis=2)


def _run_bilinear(
    graph: IntegerGraph, operator: ResizeBilinear, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    factors = operator.factors(inputs[0].shape, graph.tensors[operator.output].shape)
    total, divisor = geometry.bilinear(inputs[0], factors)
    return requantization.bilinear_codes(total, divisor, rules.family(kernel_set))


def _run_reshape(
    graph: IntegerGraph, operator: Reshape, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    return inputs[0].reshape(inputs[0].shape[0], *graph.tensors[operator.output].shape[1:])


def _run_softmax(
    graph: IntegerGraph, operator: Softmax, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    optimized = {"optimized": softmax.optimized, "optimized_arm": softmax.optimized_arm}
    function = optimized.get(kernel_set, softmax.reference)
    return function(inputs[0], graph.tensors[operator.inputs[0]].quantization.scale)


def _run_logistic(
    graph: IntegerGraph, operator: Logistic, inputs: list[np.ndarray], kernel_set: str
) -> np.ndarray:
    source = graph.tensors[operator.inputs[0]].quantization
    return logistic.table(source, kernel_set)[inputs[0].astype(np.int16) + 128]


def _bytes_per_image(graph: IntegerGraph, operator: Operator) -> int:
    """Roughly what an operator's working arrays take for one image."""
    elements = int(np.prod(graph.tensors[operator.output].shape))
    return elements * _BYTES.get(type(operator), lambda _: 24)(operator)


def _bytes_of_windows(operator: Conv2D) -> int:
    return 8 * (operator.kernel[0].size // operator.kernel.shape[0] + 3)


FUNCTIONS: dict[type[Operator], Callable[..., np.ndarray]] = {
    Conv2D: _run_weighted,
    GroupedConv2D: _run_weighted,
    DepthwiseConv2D: _run_weighted,
    TransposeConv2D: _run_weighted,
    FullyConnected: _run_weighted,
    Add: _run_sum,
    Subtract: _run_sum,
    Maximum: _run_maximum,
    Minimum: _run_minimum,
    Multiply: _run_multiply,
    Pool2D: _run_pool,
    Concatenate: _run_concatenate,
    Pad: _run_pad,
    Slice: _run_slice,
    Transpose: _run_transpose,
    DepthToSpace: _run_depth_to_space,
    SpaceToDepth: _run_space_to_depth,
    ResizeNearest: _run_resize,
    ResizeBilinear: _run_bilinear,
    Reshape: _run_reshape,
    Logistic: _run_logistic,
    Softmax: _run_softmax,
}
"""By operator: its output codes, from graph, operator, codes of its inputs and kernel set."""

WHOLE: frozenset[type[Operator]] = frozenset({Add, Subtract, Multiply})
"""Operators whose kernels round by position in the whole tensor, and which slice it themselves."""

_BYTES: dict[type[Operator], Callable[..., int]] = {
    Conv2D: _bytes_of_windows,
    GroupedConv2D: _bytes_of_windows,
}
