"""The proof that an integer graph computes the trained codes, for every input and every kernel.

A channel's output code is a monotone step function of its accumulator, in training and in every
kernel. Two such functions are the same if their thresholds are, over the accumulators that the
channel can take: a comparison of at most 255 numbers per channel and kernel instead of one for each
of the inputs. Each operator is held against its training for every possible code of its inputs, so
that a graph whose operators are all proven is proven as a whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from export.ir.graph import Graph, IntegerGraph
from export.ir.operators import (
    Add,
    Concatenate,
    Conv2D,
    DepthToSpace,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
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
    SpaceToDepth,
    Subtract,
    Transpose,
    TransposeConv2D,
    Weighted,
)
from export.ir.weight_dtypes import LARGEST
from export.kernel_sets import ideal
from export.kernel_sets.ideal import BEYOND
from export.kernel_sets.rules import TARGETS
from export.lowering.network import lower
from export.proof import enumeration
from export.proof.result import OperatorProof, Proof
from export.proof.training import Trained, trained_quantization
from export.realization.accumulator_range import AccumulatorRange
from export.realization.channels import Rounding
from export.realization.context import RequantizationContext
from export.realization.network import integers
from wrpn_tf import QuantizationParameters
from wrpn_tf.progress import ProgressLine

_MOST_CODES = 256
_MOST_CHANNELS = 1 << 16  # A channel takes some 40 kB.


def prove(model: Any, *, progress: bool | None = None) -> Proof:
    """Compares every operator of a graph with what was trained, in exact arithmetic.

    Ideal is ``clip(floor(real / scale + 1/2))`` of the real number that the trained float32
    parameters stand for (`export.kernel_sets.ideal`), and for average pooling the rule that
    training itself follows. The kernels are those of `export.kernel_sets.rules.TARGETS`. The proof
    covers every code that the grids of an operator's inputs have; a convolution is taken to have a
    window free of padding.

    Args:
      model: an integer graph that carries its training (from `export.realize`, saved or not); or
        a trained graph, which is realized by default, or a quantized Keras model, which is lowered
        first.
      progress: whether to show how far it is; None: where the standard error is a terminal.

    Raises:
      ValueError: if the graph carries no training.
      LoweringError: if the model has no integer form.
    """
    graph = integers(model if isinstance(model, Graph) else lower(model))
    trained = trained_quantization(graph)
    rows = [
        OperatorProof(
            name=name,
            kind="Input",
            output_bits=graph.tensors[name].quantization.bits,
            problems=_scale_problems(graph, name, trained),
        )
        for name in graph.inputs
    ]
    with ProgressLine("prove", sum(map(_channels, graph.operators)), shown=progress) as line:
        for operator in graph.operators:
            line.begin(f"prove {operator.output}")
            rows.append(_prove_operator(graph, operator, trained))
            line.advance(_channels(operator))
    return Proof(operators=tuple(rows))


def _scale_problems(graph: IntegerGraph, name: str, trained: Trained) -> tuple[str, ...]:
    found, wanted = graph.tensors[name].quantization, trained[name]
    if found.same_scale(wanted):
        return ()
    return (
        f"The tensor has scale {found.scale} and zero point {found.zero_point}, trained were "
        f"{wanted.scale} and {wanted.zero_point}.",
    )


def _channels(operator: Operator) -> int:
    """How many step functions are proven; 1 where codes are enumerated or copied."""
    return len(operator.bias) if isinstance(operator, Weighted) else 1


def _prove_operator(graph: IntegerGraph, operator: Operator, trained: Trained) -> OperatorProof:
    common = OperatorProof(
        name=operator.output,
        kind=type(operator).__name__,
        output_bits=graph.tensors[operator.output].quantization.bits,
        problems=_scale_problems(graph, operator.output, trained),
    )
    if type(operator) not in RULES:
        return dataclasses.replace(common, covered=False)
    return RULES[type(operator)](graph, operator, trained, common)


def _prove_pool(
    graph: IntegerGraph, operator: Pool2D, trained: Trained, common: OperatorProof
) -> OperatorProof:
    rule = enumeration.prove_average if operator.kind == "average" else _prove_copy
    return rule(graph, operator, trained, common)


def _prove_copy(
    graph: IntegerGraph, operator: Operator, trained: Trained, common: OperatorProof
) -> OperatorProof:
    """Codes are copied: scale and zero point must be the same."""
    output = graph.tensors[operator.output].quantization
    moved = [
        f"Input {name!r} is on another grid than the output."
        for name in operator.inputs
        if not graph.tensors[name].quantization.same_scale(output)
    ]
    return dataclasses.replace(common, problems=(*common.problems, *moved))


def _prove_weighted(
    graph: IntegerGraph, operator: Weighted, trained: Trained, common: OperatorProof
) -> OperatorProof:
    """Threshold by threshold: see the module."""
    assert operator.trained is not None
    rows = operator.rows
    if len(rows) > _MOST_CHANNELS:
        raise ValueError(f"{operator.output!r} has more than {_MOST_CHANNELS:,} channels")
    source, target = (
        graph.tensors[name].quantization for name in (operator.inputs[0], operator.output)
    )
    output = trained[operator.output]
    problems = [*common.problems, *_code_problems(operator, rows)]

    # Levels above the lowest code of either side, so that their different clips are thresholds too.
    device_low = max(-128 - target.zero_point, 0 if operator.relu else -BEYOND)
    widened = dataclasses.replace(
        target, low=min(output.low, device_low), high=max(output.high, target.high)
    )
    context = dataclasses.replace(RequantizationContext.of(graph, operator), target=widened)
    levels = context.levels[:, None]
    accumulators = _trained_accumulators(operator, rows, source)
    rounding = Rounding(context, operator.kernel_scale, operator.code_multiplier, accumulators)
    input_scale = trained[operator.inputs[0]].scale
    wanted = ideal.thresholds(operator.trained, input_scale, output.scale, context.levels)
    wanted = accumulators.at_or_above(_clipped(wanted, levels, output.low, output.high))

    bias = operator.bias.astype(np.int64)
    constant = ~rows.any(axis=1)
    different: dict[str, int] = {}
    worst: dict[str, int] = {}
    channels: dict[str, tuple[int, ...]] = {}
    for name in TARGETS:
        if (first := rounding.alike[name]) != name:
            different[name], worst[name] = different[first], worst[first]
            channels[name] = channels[first]
            continue
        found = rounding.positions(name, bias)
        found = np.where(constant, rounding.constants(name, bias), found)
        found = accumulators.at_or_above(_clipped(found, levels, device_low, target.high))
        overflow = ~constant & ~rounding.fits(name, bias)
        wrong = np.flatnonzero((found != wanted).any(axis=0) | overflow)
        gaps = [
            _MOST_CODES - 1 if overflow[c] else _largest_gap(wanted[:, c], found[:, c])
            for c in wrong
        ]
        different[name], worst[name] = len(wrong), max(gaps, default=0)
        channels[name] = tuple(map(int, wrong))
    if not context.delegated:
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


def _trained_accumulators(
    operator: Weighted, rows: np.ndarray, source: QuantizationParameters
) -> AccumulatorRange:
    """The accumulators that the trained codes can take.

    Where a kernel was set to 0 the codes are not known: all that the code multiplier allows count.
    """
    assert operator.trained is not None
    accumulators = AccumulatorRange(rows // operator.code_multiplier, source.low, source.high)
    # The code multiplier was at most as large as it could be.
    limit = LARGEST[operator.dtype_bits] // operator.code_multiplier
    bound = rows.shape[1] * limit * max(source.high, -source.low)
    nothing = ideal.digest(np.zeros(rows.shape[1]))
    unknown = ~rows.any(axis=1) & (operator.trained["digest"] != nothing)
    accumulators.least = np.where(unknown, -bound, accumulators.least)
    accumulators.most = np.where(unknown, bound, accumulators.most)
    return accumulators


RULES: dict[type[Operator], Callable[..., OperatorProof]] = {
    Conv2D: _prove_weighted,
    GroupedConv2D: _prove_weighted,
    DepthwiseConv2D: _prove_weighted,
    TransposeConv2D: _prove_weighted,
    FullyConnected: _prove_weighted,
    Add: enumeration.prove_pairs,
    Subtract: enumeration.prove_pairs,
    Maximum: _prove_copy,
    Minimum: _prove_copy,
    Multiply: enumeration.prove_pairs,
    Pool2D: _prove_pool,
    Concatenate: _prove_copy,
    Pad: _prove_copy,
    Slice: _prove_copy,
    Transpose: _prove_copy,
    DepthToSpace: _prove_copy,
    SpaceToDepth: _prove_copy,
    ResizeNearest: _prove_copy,
    ResizeBilinear: enumeration.prove_bilinear,
    Reshape: _prove_copy,
}
"""By operator: its proof, from graph, operator, quantization as trained, and what is known of it.

Not of SOFTMAX and LOGISTIC, which are approximations in every kernel.
"""
