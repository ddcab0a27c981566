"""What a channel was trained to compute, in exact arithmetic.

The trained output code is ``clip(floor(real / output_scale + 1/2))``. `real` grows with the
accumulator (codes are negated where the gain is negative), so a channel is known by its thresholds:
for each code above the lowest, the smallest accumulator that reaches it. Ideal is the real number
itself: trained parameters are float32, hence exact rationals, and the one irrational number, the
square root of the variance, is compared by squaring. Thresholds are found in float64 with a bound
on its error; where that leaves a doubt, `fractions.Fraction` decides.
"""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np

BEYOND = 1 << 40
"""Larger than any accumulator: the threshold of a code that is never reached."""

_ROUNDING = 2.0**-48  # More than the float64 operations below can lose, relative to each term.


def digest(codes: np.ndarray) -> int:
    """64 bits that tell one channel's trained codes from others'; `codes` in TFLite's order."""
    content = np.ascontiguousarray(codes, np.int8).tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def signs(trained: np.ndarray) -> np.ndarray:
    """By what trained codes ``[channels, taps]`` are multiplied in a file, and back: 1 or -1.

    Returns:
      int8 ``[channels, 1]``.
    """
    return np.where(trained["gain"] < 0, np.int8(-1), np.int8(1))[:, None]


def line(trained: np.ndarray, input_scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Slope and value at accumulator 0 of the real output, rounded to float64.

    Args:
      trained: `TRAINED` ``[channels]``.
      input_scale: scale of the input tensor.

    Returns:
      float64 ``[channels]`` each; the slope for each step of the accumulator, not negative.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # `check_finite` tells.
        gain = trained["gain"] / np.sqrt(trained["variance"])
        return np.abs(gain) * trained["scale"] * input_scale, gain * trained["shift"] + trained[
            "offset"
        ]


def check_finite(trained: np.ndarray, input_scale: float) -> None:
    """Raises ValueError where `line` of a channel is not finite."""
    if not np.isfinite(line(trained, input_scale)).all():
        raise ValueError("a gain or offset is not finite; check the batch normalization's variance")


def thresholds(
    trained: np.ndarray, input_scale: float, output_scale: float, levels: np.ndarray
) -> np.ndarray:
    """The smallest accumulator from which a channel's output code is at least each level.

    Args:
      trained: `TRAINED` ``[channels]``, finite, variance positive.
      input_scale: scale of the input tensor.
      output_scale: scale of the output tensor.
      levels: int ``[levels]``, output codes with the zero point subtracted.

    Returns:
      int64 ``[levels, channels]``, of accumulators of the trained codes, negated where the gain is
      negative; `BEYOND` (or ``-BEYOND``) where no (or every) accumulator reaches the level.
    """
    slope, start = line(trained, input_scale)
    tie = (levels[:, None] - 0.5) * output_scale
    flat = slope == 0
    divisor = np.where(flat, 1.0, slope)
    terms = np.abs(tie) + np.abs(start - trained["offset"]) + 2 * np.abs(trained["offset"])
    position = np.clip((tie - start) / divisor, -BEYOND, BEYOND)
    doubt = _ROUNDING * (terms / divisor + np.abs(position))
    nearest = np.rint(position)
    result = np.ceil(position).astype(np.int64)
    unsure = (np.abs(position - nearest) <= doubt) & (np.abs(position) < BEYOND) & ~flat
    for level, channel in zip(*np.nonzero(unsure), strict=True):
        exact = Channel(trained[channel], input_scale)
        exact_tie = Fraction(2 * int(levels[level]) - 1, 2) * Fraction(output_scale)
        result[level, channel] = exact.threshold(exact_tie, int(nearest[level, channel]))
    return np.where(flat, np.where(trained["offset"] >= tie, -BEYOND, BEYOND), result)


class Channel:
    """One channel in exact rational arithmetic.

    Args:
      trained: one record of `TRAINED`.
      input_scale: scale of the input tensor.
    """

    def __init__(self, trained: np.void, input_scale: float):
        self._gain, self._shift, self._variance, self._offset = (
            Fraction(float(trained[name])) for name in ("gain", "shift", "variance", "offset")
        )
        sign = -1 if self._gain < 0 else 1
        self._scale = sign * Fraction(float(trained["scale"])) * Fraction(input_scale)

    def threshold(self, real: Fraction, guess: int) -> int:
        """The smallest accumulator at which the real output is at least `real`.

        Args:
          real: any.
          guess: where to look first; what is further than `BEYOND` from it is not looked at.
        """
        step = 1  # Doubled until the threshold lies between.
        if self.reaches(guess, real):
            while step < BEYOND and self.reaches(guess - step, real):
                step *= 2
            low, high = guess - step, guess - step // 2
        else:
            while step < BEYOND and not self.reaches(guess + step, real):
                step *= 2
            low, high = guess + step // 2, guess + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.reaches(middle, real) else (middle, high)
        return high

    def reaches(self, accumulator: int, real: Fraction) -> bool:
        """Whether the channel's real output at `accumulator` is at least `real`."""
        # gain * (scale * a + shift) / sqrt(variance) + offset >= real, with the root multiplied
        # out; both sides are squared where they have one sign.
        left = self._gain * (self._scale * accumulator + self._shift)
        right = real - self._offset
        if (left >= 0) != (right >= 0):
            return left >= 0
        left_square, right_square = left * left, right * right * self._variance
        return left_square >= right_square if left >= 0 else left_square <= right_square
