"""Settling of one operator's offsets and gains: see `export.settle`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from export.alignment import bias_candidates
from export.ir.graph import IntegerGraph
from export.ir.operators import Weighted
from export.kernel_sets import ideal, rules
from export.kernel_sets.ideal import BEYOND
from export.kernel_sets.rules import TARGETS
from export.realization import channels
from export.realization.accumulator_range import AccumulatorRange, accumulated_codes
from export.realization.channels import ULPS, Rounding, moved_scale
from export.realization.context import RequantizationContext

_FAST = ("xnnpack", "optimized", "optimized_arm")
_ROUNDS = 12
_MOST_STEPS = 2048
_PAIRS = 1 << 15  # Biases of channels that are looked at together.
_COARSE = 16  # Levels of which one is looked at first: few biases are left to the others.


def settled(graph: IntegerGraph, operator: Weighted, *, gains: bool = False) -> np.ndarray:
    """What an operator is to compute instead of what it was trained to, moved as `settle` says.

    Args:
      graph: from `export.lower`.
      operator: one of its operators.
      gains: whether 'gain' may move too.

    Returns:
      `export.kernel_sets.ideal.TRAINED` ``[channels]``; 'offset' and 'gain' are float32 numbers.
    """
    attempts = []
    shared = rules.is_per_tensor(type(operator), operator.kernel_scale, operator.dtype_bits)
    for ulps in ULPS if shared else (0,):
        attempt = _Settler(graph, operator, ulps)
        attempt.run(gains, (0,) if shared else ULPS)
        attempts.append(attempt)
        if not attempt.left.any():
            break
    return min(attempts, key=lambda attempt: attempt.left.sum()).trained


class _Settler:
    """The channels of one operator on their way.

    Attributes:
      trained: what they are to compute.
      left: bool ``[channels]``: those for which that was not found yet.
    """

    def __init__(self, graph: IntegerGraph, operator: Weighted, ulps: int):
        self._scale = moved_scale(operator.kernel_scale, ulps)
        self._context = context = RequantizationContext.of(graph, operator)
        self._twin = dataclasses.replace(context, dtype_bits=8, delegated=True)
        assert operator.trained is not None
        self._bias, self._code_multiplier = operator.bias.astype(np.int64), operator.code_multiplier
        self._gain = operator.trained["gain"]
        self.trained = operator.trained.copy()
        self._codes = codes = accumulated_codes(operator)
        self._accumulators = AccumulatorRange(codes, context.source.low, context.source.high)
        slope, _ = ideal.line(self.trained, context.source.scale)
        self._margin = bias_candidates.threshold_margin(context, slope)
        self.left: np.ndarray = np.asarray(codes.any(axis=1))  # Constants stay as they are.

    def run(self, gains: bool, scale_ulps: Sequence[int]) -> None:
        """Settles the channels; see `settle`.

        Args:
          gains: whether gains may move.
          scale_ulps: float32 steps by which kernel scales may move.
        """
        self._search(gains, scale_ulps)
        narrow = self.left & (self._margin > 0)
        if narrow.any():
            failed = self.left & ~narrow
            self.left, self._margin = narrow, np.zeros_like(self._margin)
            self._search(gains, scale_ulps)
            self.left |= failed

    def _search(self, gains: bool, scale_ulps: Sequence[int]) -> None:
        plain = self._rounding(self.trained)
        self._try(plain, self.trained, np.flatnonzero(self.left), self._bias, TARGETS)
        first = self._context.targets[:1]
        for targets in (TARGETS, _FAST, (*first, "optimized_arm")):
            self._spread(gains, targets)
        for ulps in scale_ulps:
            rounding = self._rounding(self.trained, ulps)
            for move in (0, 1, -1):
                trying = np.flatnonzero(self.left)
                self._try(rounding, self.trained, trying, self._bias + move, first)
        self._spread(gains, first)
        if not self.left.any():
            return
        half_code = 0.5 / self._multiplier(self.trained)
        limit = np.minimum(np.maximum(self._code_multiplier, half_code), _MOST_STEPS)
        limit = np.where(self._repeats(plain, first[0], limit), self._code_multiplier, limit)
        self._walk(plain, limit, first)

    def _walk(self, plain: Rounding, limit: np.ndarray, targets: Sequence[str]) -> None:
        """Settles channels on the nearest bias that serves, from a move by 2 on.

        Args:
          plain: of the channels.
          limit: how far the bias of each channel may move, ``[channels]``.
          targets: one target.
        """
        most = int(limit[self.left].max(initial=0))
        moves = np.repeat(np.arange(2, most + 1), 2)
        moves[1::2] *= -1  # 2, -2, 3, -3, ...
        done = 0
        while done < moves.size and self.left.any():
            left = np.flatnonzero(self.left)
            pairs = max(1, _PAIRS // left.size)
            block = moves[done : done + min(pairs, max(64, done))]
            done += block.size
            row, place = np.nonzero(np.abs(block)[:, None] <= limit[left])
            chosen, bias = left[place], self._bias[left[place]] + block[row]
            kept = plain.fits(targets[0], self._bias + block[:, None])[row, chosen]
            for every in (_COARSE, 1):
                chosen, bias = chosen[kept], bias[kept]
                low, high = _offset_interval(
                    self._context,
                    plain.select(chosen),
                    self.trained[chosen],
                    plain.select(chosen).positions(targets[0], bias, every),
                    every,
                )
                kept = high - low >= 2 * self._margin[chosen]
            chosen, bias = chosen[kept], bias[kept]
            self._try_each(plain, chosen, bias, targets)

    def _try_each(
        self, rounding: Rounding, chosen: np.ndarray, bias: np.ndarray, targets: Sequence[str]
    ) -> None:
        """Tries several biases for each of several channels, in order, until one serves.

        Args:
          rounding: of the channels.
          chosen: the channel of each trial.
          bias: the bias of each trial.
          targets: see `_try`.
        """
        while chosen.size:
            trying, first = np.unique(chosen, return_index=True)
            biases = self._bias.copy()
            biases[trying] = bias[first]
            self._try(rounding, self.trained, trying, biases, targets)
            more = np.ones(chosen.size, bool)
            more[first] = False
            more &= self.left[chosen]
            chosen, bias = chosen[more], bias[more]

    def _repeats(self, rounding: Rounding, target: str, limit: np.ndarray) -> np.ndarray:
        """Where a bias that moves by a code multiplier only moves all thresholds by a step.

        Args:
          rounding: of the channels.
          target: whose.
          limit: how far the bias of each channel may move, ``[channels]``.

        Returns:
          bool ``[channels]``: not where a threshold could come out of the reach or go into it.
        """
        accumulators, most = self._accumulators, limit.astype(np.int64)
        first = rounding.positions(target, self._bias + most)[0]
        last = rounding.positions(target, self._bias - most)[-1]
        fits = rounding.fits(target, self._bias - most) & rounding.fits(target, self._bias + most)
        return (
            fits
            & accumulators.has_no_gaps
            & (first > accumulators.least)
            & (last <= accumulators.most)
        )

    def _spread(self, gains: bool, targets: Sequence[str]) -> None:
        """Moves channels to where thresholds leave room for the rounding of all targets."""
        left = np.flatnonzero(self.left)
        factors = np.ones((1, self.left.size))
        if gains:
            factors = bias_candidates.gain_factors(
                self._multiplier(self.trained), self._code_multiplier
            )
        moved = [self._with_gain(factor) for factor in factors]
        places = np.full(factors.shape, np.nan)
        for row, trained in zip(places, moved, strict=True):
            row[left] = bias_candidates.nearest_bias(
                self._context,
                self._accumulators.select(left),
                trained[left],
                self._multiplier(trained)[left],
                self._code_multiplier,
                targets,
            )
        for _ in range(_ROUNDS):
            possible = np.isfinite(places) & self.left
            trying = np.flatnonzero(possible.any(axis=0))
            if not trying.size:
                return
            choice = possible.argmax(axis=0)
            trained, bias = self.trained.copy(), self._bias.copy()
            for channel in trying:
                trained[channel] = moved[choice[channel]][channel]
                bias[channel] = places[choice[channel], channel]
                places[choice[channel], channel] = np.nan
            self._try(self._rounding(trained), trained, trying, bias, targets)

    def _with_gain(self, factor: np.ndarray) -> np.ndarray:
        """What was trained with the gains multiplied."""
        trained = self.trained.copy()
        trained["gain"] = (trained["gain"] * factor).astype(np.float32)
        return trained

    def _kernel_scale(self, trained: np.ndarray) -> np.ndarray:
        """Kernel scales for moved gains, float32 ``[channels]``."""
        slope, _ = ideal.line(trained, self._context.source.scale)
        scale = channels.kernel_scale(slope, self._context, self._code_multiplier)
        return np.where(trained["gain"] == self._gain, self._scale, scale)

    def _multiplier(self, trained: np.ndarray) -> np.ndarray:
        return self._context.multipliers(self._kernel_scale(trained), "reference")

    def _rounding(self, trained: np.ndarray, ulps: int = 0) -> Rounding:
        scale = moved_scale(self._kernel_scale(trained), ulps)
        return Rounding(self._context, scale, self._code_multiplier, self._accumulators)

    def _try(
        self,
        rounding: Rounding,
        trained: np.ndarray,
        chosen: np.ndarray,
        bias: np.ndarray,
        targets: Sequence[str],
    ) -> None:
        """Settles those of the channels whose thresholds for a bias some offset makes ideal."""
        fits = np.all([rounding.fits(target, bias) for target in targets], axis=0)
        chosen = chosen[fits[chosen]]
        offset, found = _matching_offsets(
            self._context,
            rounding.select(chosen),
            trained[chosen],
            bias[chosen],
            targets,
            self._margin[chosen],
        )
        settled = trained.copy()
        settled["offset"][chosen] = offset
        if self._context.dtype_bits < 8 and found.any():  # Its int8 file has a bias of its own.
            twin = channels.fit(self._codes * ideal.signs(trained), settled, self._twin)
            found &= twin.exact["xnnpack"][chosen]
        chosen = chosen[found]
        self.trained[chosen] = settled[chosen]
        self.left[chosen] = False


def _matching_offsets(
    context: RequantizationContext,
    rounding: Rounding,
    trained: np.ndarray,
    bias: np.ndarray,
    targets: Sequence[str],
    margin: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """float32 offsets that make the targets' thresholds for a bias the ideal ones.

    Each check is for the channels that passed those before: exact thresholds are dear, and hundreds
    of biases may be tried that no offset goes with.

    Args:
      context: where the channels compute.
      rounding: of the channels.
      trained: `export.kernel_sets.ideal.TRAINED` ``[channels]``.
      bias: whole numbers ``[channels]``.
      targets: of `export.kernel_sets.rules.TARGETS`.
      margin: from `export.alignment.bias_candidates.threshold_margin`, ``[channels]``, or less.

    Returns:
      The offsets ``[channels]``, and bool ``[channels]``: where there is one.
    """
    positions = [rounding.positions(target, bias) for target in targets]
    on, slope = positions[0], ideal.line(trained, context.source.scale)[0]
    low, high = _offset_interval(context, rounding, trained, on)
    found = high - low >= 2 * margin
    for other in positions[1:]:
        found &= (other == on).all(axis=0)
    inner = np.fmin(slope, high - low) / 2
    offset = np.clip(trained["offset"], low + inner, high - inner).astype(np.float32)
    left = np.flatnonzero(found)
    settled = trained[left]
    settled["offset"] = offset[left]
    wanted = ideal.thresholds(settled, context.source.scale, context.target.scale, context.levels)
    wanted = rounding.accumulators.select(left).at_or_above(wanted)
    found[left] = (wanted == on[:, left]).all(axis=0)
    return offset, found


def _offset_interval(
    context: RequantizationContext,
    rounding: Rounding,
    trained: np.ndarray,
    on: np.ndarray,
    every: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """The offsets between which the ideal thresholds are given ones, but for float64's rounding.

    Args:
      context: where the channels compute.
      rounding: of the channels.
      trained: `export.kernel_sets.ideal.TRAINED` ``[channels]``.
      on: from `Rounding.positions` ``[levels, channels]``.
      every: see there.

    Returns:
      float64 ``[channels]`` twice; the first greater than the second where there are none.
    """
    off = rounding.accumulators.below(on)
    slope, start = ideal.line(trained, context.source.scale)
    ties = (context.levels[::every, None] - 0.5) * context.target.scale
    needed = ties - (start - trained["offset"])
    low = np.where(on < BEYOND, needed - slope * on, -np.inf).max(axis=0, initial=-np.inf)
    high = np.where(off > -BEYOND, needed - slope * off, np.inf).min(axis=0, initial=np.inf)
    return low, high
