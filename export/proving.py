"""The proof that an integer graph computes the trained codes, for every input and every kernel.

A channel's output code is a monotone step function of its accumulator, in training and in every
kernel. Two such functions are the same if their thresholds are, over the accumulators that the
channel can take: a comparison of at most 255 numbers per channel and kernel instead of one for each
of the inputs. Each operator is held against its training for every possible code of its inputs, so
that a graph whose operators are all proven is proven as a whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tf_keras as keras

from export import addition, geometry, ideal, kernels, multiplication
from export.channels import Rounding, Setting
from export.graph import (
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
from export.ideal import BEYOND
from export.kernels import TARGETS
from export.lowering import lower
from export.proof import OperatorProof, Proof
from export.reach import Reach

_COPIES = (Concatenate, Maximum, Minimum, Pad, Reshape, ResizeNearest, Slice)
_PAIR_RULES: dict[type[Operator], Callable[..., np.ndarray]] = {
    Add: addition.add_codes,
    Subtract: addition.add_codes,
    Multiply: multiplication.multiply_codes,
}
_MOST_CODES = 256


def prove(model: IntegerGraph | keras.Model) -> Proof:
    """Compares every operator of a graph with what was trained, in exact arithmetic.

    Ideal is ``clip(floor(real / scale + 1/2))`` of the real number that the trained float32
    parameters stand for (`export.ideal`), and for average pooling the rule that training itself
    follows. The kernels are those of `export.kernels.TARGETS`. The proof covers every code that the
    grids of an operator's inputs have; a convolution is taken to have a window free of padding.

    Args:
      model: a graph that carries its training (from `export.lower`, saved or not), or a quantized
        Keras model, which is lowered.

    Raises:
      ValueError: if the graph carries no training.
      LoweringError: if the model has no integer form.
    """
    graph = model if isinstance(model, IntegerGraph) else lower(model)
    grids = _trained_grids(graph)
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


def _trained_grids(graph: IntegerGraph) -> dict[str, tuple[float, int, int]]:
    """Scale, smallest and largest code of each tensor as trained."""
    try:
        found = graph.metadata["trained_grids"]
        grids = {name: (float(a), int(b), int(c)) for name, (a, b, c) in found.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        grids = {}
    weighted = [operator for operator in graph.operators if isinstance(operator, Weighted)]
    if set(graph.tensors) - set(grids) or any(operator.trained is None for operator in weighted):
        raise ValueError(
            "The graph does not carry what was trained, so there is nothing to prove it against: "
            "write it again with python -m export.tflite --graph=…, or name the training's "
            "--workdir."
        )
    return grids


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
        return _prove_pairs(graph, operator, grids, common)
    if isinstance(operator, Pool2D) and operator.kind == "average":
        return _prove_average(graph, operator, common)
    if isinstance(operator, ResizeBilinear):
        return _prove_bilinear(graph, operator, common)
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
    trained, rows = operator.trained, channel_rows(operator).astype(np.int64)
    source, target = (graph.tensors[name] for name in (operator.inputs[0], operator.output))
    input_scale, (output_scale, low, high) = grids[operator.inputs[0]][0], grids[operator.output]
    problems = [*common.problems, *_code_problems(operator, rows)]

    # Levels above the lowest code of either side, so that their different clips are thresholds too.
    device_low = max(-128 - target.grid.zero_point, 0 if operator.relu else -BEYOND)
    device_high = 127 - target.grid.zero_point
    setting = dataclasses.replace(
        Setting.of(graph, operator),
        output_low=min(low, device_low),
        output_high=max(high, device_high),
    )
    levels = setting.levels[:, None]
    reach = _trained_reach(operator, rows, source)
    rounding = Rounding(setting, operator.kernel_scale, operator.stretch, reach)
    wanted = ideal.thresholds(trained, input_scale, output_scale, setting.levels)
    wanted = reach.at_or_above(_clipped(wanted, levels, low, high))

    bias = operator.bias.astype(np.int64)
    constant = ~rows.any(axis=1)
    different, worst, channels = {}, {}, {}
    for name in TARGETS:
        found = rounding.positions(name, bias)
        found = np.where(constant, rounding.constants(name, bias), found)
        found = reach.at_or_above(_clipped(found, levels, device_low, device_high))
        overflow = ~constant & ~rounding.fits(name, bias)
        wrong = np.flatnonzero((found != wanted).any(axis=0) | overflow)
        gaps = [
            _MOST_CODES - 1 if overflow[c] else _largest_gap(wanted[:, c], found[:, c])
            for c in wrong
        ]
        different[name], worst[name] = len(wrong), max(gaps, default=0)
        channels[name] = tuple(map(int, wrong))
    if kernels.effective_kernels(graph, operator, "xnnpack") != "xnnpack":
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
    signs = np.where(operator.trained["gain"] < 0, -1, 1)
    codes = rows // operator.stretch
    wrong = [
        channel
        for channel, stretched in enumerate(rows)
        if (
            ideal.digest(codes[channel] * signs[channel]) != operator.trained["digest"][channel]
            and stretched.any()
        )  # All 0: a channel that was found not to depend on its input.
        or (stretched % operator.stretch).any()
    ]
    return [f"The kernel does not hold the trained codes in channels {wrong}."] if wrong else []


def _trained_reach(operator: Weighted, rows: np.ndarray, source: Tensor) -> Reach:
    """The accumulators that the trained codes can take.

    Where a kernel was set to 0 the codes are not known: all that the bit-width allows count.
    """
    assert operator.trained is not None
    reach = Reach(rows // operator.stretch, source.low, source.high)
    limit = max(1, 2 ** (operator.bits - 1) - 1)
    bound = rows.shape[1] * limit * max(source.high, -source.low)
    nothing = ideal.digest(np.zeros(rows.shape[1]))
    unknown = ~rows.any(axis=1) & (operator.trained["digest"] != nothing)
    reach.least = np.where(unknown, -bound, reach.least)
    reach.most = np.where(unknown, bound, reach.most)
    return reach


def _prove_pairs(
    graph: IntegerGraph,
    operator: Add | Multiply | Subtract,
    grids: Mapping[str, Any],
    common: OperatorProof,
) -> OperatorProof:
    """Every pair of codes, in integers: scales are dyadic rationals."""
    inputs = [graph.tensors[name] for name in operator.inputs]
    codes = [np.arange(tensor.low, tensor.high + 1) + tensor.grid.zero_point for tensor in inputs]
    left, right = (grid.ravel().astype(np.int8) for grid in np.meshgrid(*codes, indexing="ij"))
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
        kernel = kernels.effective_kernels(graph, operator, name.split("_")[0])
        # The optimized kernel rounds the last elements of a tensor as the reference does.
        sets = (kernel, "reference") if kernel == "optimized" else (kernel,)
        whole = left.size + -left.size % 16
        gap = np.zeros(left.size, np.int64)
        for each in sets:
            found = rule(operator, np.resize(left, whole), np.resize(right, whole), triple, each)
            gap = np.maximum(gap, np.abs(found[: left.size] - wanted))
        different[name], worst[name] = int(np.count_nonzero(gap)), int(gap.max())
    return dataclasses.replace(common, cases=left.size, different=different, worst=worst)


def _prove_average(graph: IntegerGraph, operator: Pool2D, common: OperatorProof) -> OperatorProof:
    """Every sum that a window can hold: half away from int8 zero, as in training."""
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
        gap = np.abs(kernels.average_codes(total, np.array(count)) - wanted)
        cases += total.size
        gaps += gap[gap > 0].tolist()
    different, worst = dict.fromkeys(TARGETS, len(gaps) - 1), dict.fromkeys(TARGETS, max(gaps))
    return dataclasses.replace(
        common, cases=cases, different=different, worst=worst, problems=tuple(problems)
    )


def _prove_bilinear(
    graph: IntegerGraph, operator: ResizeBilinear, common: OperatorProof
) -> OperatorProof:
    """Every value between two neighbouring codes and on them: half up, as in training."""
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
        gap = np.abs(kernels.bilinear_codes(total, divisor, name) - wanted)
        different[name], worst[name] = int(np.count_nonzero(gap)), int(gap.max())
    return dataclasses.replace(
        common, cases=total.size, different=different, worst=worst, problems=tuple(problems)
    )


def training_problems(graph: IntegerGraph, trained: IntegerGraph) -> list[str]:
    """What a graph carries as its training that another graph, lowered anew, does not.

    Args:
      graph: the graph to be proven.
      trained: the graph of the training itself, from `export.lower`.

    Returns:
      A sentence for each difference; empty where a proof against what `graph` carries is one
      against the training.
    """
    grids, trained_grids = _trained_grids(graph), _trained_grids(trained)
    problems = [
        f"{name}: the training has no such tensor, or another grid for it."
        for name, grid in grids.items()
        if trained_grids.get(name) != grid
    ]
    theirs = {operator.output: operator for operator in trained.operators}
    for operator in graph.operators:
        other = theirs.get(operator.output)
        if other is None or not _same_training(operator, other):
            problems.append(
                f"{operator.output}: what it carries as trained is not what the model has."
            )
    if len(theirs) != len(graph.operators):
        problems.append(f"The training has {len(theirs)} operators, not {len(graph.operators)}.")
    return problems


def _same_training(one: Operator, other: Operator) -> bool:
    """Whether two operators are the same but for what lowering chooses."""
    chosen = {"kernel", "kernel_scale", "bias", "stretch"}
    if type(one) is not type(other):
        return False
    for field in dataclasses.fields(one):
        mine, yours = getattr(one, field.name), getattr(other, field.name)
        if field.name not in chosen and not np.array_equal(mine, yours):
            return False
    return True
