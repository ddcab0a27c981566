"""Where the kernels agree: gains and biases for which no threshold is rounded to either side.

In real arithmetic the thresholds of a channel are evenly spaced numbers, ``(code - 1/2) /
multiplier``. Built-in kernels round twice, the first time at a 31-bit fraction of the multiplier,
which moves a threshold by up to one accumulator. Where a whole number lies between the thresholds
of two kernels, they disagree at that accumulator; and as accumulators are a bias and multiples of
the code multiplier, such a bias is excluded, modulo the code multiplier.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from export.kernel_sets import ideal
from export.realization.accumulator_range import AccumulatorRange
from export.realization.context import RequantizationContext

MOST_GAIN = 2.0**-8
"""Gains move by at most this factor: half an output code at 128 codes from the offset."""

_EVEN_GAINS = 16  # Tried on either side, besides the simple fractions.
_MOST_PARTS = 40
_BLOCKS = 8  # Of levels, each spread over all of them.
_FLOAT32_DOUBT = 2.0**-20  # Sums of hundreds of taps in any order, then batch normalization.


def threshold_margin(context: RequantizationContext, slope: np.ndarray) -> np.ndarray:
    """How far thresholds must be from accumulators for Keras's float32 not to cross them.

    Args:
      context: where the channels compute.
      slope: from `export.kernel_sets.ideal.line`, ``[channels]``.

    Returns:
      The distance of the real outputs, float64 ``[channels]``; 0 where accumulators are so close
      that evenly spaced thresholds leave no such room on both sides of them.
    """
    count = context.levels.size
    margin = _FLOAT32_DOUBT * context.target.scale * np.abs(context.levels).max(initial=0)
    widest = slope * np.log1p(count) / max(count, 1)  # Of the gaps between so many random places.
    return np.where(widest > 2 * margin, margin, 0.0)


def small_changes(most: float, count: int) -> np.ndarray:
    """Relative changes, `count` on either side of 0 and up to `most`, the smallest first."""
    steps = np.arange(1, count + 1) * most / count
    return np.stack([steps, -steps], axis=1).ravel()


def gain_factors(multiplier: np.ndarray, code_multiplier: int) -> np.ndarray:
    """Factors worth trying on the gains, those nearest to 1 first.

    Thresholds that are spread evenly over the steps leave no room for a bias. Where their distance
    is close to a simple fraction of the code multiplier, they gather at a few places and leave
    gaps.

    Args:
      multiplier: float64 ``[channels]``, output codes for each accumulator step.
      code_multiplier: the factor on the kernel codes.

    Returns:
      float64 ``[factors, channels]``, all within `MOST_GAIN` of 1, the first of them 1.
    """
    even = 1 + MOST_GAIN * np.arange(-_EVEN_GAINS, _EVEN_GAINS + 1) / _EVEN_GAINS
    parts = np.arange(1, min(2 * code_multiplier, _MOST_PARTS) + 1)[:, None]
    distance = 1 / multiplier
    simple = np.maximum(1, np.rint(distance * parts / code_multiplier)) * code_multiplier / parts
    factors = np.concatenate([np.tile(even[:, None], multiplier.size), distance / simple])
    factors = np.where(np.abs(factors - 1) <= MOST_GAIN, factors, 1.0)
    order = np.argsort(np.abs(factors - 1), axis=0, kind="stable")
    return np.take_along_axis(factors, order, axis=0)


def nearest_bias(
    context: RequantizationContext,
    accumulators: AccumulatorRange,
    trained: np.ndarray,
    multiplier: np.ndarray,
    code_multiplier: int,
    targets: Sequence[str],
) -> np.ndarray:
    """The bias nearest to the trained one for which the targets should agree at every threshold.

    A prediction, quick enough for hundreds of gains: `export.realization.channels.Rounding` knows
    exactly.

    Args:
      context: where the channels compute.
      accumulators: the accumulators that they can take.
      trained: `export.ir.provenance.TRAINED` ``[channels]``.
      multiplier: float64 ``[channels]``, output codes for each accumulator step.
      code_multiplier: the factor on the kernel codes.
      targets: of `export.kernel_sets.rules.TARGETS`.

    Returns:
      float64 ``[channels]``, whole numbers; NaN where there is no such bias.
    """
    _, start = ideal.line(trained, context.source.scale)
    place = start / context.target.scale / multiplier
    least = code_multiplier * (accumulators.least - 1)
    most = code_multiplier * (accumulators.most + 1)
    middle = np.rint(place)
    excluded = np.zeros((code_multiplier, place.size), bool)
    left = np.arange(place.size)  # Where some bias is not excluded: mostly few levels leave none.
    for block in range(_BLOCKS):
        levels = context.levels[block::_BLOCKS, None]
        threshold = (levels - 0.5) / multiplier[left]
        accumulator = threshold - place[left]
        reached = (accumulator >= least[left]) & (accumulator <= most[left])
        first, beyond = _disputed(threshold, levels, multiplier[left], targets)
        level, channel = np.nonzero(reached & (first < beyond))
        first, beyond = (
            (first - middle[left])[level, channel],
            (beyond - middle[left])[level, channel],
        )
        while first.size:
            excluded[(first % code_multiplier).astype(np.int64), left[channel]] = True
            first = first + 1
            more = first < beyond
            first, beyond, channel = first[more], beyond[more], channel[more]
        left = left[~excluded[:, left].all(axis=0)]
        if not left.size:
            break
    moves = np.arange(code_multiplier)[:, None]
    moves = np.where(moves > code_multiplier // 2, moves - code_multiplier, moves)
    bias = np.where(excluded, np.nan, middle + moves)
    nearest = np.where(excluded, np.inf, np.abs(middle + moves - place)).argmin(axis=0)
    return np.take_along_axis(bias, nearest[None], axis=0)[0]


def _disputed(
    threshold: np.ndarray, levels: np.ndarray, multiplier: np.ndarray, targets: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The accumulators around a threshold of real arithmetic on which targets may disagree.

    Returns:
      The first of them and the one behind the last, float64, as `threshold`.
    """
    # Half a step of the first rounding. The second rounds halves up, or, in the reference kernels,
    # away from zero.
    half = 0.5 / np.frexp(multiplier)[0]
    away = not {"reference", "reference_2_14", "tflm"}.isdisjoint(targets)
    early = half * ("optimized" in targets or (away & (levels > 0)))
    late = half * (away & (levels <= 0))
    doubt = np.abs(threshold) * _FLOAT32_DOUBT
    return np.ceil(threshold - early - doubt), np.ceil(threshold + late + doubt)
