"""Settling of kernels without a bias: scales at which no threshold is next to an accumulator.

Where neither a bias nor a batch normalization moves a channel, its thresholds lie where the scale
of its kernel puts them. Among hundreds of channels of 255 thresholds each there are some that an
accumulator meets to within float32's rounding, so that Keras rounds it otherwise than exact
arithmetic does. At another scale, a hair away, there are none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from export import channels, ideal, kernels
from export.agreement import float32_room, small_changes
from export.graph import IntegerGraph, Weighted
from export.ideal import BEYOND
from export.reach import Reach, accumulated_codes
from export.setting import Setting
from wrpn_tf import WeightQuantizer

MOST_CHANGE = 2.0**-10
"""Scales move by at most this share: an eighth of an output code at 128 codes from 0."""

_TRIED = 64  # Scales on either side.
_ROUNDS = 16


def distance(setting: Setting, reach: Reach, trained: np.ndarray) -> np.ndarray:
    """How near a channel's real output comes to the middle between two codes, at most.

    Args:
      setting: where the channels compute.
      reach: the accumulators that the channels can take.
      trained: `export.ideal.TRAINED` ``[channels]``.

    Returns:
      float64 ``[channels]``, real values; infinite where no accumulator is next to a threshold.
    """
    scales = setting.input_scale, setting.output_scale
    wanted = ideal.thresholds(trained, *scales, setting.levels)
    slope, start = ideal.line(trained, setting.input_scale)
    ties = (setting.levels[:, None] - 0.5) * setting.output_scale
    nearest = np.full(slope.shape, np.inf)
    for accumulator in (reach.at_or_above(wanted), reach.below(wanted)):
        gap = np.abs(slope * accumulator + start - ties)
        gap = np.where(np.abs(accumulator) < BEYOND, gap, np.inf)
        nearest = np.minimum(nearest, gap.min(axis=0, initial=np.inf))
    return nearest


def settle_scales(
    graph: IntegerGraph,
    operator: Weighted,
    quantizer: WeightQuantizer,
    kernel: tf.Variable,
    variables: dict[str, Any],
) -> None:
    """Moves scales of a kernel to the nearest at which its thresholds have room, in place.

    Channels that have it keep theirs, and so do those for which no scale near by gives it together
    with a bias that suits the default kernels, and ARM's if the present one does. Codes stay.

    Args:
      graph: from `export.lower`.
      operator: one of its operators.
      quantizer: of the operator's kernel.
      kernel: what it quantizes.
      variables: the quantizer's.
    """
    if not quantizer.has_free_scale:
        return
    factors = _factors(graph, operator)
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


def _factors(graph: IntegerGraph, operator: Weighted) -> np.ndarray:
    """By what the scales of an operator's channels are to be multiplied, float32 ``[channels]``."""
    setting = Setting.of(graph, operator)
    trained = operator.trained
    assert trained is not None
    factors = np.ones(len(trained), np.float32)
    if kernels.is_per_tensor(setting.operator, operator.kernel_scale, setting.storage):
        return factors
    rows = accumulated_codes(operator)
    room = float32_room(setting, ideal.line(trained, setting.input_scale)[0])
    left = np.flatnonzero(rows.any(axis=1) & (room > 0))
    if not left.size:
        return factors
    codes = rows * ideal.signs(trained)
    reach = Reach(rows, setting.input_low, setting.input_high)
    first, arm = setting.targets[0], "optimized_arm"
    before = channels.fit(codes, trained, setting).exact
    left = left[~before[first][left] | (distance(setting, reach, trained) < room)[left]]
    if not left.size:
        return factors

    candidates = 1 + small_changes(MOST_CHANGE, _TRIED).astype(np.float32)
    selected = reach.select(left)
    roomy = np.stack(
        [
            distance(setting, selected, _scaled(trained[left], factor)) >= room[left]
            for factor in candidates
        ]
    )
    for _ in range(_ROUNDS):  # Depthwise kernels round by position: all channels are fitted.
        possible = roomy.any(axis=0)
        if not possible.any():
            break
        choice = roomy.argmax(axis=0)  # The nearest.
        trying = factors.copy()
        trying[left[possible]] = candidates[choice[possible]]
        exact = channels.fit(codes, _scaled(trained, trying), setting).exact
        served = possible & exact[first][left] & (exact[arm] | ~before[arm])[left]
        factors[left[served]] = trying[left[served]]
        roomy[choice, np.arange(left.size)] = False
        left, roomy = left[~served], roomy[:, ~served]
    return factors


def _scaled(trained: np.ndarray, factors: np.ndarray | np.float32) -> np.ndarray:
    """What was trained with the kernel's scales multiplied."""
    scaled = trained.copy()
    scaled["scale"] = scaled["scale"].astype(np.float32) * factors
    return scaled
