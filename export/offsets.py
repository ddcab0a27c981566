"""Settling of one operator's offsets and gains: see `export.settle`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from export import agreement, channels, ideal, kernels
from export.channels import ULPS, Rounding, moved_scale
from export.graph import IntegerGraph, Weighted
from export.ideal import BEYOND
from export.kernels import TARGETS
from export.reach import Reach, accumulated_codes
from export.setting import Setting

_FAST = ("xnnpack", "optimized", "optimized_arm")
_ROUNDS = 12
_MOST_STEPS = 2048


def settled(graph: IntegerGraph, operator: Weighted, *, gains: bool = False) -> np.ndarray:
    """What an operator is to compute instead of what it was trained to, moved as `settle` says.

    Args:
      graph: from `export.lower`.
      operator: one of its operators.
      gains: whether 'gain' may move too.

    Returns:
      `export.ideal.TRAINED` ``[channels]``; 'offset' and 'gain' are float32 numbers.
    """
    attempts = []
    shared = kernels.is_per_tensor(type(operator), operator.kernel_scale, operator.storage)
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
        self._setting = setting = Setting.of(graph, operator)
        self._twin = dataclasses.replace(setting, storage=8, delegated=True)
        assert operator.trained is not None
        self._bias, self._stretch = operator.bias.astype(np.int64), operator.stretch
        self._gain = operator.trained["gain"]
        self.trained = operator.trained.copy()
        self._codes = codes = accumulated_codes(operator)
        self._reach = Reach(codes, setting.input_low, setting.input_high)
        slope, _ = ideal.line(self.trained, setting.input_scale)
        self._room = agreement.float32_room(setting, slope)
        self.left: np.ndarray = np.asarray(codes.any(axis=1))  # Constants stay as they are.

    def run(self, gains: bool, scale_ulps: Sequence[int]) -> None:
        """Settles the channels; see `settle`.

        Args:
          gains: whether gains may move.
          scale_ulps: float32 steps by which kernel scales may move.
        """
        self._search(gains, scale_ulps)
        cramped = self.left & (self._room > 0)
        if cramped.any():
            failed = self.left & ~cramped
            self.left, self._room = cramped, np.zeros_like(self._room)
            self._search(gains, scale_ulps)
            self.left |= failed

    def _search(self, gains: bool, scale_ulps: Sequence[int]) -> None:
        plain = self._rounding(self.trained)
        self._try(plain, self.trained, np.flatnonzero(self.left), self._bias, TARGETS)
        first = self._setting.targets[:1]
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
        limit = np.minimum(np.maximum(self._stretch, half_code), _MOST_STEPS)
        limit = np.where(self._repeats(plain, first[0], limit), self._stretch, limit)
        move = 2
        while (trying := np.flatnonzero(self.left & (abs(move) <= limit))).size:
            self._try(plain, self.trained, trying, self._bias + move, first)
            move = -move if move > 0 else 1 - move  # 2, -2, 3, -3, ...

    def _repeats(self, rounding: Rounding, target: str, limit: np.ndarray) -> np.ndarray:
        """Where a bias that moves by a stretch moves all thresholds by a step and changes no more.

        Args:
          rounding: of the channels.
          target: whose.
          limit: how far the bias of each channel may move, ``[channels]``.

        Returns:
          bool ``[channels]``: not where a threshold could come out of the reach or go into it.
        """
        reach, most = self._reach, limit.astype(np.int64)
        first = rounding.positions(target, self._bias + most)[0]
        last = rounding.positions(target, self._bias - most)[-1]
        fits = rounding.fits(target, self._bias - most) & rounding.fits(target, self._bias + most)
        return fits & reach.has_no_gaps & (first > reach.least) & (last <= reach.most)

    def _spread(self, gains: bool, targets: Sequence[str]) -> None:
        """Moves channels to where thresholds leave room for the rounding of all targets."""
        left = np.flatnonzero(self.left)
        factors = np.ones((1, self.left.size))
        if gains:
            factors = agreement.gain_factors(self._multiplier(self.trained), self._stretch)
        moved = [self._with_gain(factor) for factor in factors]
        places = np.full(factors.shape, np.nan)
        for row, trained in zip(places, moved, strict=True):
            row[left] = agreement.nearest_bias(
                self._setting,
                self._reach.select(left),
                trained[left],
                self._multiplier(trained)[left],
                self._stretch,
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
        slope, _ = ideal.line(trained, self._setting.input_scale)
        scale = channels.kernel_scale(slope, self._setting, self._stretch)
        return np.where(trained["gain"] == self._gain, self._scale, scale)

    def _multiplier(self, trained: np.ndarray) -> np.ndarray:
        return self._setting.multipliers(self._kernel_scale(trained), "reference")

    def _rounding(self, trained: np.ndarray, ulps: int = 0) -> Rounding:
        scale = moved_scale(self._kernel_scale(trained), ulps)
        return Rounding(self._setting, scale, self._stretch, self._reach)

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
            self._setting,
            rounding.select(chosen),
            trained[chosen],
            bias[chosen],
            targets,
            self._room[chosen],
        )
        settled = trained.copy()
        settled["offset"][chosen] = offset
        if self._setting.storage < 8 and found.any():  # Its int8 file has a bias of its own.
            twin = channels.fit(self._codes * ideal.signs(trained), settled, self._twin)
            found &= twin.exact["xnnpack"][chosen]
        chosen = chosen[found]
        self.trained[chosen] = settled[chosen]
        self.left[chosen] = False


def _matching_offsets(
    setting: Setting,
    rounding: Rounding,
    trained: np.ndarray,
    bias: np.ndarray,
    targets: Sequence[str],
    room: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """float32 offsets that make the targets' thresholds for a bias the ideal ones.

    Each check is for the channels that passed those before: exact thresholds are dear, and hundreds
    of biases may be tried that no offset goes with.

    Args:
      setting: where the channels compute.
      rounding: of the channels.
      trained: `export.ideal.TRAINED` ``[channels]``.
      bias: whole numbers ``[channels]``.
      targets: of `export.kernels.TARGETS`.
      room: from `export.agreement.float32_room`, ``[channels]``, or less.

    Returns:
      The offsets ``[channels]``, and bool ``[channels]``: where there is one.
    """
    positions = [rounding.positions(target, bias) for target in targets]
    on, off = positions[0], rounding.reach.below(positions[0])
    slope, start = ideal.line(trained, setting.input_scale)
    needed = (setting.levels[:, None] - 0.5) * setting.output_scale - (start - trained["offset"])
    low = np.where(on < BEYOND, needed - slope * on, -np.inf).max(axis=0, initial=-np.inf)
    high = np.where(off > -BEYOND, needed - slope * off, np.inf).min(axis=0, initial=np.inf)
    found = high - low >= 2 * room
    for other in positions[1:]:
        found &= (other == on).all(axis=0)
    inner = np.fmin(slope, high - low) / 2
    offset = np.clip(trained["offset"], low + inner, high - inner).astype(np.float32)
    left = np.flatnonzero(found)
    settled = trained[left]
    settled["offset"] = offset[left]
    wanted = ideal.thresholds(settled, setting.input_scale, setting.output_scale, setting.levels)
    wanted = rounding.reach.select(left).at_or_above(wanted)
    found[left] = (wanted == on[:, left]).all(axis=0)
    return offset, found
