"""Settling of kernels without a bias: scales at which no threshold is next to an accumulator.

Where neither a bias nor a batch normalization moves a channel, its thresholds lie where the scale
of its kernel puts them. Among hundreds of channels of 255 thresholds each there are some that an
accumulator meets to within float32's rounding, so that Keras rounds it otherwise than exact
arithmetic does. At another scale, a hair away, there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from export.alignment.bias_candidates import small_changes, threshold_margin
from export.ir.graph import IntegerGraph
from export.ir.operators import Weighted
from export.kernel_sets import ideal, rules
from export.kernel_sets.ideal import BEYOND
from export.kernel_sets.rules import TARGETS
from export.realization import channels
from export.realization.accumulator_range import AccumulatorRange, accumulated_codes
from export.realization.context import RequantizationContext

MOST_CHANGE = 2.0**-10
"""Scales move by at most this share: an eighth of an output code at 128 codes from 0."""

_TRIED = 64  # Scales on either side.
_AT_ONCE = 8  # Divides all that are tried.
_ROUNDS = 16


def distance(
    context: RequantizationContext, accumulators: AccumulatorRange, trained: np.ndarray
) -> np.ndarray:
    """How near a channel's real output comes to the middle between two codes, at most.

    Args:
      context: where the channels compute.
      accumulators: the accumulators that the channels can take.
      trained: `export.ir.provenance.TRAINED` ``[channels]``.

    Returns:
      float64 ``[channels]``, real values; infinite where no accumulator is next to a threshold.
    """
    scales = context.source.scale, context.target.scale
    wanted = ideal.thresholds(trained, *scales, context.levels)
    slope, start = ideal.line(trained, context.source.scale)
    ties = (context.levels[:, None] - 0.5) * context.target.scale
    nearest = np.full(slope.shape, np.inf)
    for accumulator in (accumulators.at_or_above(wanted), accumulators.below(wanted)):
        gap = np.abs(slope * accumulator + start - ties)
        gap = np.where(np.abs(accumulator) < BEYOND, gap, np.inf)
        nearest = np.minimum(nearest, gap.min(axis=0, initial=np.inf))
    return nearest


def settle_scales(
    graph: IntegerGraph,
    operator: Weighted,
    quantizer: Any,
    kernel: Any,
    variables: dict[str, Any],
    kernel_sets: Sequence[str] = TARGETS,
) -> None:
    """Moves scales of a kernel to the nearest at which its thresholds have room, in place.

    Channels that have it keep theirs, and so do those for which no scale near by gives it together
    with a bias that suits the default kernels, and ARM's if the present one does. Codes stay.

    Args:
      graph: from `export.realization.network.whole`, groups to be split.
      operator: one of its operators.
      quantizer: of the operator's kernel.
      kernel: what it quantizes.
      variables: the quantizer's.
      kernel_sets: see `export.settle`: the first is the default.
    """
    if not quantizer.has_free_scale:
        return
    factors = _factors(graph, operator, kernel_sets)
    if (factors == 1).all():
        return
    codes, scale = quantizer.codes(kernel.numpy(), variables)
    moving = (kernel, *variables.values())
    before = [variable.numpy() for variable in moving]
    quantizer.rescale(kernel, variables, factors.reshape(scale.shape))
    moved, _ = quantizer.codes(kernel.numpy(), variables)
    kept = np.all(moved == codes, axis=quantizer.axes, keepdims=True)
    for variable, values in zip(moving, before, strict=True):
        variable.assign(np.where(kept, variable.numpy(), values))


def _factors(
    graph: IntegerGraph, operator: Weighted, kernel_sets: Sequence[str] = TARGETS
) -> np.ndarray:
    """By what the scales of an operator's channels are to be multiplied, float32 ``[channels]``."""
    context = RequantizationContext.of(graph, operator, kernel_sets, split_groups=True)
    trained = operator.trained
    assert trained is not None
    factors = np.ones(len(trained), np.float32)
    if rules.is_per_tensor(context.operator, operator.kernel_scale, context.dtype_bits):
        return factors
    rows = accumulated_codes(operator)
    margin = threshold_margin(context, ideal.line(trained, context.source.scale)[0])
    left = np.flatnonzero(rows.any(axis=1) & (margin > 0))
    if not left.size:
        return factors
    codes = rows * ideal.signs(trained)
    accumulators = AccumulatorRange(rows, context.source.low, context.source.high)
    first, arm = context.targets[0], "optimized_arm"
    before = channels.fit(codes, trained, context).exact
    left = left[~before[first][left] | (distance(context, accumulators, trained) < margin)[left]]
    if not left.size:
        return factors

    candidates = 1 + small_changes(MOST_CHANGE, _TRIED).astype(np.float32)
    wide = np.zeros((candidates.size, left.size), bool)
    known = np.zeros(left.size, np.int64)  # Candidates that were measured, for each channel.
    for _ in range(_ROUNDS):  # Depthwise kernels round by position: all channels are fitted.
        while (missing := np.flatnonzero(~wide.any(axis=0) & (known < candidates.size))).size:
            rows = np.add.outer(np.arange(_AT_ONCE), known[missing])
            columns = np.broadcast_to(missing, rows.shape)
            chosen = left[columns.ravel()]
            scaled = _scaled(trained[chosen], candidates[rows.ravel()])
            near = distance(context, accumulators.select(chosen), scaled)
            wide[rows, columns] = (near >= margin[chosen]).reshape(rows.shape)
            known[missing] += _AT_ONCE
        possible = wide.any(axis=0)
        if not possible.any():
            break
        choice = wide.argmax(axis=0)  # The nearest.
        trying = factors.copy()
        trying[left[possible]] = candidates[choice[possible]]
        exact = channels.fit(codes, _scaled(trained, trying), context).exact
        served = possible & exact[first][left] & (exact[arm] | ~before[arm])[left]
        factors[left[served]] = trying[left[served]]
        wide[choice, np.arange(left.size)] = False
        left, wide, known = left[~served], wide[:, ~served], known[~served]
    return factors


def _scaled(trained: np.ndarray, factors: np.ndarray | np.float32) -> np.ndarray:
    """What was trained with the kernel's scales multiplied."""
    scaled = trained.copy()
    scaled["scale"] = scaled["scale"].astype(np.float32) * factors
    return scaled
