"""The proof that an integer graph computes the trained codes, for every input and every kernel.

A channel's output code is a monotone step function of its accumulator, in training and in every
kernel. Two such functions are the same if their thresholds are, over the accumulators that the
channel can take: a comparison of at most 255 numbers per channel and kernel instead of one for each
of the inputs. Each operator is held against its training for every possible code of its inputs, so
that a graph whose operators are all proven is proven as a whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tf_keras as keras

from export.ir.graph import (
    Add,
    Concatenate,
    IntegerGraph,
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
    Subtract,
    Tensor,
    Weighted,
    channel_rows,
)
from export.ir.provenance import trained_grids
from export.ir.weight_dtypes import LARGEST
from export.kernel_sets import ideal, rules
from export.kernel_sets.ideal import BEYOND
from export.kernel_sets.rules import TARGETS
from export.lowering.network import lower
from export.proof import enumeration
from export.proof.result import OperatorProof, Proof
from export.realization.accumulator_range import AccumulatorRange
from export.realization.channels import Rounding
from export.realization.context import RequantizationContext

_COPIES = (Concatenate, Maximum, Minimum, Pad, Reshape, ResizeNearest, Slice)
_MOST_CODES = 256


def prove(model: IntegerGraph | keras.Model) -> Proof:
    """Compares every operator of a graph with what was trained, in exact arithmetic.

    Ideal is ``clip(floor(real / scale + 1/2))`` of the real number that the trained float32
    parameters stand for (`export.kernel_sets.ideal`), and for average pooling the rule that
    training itself follows. The kernels are those of `export.kernel_sets.rules.TARGETS`. The proof
    covers every code that the grids of an operator's inputs have; a convolution is taken to have a
    window free of padding.

    Args:
      model: a graph that carries its training (from `export.lower`, saved or not), or a quantized
        Keras model, which is lowered.

    Raises:
      ValueError: if the graph carries no training.
      LoweringError: if the model has no integer form.
    """
    graph = model if isinstance(model, IntegerGraph) else lower(model)
    grids = trained_grids(graph)
    rows = [
        OperatorProof(
            name=name,
            kind="Input",
            output_bits=graph.tensors[name].bits,
            problems=_grid_problems(graph, name, grids),
        )
        for name in graph.inputs
    ]
    rows += [_prove_operator(graph, operator, grids) for operator in graph.operators]
    return Proof(operators=tuple(rows))


def _grid_problems(graph: IntegerGraph, name: str, grids: Mapping[str, Any]) -> tuple[str, ...]:
    grid, (scale, _, high) = graph.tensors[name].grid, grids[name]
    if (grid.scale, grid.zero_point) == (scale, 127 - high):
        return ()
    return (
        f"The tensor has scale {grid.scale} and zero point {grid.zero_point}, trained were "
        f"{scale} and {127 - high}.",
    )


def _prove_operator(
    graph: IntegerGraph, operator: Operator, grids: Mapping[str, Any]
) -> OperatorProof:
    common = OperatorProof(
        name=operator.output,
        kind=type(operator).__name__,
        output_bits=graph.tensors[operator.output].bits,
        problems=_grid_problems(graph, operator.output, grids),
    )
    if isinstance(operator, Weighted):
        return _prove_weighted(graph, operator, grids, common)
    if isinstance(operator, Add | Multiply | Subtract):
        return enumeration.prove_pairs(graph, operator, grids, common)
    if isinstance(operator, Pool2D) and operator.kind == "average":
        return enumeration.prove_average(graph, operator, common)
    if isinstance(operator, ResizeBilinear):
        return enumeration.prove_bilinear(graph, operator, common)
    if isinstance(operator, (*_COPIES, Pool2D)):  # Codes are copied: the grids must be one.
        moved = [
            f"Input {name!r} is on another grid than the output."
            for name in operator.inputs
            if graph.tensors[name].grid != graph.tensors[operator.output].grid
        ]
        return dataclasses.replace(common, problems=(*common.problems, *moved))
    return dataclasses.replace(common, covered=False)


def _prove_weighted(
    graph: IntegerGraph, operator: Weighted, grids: Mapping[str, Any], common: OperatorProof
) -> OperatorProof:
    """Threshold by threshold: see the module."""
    assert operator.trained is not None
    trained, rows = operator.trained, channel_rows(operator)
    source, target = (graph.tensors[name] for name in (operator.inputs[0], operator.output))
    input_scale, (output_scale, low, high) = grids[operator.inputs[0]][0], grids[operator.output]
    problems = [*common.problems, *_code_problems(operator, rows)]

    # Levels above the lowest code of either side, so that their different clips are thresholds too.
    device_low = max(-128 - target.grid.zero_point, 0 if operator.relu else -BEYOND)
    device_high = 127 - target.grid.zero_point
    context = dataclasses.replace(
        RequantizationContext.of(graph, operator),
        output_low=min(low, device_low),
        output_high=max(high, device_high),
    )
    levels = context.levels[:, None]
    accumulators = _trained_accumulators(operator, rows, source)
    rounding = Rounding(context, operator.kernel_scale, operator.code_multiplier, accumulators)
    wanted = ideal.thresholds(trained, input_scale, output_scale, context.levels)
    wanted = accumulators.at_or_above(_clipped(wanted, levels, low, high))

    bias = operator.bias.astype(np.int64)
    constant = ~rows.any(axis=1)
    different, worst, channels = {}, {}, {}
    for name in TARGETS:
        found = rounding.positions(name, bias)
        found = np.where(constant, rounding.constants(name, bias), found)
        found = accumulators.at_or_above(_clipped(found, levels, device_low, device_high))
        overflow = ~constant & ~rounding.fits(name, bias)
        wrong = np.flatnonzero((found != wanted).any(axis=0) | overflow)
        gaps = [
            _MOST_CODES - 1 if overflow[c] else _largest_gap(wanted[:, c], found[:, c])
            for c in wrong
        ]
        different[name], worst[name] = len(wrong), max(gaps, default=0)
        channels[name] = tuple(map(int, wrong))
    if rules.effective_kernel_set(graph, operator, "xnnpack") != "xnnpack":
        # What XNNPACK leaves runs on the optimized kernel of the machine.
        machines = ("optimized", "optimized_arm")
        left = sorted({channel for name in machines for channel in channels[name]})
        different["xnnpack"], channels["xnnpack"] = len(left), tuple(left)
        worst["xnnpack"] = max(worst[name] for name in machines)
    return dataclasses.replace(
        common,
        cases=len(rows),
        weight_bits=operator.bits,
        different=different,
        worst=worst,
        channels=channels,
        problems=tuple(problems),
    )


def _clipped(positions: np.ndarray, levels: np.ndarray, low: int, high: int) -> np.ndarray:
    """Thresholds of an output that is clipped to codes from `low` to `high`."""
    return np.where(levels <= low, -BEYOND, np.where(levels > high, BEYOND, positions))


def _largest_gap(wanted: np.ndarray, found: np.ndarray) -> int:
    """The largest difference of two step functions with these thresholds, in codes."""
    places = np.unique(np.concatenate([wanted, found]))
    places = places[places < BEYOND]
    one, other = (
        np.searchsorted(np.sort(steps), places, side="right") for steps in (wanted, found)
    )
    return int(np.abs(one - other).max(initial=0))


def _code_problems(operator: Weighted, rows: np.ndarray) -> list[str]:
    """Channels whose kernel is not the trained codes."""
    assert operator.trained is not None
    codes = rows // operator.code_multiplier * ideal.signs(operator.trained)
    wrong = [
        channel
        for channel, multiplied in enumerate(rows)
        if (
            ideal.digest(codes[channel]) != operator.trained["digest"][channel] and multiplied.any()
        )  # All 0: a channel that was found not to depend on its input.
        or (multiplied % operator.code_multiplier).any()
    ]
    return [f"The kernel does not hold the trained codes in channels {wrong}."] if wrong else []


def _trained_accumulators(operator: Weighted, rows: np.ndarray, source: Tensor) -> AccumulatorRange:
    """The accumulators that the trained codes can take.

    Where a kernel was set to 0 the codes are not known: all that the code multiplier allows count.
    """
    assert operator.trained is not None
    accumulators = AccumulatorRange(rows // operator.code_multiplier, source.low, source.high)
    limit = (
        LARGEST[operator.dtype_bits] // operator.code_multiplier
    )  # The stretch was as large as it could.
    bound = rows.shape[1] * limit * max(source.high, -source.low)
    nothing = ideal.digest(np.zeros(rows.shape[1]))
    unknown = ~rows.any(axis=1) & (operator.trained["digest"] != nothing)
    accumulators.least = np.where(unknown, -bound, accumulators.least)
    accumulators.most = np.where(unknown, bound, accumulators.most)
    return accumulators
