"""From a trained channel to integers: kernel codes, scale and bias.

A channel's output code is a monotone step function of its integer accumulator ``a``:
``clip(round_half_up(slope * a + offset))`` in units of the output's scale. It has at most
``high - low`` thresholds. Kernel codes are stored multiplied by a `stretch`, so the accumulator
moves in steps of that size and the int32 bias can put every threshold inside a step, away from the
ties where kernels round differently.
"""

from __future__ import annotations

import dataclasses

import numpy as np

INT8_MAX = 127
_MAX_BIAS = 2**30
_MAX_MULTIPLIER = 256.0  # XNNPACK takes no requantization scale from here on.
_CONSTANT_MULTIPLIER = 2.0**-10


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Channels:
    """The integers of one weighted operator, channel first.

    Attributes:
      kernel: int8 ``[channels, taps]``: codes times stretch, negated where the slope is negative, 0
        where the output does not depend on the input.
      scale: float32 ``[channels]``, positive: kernel scale for TFLite.
      bias: int32 ``[channels]``.
      stretch: the factor on the codes.
      relu: whether the operator clips at the output's zero point.
      exact: bool ``[channels]``: whether for every reachable accumulator real arithmetic with these
        integers gives the trained output code.
    """

    kernel: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    stretch: int
    relu: bool
    exact: np.ndarray


def fit(
    codes: np.ndarray,
    slope: np.ndarray,
    offset: np.ndarray,
    *,
    input_scale: float,
    input_low: int,
    input_high: int,
    output_scale: float,
    output_low: int,
    output_high: int,
    largest: int = INT8_MAX,
) -> Channels:
    """Chooses the integers of the channels ``real = slope * sum(codes * input codes) + offset``.

    Args:
      codes: int ``[channels, taps]``, magnitudes up to 127.
      slope: float64 ``[channels]``: real output for each unit of the accumulator.
      offset: float64 ``[channels]``: real output at accumulator 0.
      input_scale: scale of the input tensor.
      input_low: smallest input code, zero point subtracted.
      input_high: largest input code, zero point subtracted.
      output_scale: scale of the output tensor.
      output_low: smallest output code, zero point subtracted; 0 behind a ReLU.
      output_high: largest output code, zero point subtracted.
      largest: largest magnitude that a stretched code may have.

    Raises:
      ValueError: if a channel's parameters are not finite or its gain is beyond what kernels take.
    """
    if not (np.isfinite(slope).all() and np.isfinite(offset).all()):
        raise ValueError("a gain or offset is not finite; check the batch normalization's variance")
    codes = np.where(slope[:, None] < 0, -codes, codes).astype(np.int64)
    step = np.abs(slope) / output_scale
    start = offset / output_scale
    stretch = max(1, largest // max(1, int(np.abs(codes).max(initial=0))))
    least, most = _reach(codes, input_low, input_high)
    levels = np.arange(output_low + 1, output_high + 1)

    scale = (np.abs(slope) / input_scale / stretch).astype(np.float32)
    usable = scale >= np.finfo(np.float32).tiny
    multiplier = _multiplier(np.where(usable, scale, 1.0), input_scale, output_scale)
    if (multiplier >= _MAX_MULTIPLIER).any():
        raise ValueError(f"a gain of {multiplier.max():.3g} output steps for each accumulator step")
    low, high = _bias_interval(
        levels, np.where(usable, step, 1.0), start, multiplier, stretch, least, most
    )
    bias = np.floor(_middle(low, high, stretch) + 0.5)
    usable &= np.abs(bias) <= _MAX_BIAS
    exact = usable & (low <= bias) & (bias < high)

    # The other channels do not move the output, or by so little that no int32 bias reaches: they
    # are the constant that they are at accumulator 0.
    constant = np.clip(np.floor(start + 0.5), output_low, output_high)
    constant_scale = np.float32(_CONSTANT_MULTIPLIER * output_scale / input_scale)
    constant_bias = np.floor(
        constant / _multiplier(constant_scale, input_scale, output_scale) + 0.5
    )
    bounds = np.clip(np.floor(step * [least, most] + start + 0.5), output_low, output_high)
    return Channels(
        kernel=np.where(usable[:, None], codes * stretch, 0).astype(np.int8),
        scale=np.where(usable, scale, constant_scale),
        bias=np.where(usable, bias, constant_bias).astype(np.int32),
        stretch=stretch,
        relu=output_low == 0,
        exact=exact | (~usable & (bounds == constant).all(axis=0)),
    )


def _multiplier(scale, input_scale: float, output_scale: float):
    """Output steps for each unit of the stretched accumulator."""
    return input_scale * np.float64(scale) / output_scale


def _reach(codes: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest accumulator of each channel over all inputs."""
    at_low, at_high = codes * low, codes * high
    return np.minimum(at_low, at_high).sum(axis=1), np.maximum(at_low, at_high).sum(axis=1)


def _bias_interval(levels, step, start, multiplier, stretch, least, most):
    """The biases ``low <= bias < high`` that put every threshold where it was trained.

    The output must be at least ``level`` from accumulator ``t`` on and below it at ``t - 1``, where
    ``t`` is the level's trained threshold; only reachable accumulators matter.
    """
    tie = levels[:, None] - 0.5
    threshold = np.ceil((tie - start) / step)
    needed = tie / multiplier
    reached = np.maximum(threshold, least)
    lower = np.where(threshold <= most, needed - stretch * reached, -np.inf).max(axis=0)
    missed = np.minimum(threshold - 1, most)
    upper = np.where(threshold > least, needed - stretch * missed, np.inf).min(axis=0)
    return lower, upper


def _middle(low: np.ndarray, high: np.ndarray, stretch: int) -> np.ndarray:
    """The middle of the intervals; half a step inside where one end is open."""
    middle = np.where(np.isfinite(low) & np.isfinite(high), (low + high) / 2, 0.0)
    middle = np.where(np.isfinite(low) & np.isinf(high), low + stretch / 2, middle)
    return np.where(np.isinf(low) & np.isfinite(high), high - stretch / 2, middle)
