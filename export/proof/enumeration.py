"""Proofs case by case: of operators with few enough inputs to try them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from export.ir import geometry
from export.ir.graph import IntegerGraph
from export.ir.operators import (
    Add,
    Binary,
    Multiply,
    Operator,
    Pool2D,
    ResizeBilinear,
    Subtract,
    Sum,
)
from export.kernel_sets import addition, multiplication, requantization, rules
from export.kernel_sets.rules import TARGETS
from export.proof.result import OperatorProof
from export.proof.training import Trained
from wrpn_tf import QuantizationParameters

_MOST_SUMS = 1 << 30
_BLOCK = 1 << 20  # Sums that are looked at together.


def prove_pairs(
    graph: IntegerGraph,
    operator: Binary,
    trained: Trained,
    common: OperatorProof,
) -> OperatorProof:
    """A sum, difference or product of every pair of codes, in integers: scales are dyadic.

    Args:
      graph: the graph.
      operator: the operator.
      trained: quantization parameters of each tensor as trained.
      common: what is known of the operator before.
    """
    one, other = (graph.tensors[name].quantization for name in operator.inputs)
    left, right = every_pair(one, other)
    known = [trained[name] for name in (*operator.inputs, operator.output)]
    output = known[2]
    units = [each.scale.as_integer_ratio() for each in known]
    common_unit = max(denominator for _, denominator in units)  # Powers of 2.
    scales = [top * (common_unit // bottom) for top, bottom in units]
    steps = [
        codes.astype(object) - each.zero_point
        for codes, each in zip((left, right), known[:2], strict=True)
    ]
    rule, exact = PAIRS[type(operator)]
    total, step = exact(operator, steps, scales, common_unit)
    # Clipped while they are Python's integers: sums of far larger steps do not fit int64.
    wanted = np.clip((2 * total + step) // (2 * step), output.low, output.high).astype(np.int64)
    wanted += output.zero_point

    triple = (one, other, graph.tensors[operator.output].quantization)
    shapes = [graph.tensors[name].shape for name in operator.inputs]
    runs = multiplication.run_length(*shapes)
    has_vectors = shapes[0] == shapes[1] or runs >= addition.VECTOR
    different, worst = {}, {}
    for name in TARGETS:
        # XNNPACK runs by default on either machine.
        machines = ("xnnpack", "xnnpack_arm") if name == "xnnpack" else (name,)
        kernels = [rules.effective_kernel_set(graph, operator, each) for each in machines]
        sets = dict.fromkeys(each.removesuffix("_2_14") for each in kernels)
        if any(rules.family(each) == "optimized" for each in kernels):
            # The last elements of a tensor are computed as in the reference.
            sets = dict.fromkeys(("optimized", "reference") if has_vectors else ("reference",))
        whole = left.size + -left.size % addition.VECTOR
        gap = np.zeros(left.size, np.int64)
        for each in sets:
            found = rule(operator, np.resize(left, whole), np.resize(right, whole), triple, each)
            gap = np.maximum(gap, np.abs(found[: left.size] - wanted))
        different[name], worst[name] = int(np.count_nonzero(gap)), int(gap.max())
    return dataclasses.replace(common, cases=left.size, different=different, worst=worst)


def _exact_sum(
    operator: Sum, steps: Sequence[np.ndarray], scales: Sequence[int], unit: int
) -> tuple[np.ndarray, int]:
    """The sums, and one step of the output, in units that both have; so below."""
    return steps[0] * scales[0] + operator.sign * (steps[1] * scales[1]), scales[2]


def _exact_product(
    operator: Multiply, steps: Sequence[np.ndarray], scales: Sequence[int], unit: int
) -> tuple[np.ndarray, int]:
    return steps[0] * steps[1] * (scales[0] * scales[1]), scales[2] * unit


PAIRS: dict[type[Operator], tuple[Callable[..., np.ndarray], Callable]] = {
    Add: (addition.add_codes, _exact_sum),
    Subtract: (addition.add_codes, _exact_sum),
    Multiply: (multiplication.multiply_codes, _exact_product),
}
"""By operator: what the kernels compute, and what is exact."""


def every_pair(
    one: QuantizationParameters, other: QuantizationParameters
) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of a code of one tensor and a code of another: int8 ``[pairs]`` each."""
    codes = [np.arange(each.low, each.high + 1) + each.zero_point for each in (one, other)]
    left, right = (grid.ravel().astype(np.int8) for grid in np.meshgrid(*codes, indexing="ij"))
    return left, right


def prove_average(
    graph: IntegerGraph, operator: Pool2D, trained: Trained, common: OperatorProof
) -> OperatorProof:
    """An average for every sum that a window can hold: half away from int8 zero, as in training.

    Args:
      graph: the graph.
      operator: the operator.
      trained: quantization parameters of each tensor as trained.
      common: what is known of the operator before.
    """
    image = graph.tensors[operator.inputs[0]]
    source = image.quantization
    problems = list(common.problems)
    if not source.same_scale(graph.tensors[operator.output].quantization):
        problems.append("Input and output are on different grids.")
    axes = zip(image.shape[1:3], operator.window, operator.strides, strict=True)
    rows, columns = (geometry.window_counts(*axis, operator.padding) for axis in axes)
    codes = source.high - source.low + 1
    if int(rows.sum()) * int(columns.sum()) * codes > _MOST_SUMS:
        raise ValueError(
            f"{operator.output!r}: its windows have more than {_MOST_SUMS:,} sums, which is more "
            "than are looked at one by one"
        )
    cases = gaps = largest = 0
    for count in map(int, np.unique(np.outer(rows, columns))):
        first, last = (count * (code + source.zero_point) for code in (source.low, source.high))
        for start in range(first, last + 1, _BLOCK):
            total = np.arange(start, min(start + _BLOCK, last + 1))
            wanted = np.sign(total) * ((2 * np.abs(total) + count) // (2 * count))
            gap = np.abs(requantization.average_codes(total, np.array(count)) - wanted)
            gaps += int(np.count_nonzero(gap))
            largest = max(largest, int(gap.max()))
        cases += last + 1 - first
    different, worst = dict.fromkeys(TARGETS, gaps), dict.fromkeys(TARGETS, largest)
    return dataclasses.replace(
        common, cases=cases, different=different, worst=worst, problems=tuple(problems)
    )


def prove_bilinear(
    graph: IntegerGraph, operator: ResizeBilinear, trained: Trained, common: OperatorProof
) -> OperatorProof:
    """Bilinear upsampling for every value that codes interpolate to: half up, as in training.

    Args:
      graph: the graph.
      operator: the operator.
      trained: quantization parameters of each tensor as trained.
      common: what is known of the operator before.
    """
    image, output = (graph.tensors[name] for name in (operator.inputs[0], operator.output))
    source = image.quantization
    problems = list(common.problems)
    if not source.same_scale(output.quantization):
        problems.append("Input and output are on different grids.")
    factors = operator.factors(image.shape, output.shape)
    _, divisor = geometry.bilinear(np.zeros((1, 1, 1, 1)), factors)
    first, last = (divisor * (code + source.zero_point) for code in (source.low, source.high))
    total = np.arange(first, last + 1)
    wanted = (2 * total + divisor) // (2 * divisor)
    different, worst = {}, {}
    for name in TARGETS:
        gap = np.abs(requantization.bilinear_codes(total, divisor, name) - wanted)
        different[name], worst[name] = int(np.count_nonzero(gap)), int(gap.max())
    return dataclasses.replace(
        common, cases=total.size, different=different, worst=worst, problems=tuple(problems)
    )
