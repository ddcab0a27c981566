"""Settling: the trained biases move to where the device computes exactly what Keras does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tf_keras as keras

import wrpn_tf
from export import agreement, channels, ideal, kernels
from export.channels import ULPS, Rounding, moved_scale
from export.graph import FullyConnected, IntegerGraph, Weighted, channel_rows
from export.ideal import BEYOND
from export.kernels import TARGETS
from export.lowering import lower
from export.reach import Reach
from export.setting import Setting
from export.sums import settle_sums
from wrpn_tf import Kind, LayerView

_FAST = ("xnnpack", "optimized", "optimized_arm")
_ROUNDS = 12
_MOST_STEPS = 2048


def settle(model: keras.Model, *, weights: str = "int8") -> None:
    """Moves offsets so that the device computes the trained codes for every input, in place.

    A device's bias is a whole number of accumulator steps and its kernels round, so where an output
    has 8 bits, or the weights have, the Keras graph rounds a few codes in ten thousand otherwise
    than the device; over many layers that shows in the results. Here the offsets of batch
    normalization, and the biases of convolutions and dense layers without it, move to the middle of
    an interval in which the trained thresholds are the device's, for every possible input:

    * Channels that are exact with all kernels keep every one of their codes.
    * Where some bias near by suits all kernels, the offset moves there, by at most half a step of
      the trained accumulator. A gain of batch normalization may move as well, by at most a 256th,
      half a code at 128 codes from the offset: thresholds that are spread evenly over the steps
      leave no room for a bias, and a slightly different distance between them does.
    * Else a place is sought that suits all kernels but the reference, then one that suits those
      that run by default on x86 and on ARM, and at least the former, by up to half a code.

    Output scales of sums move first, by at most a 256th: see `export.sums`.

    A model that is to be stored as 'int4' or 'int2' moves to where its int8 file, which other
    kernels run, is exact by default as well.

    Call it when training has ended, before the last evaluation.

    Args:
      model: see `export.lower`.
      weights: see `export.lower`: whose grid to settle on.

    Raises:
      LoweringError: if the model has no integer form.
    """
    graph = lower(model, weights=weights, split_groups=False)
    if settle_sums(model, graph):
        graph = lower(model, weights=weights, split_groups=False)
    views = {view.name: view for view in wrpn_tf.view(model)}
    layers = graph.metadata["keras_layers"]
    for operator in graph.operators:
        if not isinstance(operator, Weighted):
            continue
        source, target = layers[operator.inputs[0]], layers[operator.output]
        owner = _bias_owner(views[target], views) if source != target else None
        if owner is None:
            continue
        if owner.kind is Kind.KERNEL:
            owner.layer.bias.assign(settled(graph, operator)["offset"])
            continue
        has_gain = owner.layer.scale and not issubclass(type(operator), FullyConnected)
        trained = settled(graph, operator, gains=has_gain)
        owner.layer.beta.assign(trained["offset"])
        if has_gain:
            owner.layer.gamma.assign(trained["gain"])


def _bias_owner(view: LayerView, views: dict[str, LayerView]) -> LayerView | None:
    """The layer whose offset the operator behind `view` has as its bias, or None."""
    if view.kind is Kind.RELU:
        view = views[view.inputs[0]]
        if view.grid is not None:
            return None
    has_offset = (view.kind is Kind.KERNEL and view.layer.use_bias) or (
        isinstance(view.layer, keras.layers.BatchNormalization) and view.layer.center
    )
    return view if has_offset else None


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
        self._codes = codes = channel_rows(operator).astype(np.int64) // operator.stretch
        self._reach = Reach(codes, setting.input_low, setting.input_high)
        self.left: np.ndarray = np.asarray(codes.any(axis=1))  # Constants stay as they are.

    def run(self, gains: bool, scale_ulps: Sequence[int]) -> None:
        """Settles the channels; see `settle`.

        Args:
          gains: whether gains may move.
          scale_ulps: float32 steps by which kernel scales may move.
        """
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
            self._setting, rounding.select(chosen), trained[chosen], bias[chosen], targets
        )
        settled = trained.copy()
        settled["offset"][chosen] = offset
        if self._setting.storage < 8 and found.any():  # Its int8 file has a bias of its own.
            twin = channels.fit(self._codes * _signs(trained), settled, self._twin)
            found &= twin.exact["xnnpack"][chosen]
        chosen = chosen[found]
        self.trained[chosen] = settled[chosen]
        self.left[chosen] = False


def _signs(trained: np.ndarray) -> np.ndarray:
    """By what kernel rows ``[channels, taps]`` are multiplied to be the trained codes."""
    return np.where(trained["gain"] < 0, -1, 1)[:, None]


def _matching_offsets(
    setting: Setting,
    rounding: Rounding,
    trained: np.ndarray,
    bias: np.ndarray,
    targets: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """float32 offsets that make the targets' thresholds for a bias the ideal ones.

    Each check is for the channels that passed those before: exact thresholds are dear, and hundreds
    of biases may be tried that no offset goes with.

    Returns:
      The offsets ``[channels]``, and bool ``[channels]``: where there is one.
    """
    positions = [rounding.positions(target, bias) for target in targets]
    on, off = positions[0], rounding.reach.below(positions[0])
    slope, start = ideal.line(trained, setting.input_scale)
    needed = (setting.levels[:, None] - 0.5) * setting.output_scale - (start - trained["offset"])
    low = np.where(on < BEYOND, needed - slope * on, -np.inf).max(axis=0, initial=-np.inf)
    high = np.where(off > -BEYOND, needed - slope * off, np.inf).min(axis=0, initial=np.inf)
    found = low <= high
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
