"""Proofs case by case: of operators with few enough inputs to try them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from export.ir import geometry
from export.ir.graph import (
    Add,
    IntegerGraph,
    Multiply,
    Operator,
    Pool2D,
    ResizeBilinear,
    Subtract,
    Tensor,
)
from export.kernel_sets import addition, multiplication, requantization, rules
from export.kernel_sets.rules import TARGETS
from export.proof.result import OperatorProof

_PAIR_RULES: dict[type[Operator], Callable[..., np.ndarray]] = {
    Add: addition.add_codes,
    Subtract: addition.add_codes,
    Multiply: multiplication.multiply_codes,
}


def prove_pairs(
    graph: IntegerGraph,
    operator: Add | Multiply | Subtract,
    grids: Mapping[str, Any],
    common: OperatorProof,
) -> OperatorProof:
    """A sum, difference or product of every pair of codes, in integers: scales are dyadic.

    Args:
      graph: the graph.
      operator: the operator.
      grids: scale, smallest and largest code of each tensor as trained.
      common: what is known of the operator before.
    """
    inputs = [graph.tensors[name] for name in operator.inputs]
    left, right = every_pair(*inputs)
    scale, low, high = grids[operator.output]
    units = [float(grids[name][0]).as_integer_ratio() for name in operator.inputs]
    units.append(float(scale).as_integer_ratio())
    common_unit = max(denominator for _, denominator in units)  # Powers of 2.
    one, other, output = (top * (common_unit // bottom) for top, bottom in units)
    steps = [
        codes.astype(object) - (127 - grids[name][2])
        for codes, name in zip((left, right), operator.inputs, strict=True)
    ]
    if isinstance(operator, Add):
        total, step = steps[0] * one + steps[1] * other, output
    elif isinstance(operator, Subtract):
        total, step = steps[0] * one - steps[1] * other, output
    else:
        total, step = steps[0] * steps[1] * (one * other), output * common_unit
    wanted = np.clip(((2 * total + step) // (2 * step)).astype(np.int64), low, high)
    wanted += 127 - high

    device = graph.tensors[operator.output].grid
    triple = (inputs[0].grid, inputs[1].grid, device)
    rule = _PAIR_RULES[type(operator)]
    different, worst = {}, {}
    for name in TARGETS:
        kernel = rules.effective_kernel_set(graph, operator, name.split("_")[0])
        # The optimized kernel rounds the last elements of a tensor as the reference does.
        sets = (kernel, "reference") if kernel == "optimized" else (kernel,)
        whole = left.size + -left.size % 16
        gap = np.zeros(left.size, np.int64)
        for each in sets:
            found = rule(operator, np.resize(left, whole), np.resize(right, whole), triple, each)
            gap = np.maximum(gap, np.abs(found[: left.size] - wanted))
        different[name], worst[name] = int(np.count_nonzero(gap)), int(gap.max())
    return dataclasses.replace(common, cases=left.size, different=different, worst=worst)


def every_pair(one: Tensor, other: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of a code of one tensor and a code of another: int8 ``[pairs]`` each."""
    codes = [np.arange(each.low, each.high + 1) + each.grid.zero_point for each in (one, other)]
    left, right = (grid.ravel().astype(np.int8) for grid in np.meshgrid(*codes, indexing="ij"))
    return left, right


def prove_average(graph: IntegerGraph, operator: Pool2D, common: OperatorProof) -> OperatorProof:
    """An average for every sum that a window can hold: half away from int8 zero, as in training.

    Args:
      graph: the graph.
      operator: the operator.
      common: what is known of the operator before.
    """
    source = graph.tensors[operator.inputs[0]]
    problems = list(common.problems)
    if source.grid != graph.tensors[operator.output].grid:
        problems.append("Input and output are on different grids.")
    ones = np.ones((1, *source.shape[1:3], 1), np.int64)
    windows = geometry.windows(
        ones, operator.window, operator.strides, (1, 1), operator.padding, 0
    ).sum(axis=(4, 5))
    cases, gaps = 0, [0]
    for count in map(int, np.unique(windows)):
        first, last = (
            count * (code + source.grid.zero_point) for code in (source.low, source.high)
        )
        total = np.arange(first, last + 1)
        wanted = np.sign(total) * ((2 * np.abs(total) + count) // (2 * count))
        gap = np.abs(requantization.average_codes(total, np.array(count)) - wanted)
        cases += total.size
        gaps += gap[gap > 0].tolist()
    different, worst = dict.fromkeys(TARGETS, len(gaps) - 1), dict.fromkeys(TARGETS, max(gaps))
    return dataclasses.replace(
        common, cases=cases, different=different, worst=worst, problems=tuple(problems)
    )


def prove_bilinear(
    graph: IntegerGraph, operator: ResizeBilinear, common: OperatorProof
) -> OperatorProof:
    """Bilinear upsampling for every value that codes interpolate to: half up, as in training.

    Args:
      graph: the graph.
      operator: the operator.
      common: what is known of the operator before.
    """
    source, output = (graph.tensors[name] for name in (operator.inputs[0], operator.output))
    problems = list(common.problems)
    if source.grid != output.grid:
        problems.append("Input and output are on different grids.")
    _, divisor = geometry.bilinear(
        np.zeros((1, 1, 1, 1)),
        (output.shape[1] // source.shape[1], output.shape[2] // source.shape[2]),
    )
    first, last = (divisor * (code + source.grid.zero_point) for code in (source.low, source.high))
    total = np.arange(first, last + 1)
    wanted = (2 * total + divisor) // (2 * divisor)
    different, worst = {}, {}
    for name in TARGETS:
        gap = np.abs(requantization.bilinear_codes(total, divisor, name) - wanted)
        different[name], worst[name] = int(np.count_nonzero(gap)), int(gap.max())
    return dataclasses.replace(
        common, cases=total.size, different=different, worst=worst, problems=tuple(problems)
    )
