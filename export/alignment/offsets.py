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
_MOST_TRIALS = 64
_FACTORS = 8  # Gains for which a channel's place is looked for at a time.
_BLOCK = 32  # Channels whose biases are looked at together.
_WITNESSES = 4  # Pairs of levels that exclude biases of a channel at a time.


def settled(
    graph: IntegerGraph,
    operator: Weighted,
    *,
    gains: bool = False,
    kernel_sets: Sequence[str] = TARGETS,
) -> np.ndarray:
    """What an operator is to compute instead of what it was trained to, moved as `settle` says.

    Args:
      graph: from `export.realization.network.whole`, groups to be split.
      operator: one of its operators.
      gains: whether 'gain' may move too.
      kernel_sets: see `export.settle`.

    Returns:
      `export.ir.provenance.TRAINED` ``[channels]``; 'offset' and 'gain' are float32 numbers.
    """
    context = RequantizationContext.of(graph, operator, kernel_sets, split_groups=True)
    codes = accumulated_codes(operator)
    accumulators = AccumulatorRange(codes, context.source.low, context.source.high)
    attempts = []
    shared = rules.is_per_tensor(type(operator), operator.kernel_scale, operator.dtype_bits)
    for ulps in ULPS if shared else (0,):
        attempt = _Settler(context, operator, ulps, codes, accumulators)
        attempt.run(gains, (0,) if shared else ULPS)
        attempts.append(attempt)
        if not attempt.left.any():
            break
    return min(attempts, key=lambda attempt: attempt.left.sum()).trained


def recoded(graph: IntegerGraph, operator: Weighted, settled: np.ndarray) -> np.ndarray:
    """Which channels have another code for some input than before they settled, bool."""
    context, codes = RequantizationContext.of(graph, operator), accumulated_codes(operator)
    accumulators = AccumulatorRange(codes, context.source.low, context.source.high)
    assert operator.trained is not None
    scales = context.source.scale, context.target.scale
    before, after = (
        accumulators.at_or_above(ideal.thresholds(each, *scales, context.levels))
        for each in (operator.trained, settled)
    )
    return np.asarray((before != after).any(axis=0))


class _Settler:
    """The channels of one operator on their way.

    Args:
      context: where the channels compute.
      operator: the operator.
      ulps: float32 steps by which all its kernel scales move.
      codes: from `accumulated_codes`.
      accumulators: what they can take.

    Attributes:
      trained: what they are to compute.
      left: bool ``[channels]``: those for which that was not found yet.
    """

    def __init__(
        self,
        context: RequantizationContext,
        operator: Weighted,
        ulps: int,
        codes: np.ndarray,
        accumulators: AccumulatorRange,
    ):
        self._scale = moved_scale(operator.kernel_scale, ulps)
        self._context, self._codes, self._accumulators = context, codes, accumulators
        self._twin = dataclasses.replace(context, dtype_bits=8, delegated=True)
        assert operator.trained is not None
        self._bias, self._code_multiplier = operator.bias.astype(np.int64), operator.code_multiplier
        self._gain = operator.trained["gain"]
        self.trained = operator.trained.copy()
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
        some: tuple[Sequence[str], ...] = (_FAST, (*first, "optimized_arm"))
        if set(self._context.kernel_sets) != set(TARGETS):
            some = (self._context.targets,)
        for targets in (TARGETS, *some):
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
        left = np.flatnonzero(self.left)
        for start in range(0, left.size, _BLOCK):
            self._walk(plain, left[start : start + _BLOCK], limit, first)

    def _walk(
        self, plain: Rounding, channels: np.ndarray, limit: np.ndarray, targets: Sequence[str]
    ) -> None:
        """Settles channels on the nearest bias that serves, from a move by 2 on.

        Two levels that leave no offset between them at one bias mostly leave none at many others:
        so few biases are looked at with all levels. A bias that passes is tried exactly; a channel
        gives up after `_MOST_TRIALS` of them or up to as many more, where three were the most that
        any was seen to need.

        Args:
          plain: of all channels.
          channels: which to settle, by index.
          limit: how far the bias of each channel may move, ``[channels]``.
          targets: one target.
        """
        count = 2 * np.maximum(limit[channels].astype(np.int64) - 1, 0)
        order = _ranks(count)
        chosen, column = np.repeat(channels, count), np.repeat(np.arange(channels.size), count)
        bias = self._bias[chosen] + np.where(order % 2, -1, 1) * (2 + order // 2)  # 2, -2, 3, ...
        kept, looked_at = plain.select(chosen).fits(targets[0], bias), _WITNESSES
        trials = np.zeros(channels.size, np.int64)
        while kept.any():
            chosen, column, bias = chosen[kept], column[kept], bias[kept]
            order = _ranks(np.unique(chosen, return_counts=True)[1])
            now = np.flatnonzero(order < looked_at)
            low, high = self._bounds(plain, chosen[now], bias[now], targets[0])
            room = high.min(axis=0, initial=np.inf) - low.max(axis=0, initial=-np.inf)
            found = room >= 2 * self._margin[chosen[now]]
            trying = now[found]
            self._try_each(plain, chosen[trying], bias[trying], targets)
            trials += np.bincount(column[trying], minlength=channels.size)
            kept = self.left[chosen] & (order >= looked_at) & (trials[column] < _MOST_TRIALS)
            failed = ~found & (order[now] < _WITNESSES)
            witnesses = np.zeros((2, _WITNESSES, channels.size), np.int64)
            if failed.any():
                place = order[now[failed]], column[now[failed]]
                witnesses[0][place] = low[:, failed].argmax(axis=0)
                witnesses[1][place] = high[:, failed].argmin(axis=0)
            levels = witnesses.reshape(-1, channels.size)[:, column[kept]]
            low, high = self._bounds(plain, chosen[kept], bias[kept], targets[0], levels)
            room = high.min(axis=0) - low.max(axis=0)
            kept[kept] = room >= 2 * self._margin[chosen[kept]]
            looked_at = min(4 * looked_at, _MOST_TRIALS)

    def _bounds(
        self,
        plain: Rounding,
        chosen: np.ndarray,
        bias: np.ndarray,
        target: str,
        levels: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """`_offset_bounds` of biases of some channels.

        Args:
          plain: of all channels.
          chosen: the channel of each bias.
          bias: whole numbers.
          target: one target.
          levels: see `Rounding.positions`.
        """
        rounding = plain.select(chosen)
        on = rounding.positions(target, bias, levels)
        return _offset_bounds(self._context, rounding, self.trained[chosen], on, levels)

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
          bool ``[channels]``: not where a threshold could leave the accumulator range or enter it.
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
        factors = np.ones((1, self.left.size))
        if gains:
            factors = bias_candidates.gain_factors(
                self._multiplier(self.trained), self._code_multiplier
            )
        places = np.full(factors.shape, np.nan)
        known = np.zeros(self.left.size, np.int64)  # Factors for which a channel's place is known.
        for _ in range(_ROUNDS):
            possible = np.isfinite(places)
            while (
                missing := np.flatnonzero(
                    self.left & ~possible.any(axis=0) & (known < len(factors))
                )
            ).size:
                rows = known[missing] + np.arange(_FACTORS)[:, None]
                chosen = np.broadcast_to(missing, rows.shape)[rows < len(factors)]
                rows = rows[rows < len(factors)]
                places[rows, chosen] = self._nearest(chosen, factors[rows, chosen], targets)
                known[missing] += _FACTORS
                possible = np.isfinite(places)
            trying = np.flatnonzero(possible.any(axis=0) & self.left)
            if not trying.size:
                return
            choice = possible.argmax(axis=0)[trying]
            trained, bias = self.trained.copy(), self._bias.copy()
            trained["gain"][trying] = self._moved_gain(trying, factors[choice, trying])
            bias[trying] = places[choice, trying]
            places[choice, trying] = np.nan
            self._try(self._rounding(trained), trained, trying, bias, targets)

    def _nearest(
        self, chosen: np.ndarray, factors: np.ndarray, targets: Sequence[str]
    ) -> np.ndarray:
        """`bias_candidates.nearest_bias` of some channels, their gains multiplied."""
        trained = self.trained[chosen]
        trained["gain"] = self._moved_gain(chosen, factors)
        return bias_candidates.nearest_bias(
            self._context,
            self._accumulators.select(chosen),
            trained,
            self._multiplier(trained, chosen),
            self._code_multiplier,
            targets,
        )

    def _moved_gain(self, chosen: np.ndarray, factors: np.ndarray) -> np.ndarray:
        return (self.trained["gain"][chosen] * factors).astype(np.float32)

    def _kernel_scale(
        self, trained: np.ndarray, chosen: np.ndarray | slice = slice(None)
    ) -> np.ndarray:
        """Kernel scales of some channels for moved gains, float32."""
        slope, _ = ideal.line(trained, self._context.source.scale)
        scale = channels.kernel_scale(slope, self._context, self._code_multiplier)
        return np.where(trained["gain"] == self._gain[chosen], self._scale[chosen], scale)

    def _multiplier(
        self, trained: np.ndarray, chosen: np.ndarray | slice = slice(None)
    ) -> np.ndarray:
        return self._context.multipliers(self._kernel_scale(trained, chosen), "reference")

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
      trained: `export.ir.provenance.TRAINED` ``[channels]``.
      bias: whole numbers ``[channels]``.
      targets: of `export.kernel_sets.rules.TARGETS`.
      margin: from `export.alignment.bias_candidates.threshold_margin`, ``[channels]``, or less.

    Returns:
      The offsets ``[channels]``, and bool ``[channels]``: where there is one.
    """
    positions = [rounding.positions(target, bias) for target in rounding.different(targets)]
    on, slope = positions[0], ideal.line(trained, context.source.scale)[0]
    low, high = _offset_bounds(context, rounding, trained, on)
    low, high = low.max(axis=0, initial=-np.inf), high.min(axis=0, initial=np.inf)
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


def _offset_bounds(
    context: RequantizationContext,
    rounding: Rounding,
    trained: np.ndarray,
    on: np.ndarray,
    levels: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest offset with which a level's ideal threshold is the given one.

    Args:
      context: where the channels compute.
      rounding: of the channels.
      trained: `export.ir.provenance.TRAINED` ``[channels]``.
      on: from `Rounding.positions` ``[levels, channels]``.
      levels: see there.

    Returns:
      float64 ``[levels, channels]`` twice, as float64 rounds them; infinite where nothing bounds.
    """
    off = rounding.accumulators.below(on)
    slope, start = ideal.line(trained, context.source.scale)
    ties = (context.levels - 0.5) * context.target.scale
    needed = (ties[:, None] if levels is None else ties[levels]) - (start - trained["offset"])
    low = np.where(on < BEYOND, needed - slope * on, -np.inf)
    return low, np.where(off > -BEYOND, needed - slope * off, np.inf)


def _ranks(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... up to each count, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
