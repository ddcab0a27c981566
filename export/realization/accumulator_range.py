"""Which accumulators a channel can take, over every possible input."""

from __future__ import annotations

import numpy as np

from export.ir.graph import Weighted, channel_rows
from export.kernel_sets.ideal import BEYOND


class AccumulatorRange:
    """The accumulators that the channels of one operator can take.

    An accumulator is ``sum(codes * x)`` over inputs `x` that each take every step from `low` to
    `high`. Most channels take every value between their smallest and their largest; where there are
    gaps (a kernel without a code of 1, say), the values themselves are held.

    Args:
      codes: int ``[channels, taps]``, magnitudes up to 127.
      low: smallest input step, at most 0.
      high: largest input step, at least 0.

    Attributes:
      least: int64 ``[channels]``, the smallest accumulator.
      most: int64 ``[channels]``, the largest.
      has_no_gaps: bool ``[channels]``: whether they take every value between.
    """

    def __init__(self, codes: np.ndarray, low: int, high: int):
        positive = np.maximum(codes, 0).sum(axis=1, dtype=np.int64)
        negative = codes.sum(axis=1, dtype=np.int64) - positive
        self.least = positive * low + negative * high
        self.most = positive * high + negative * low
        magnitude = np.sort(np.abs(codes).astype(np.uint8), axis=1, kind="stable").astype(np.int64)
        before = np.cumsum(magnitude, axis=1) - magnitude
        gaps = np.any(magnitude > 1 + (high - low) * before, axis=1)
        self.has_no_gaps = np.logical_not(gaps)
        self._values = {
            int(channel): _sums(magnitude[channel], high - low) + self.least[channel]
            for channel in np.flatnonzero(gaps)
        }

    def at_or_above(self, accumulator: np.ndarray) -> np.ndarray:
        """The smallest of a channel's accumulators from `accumulator` on; `BEYOND` where none is.

        Args:
          accumulator: int64 ``[levels, channels]``.
        """
        result = np.maximum(accumulator, self.least)
        for channel, values in self._values.items():
            index = np.searchsorted(values, accumulator[:, channel])
            result[:, channel] = np.append(values, BEYOND)[index]
        return np.where(accumulator > self.most, BEYOND, result)

    def below(self, accumulator: np.ndarray) -> np.ndarray:
        """The largest of a channel's accumulators under `accumulator`; `-BEYOND` where none is."""
        result = np.minimum(accumulator - 1, self.most)
        for channel, values in self._values.items():
            index = np.searchsorted(values, accumulator[:, channel])
            result[:, channel] = np.insert(values, 0, -BEYOND)[index]
        return np.where(accumulator <= self.least, -BEYOND, result)

    def select(self, channels: np.ndarray) -> AccumulatorRange:
        """The reach of some of the channels, by index."""
        chosen = object.__new__(AccumulatorRange)
        chosen.least, chosen.most = self.least[channels], self.most[channels]
        chosen.has_no_gaps = self.has_no_gaps[channels]
        chosen._values = {
            index: self._values[int(channel)]
            for index, channel in enumerate(channels)
            if int(channel) in self._values
        }
        return chosen


def accumulated_codes(operator: Weighted) -> np.ndarray:
    """A kernel without its code multiplier: the trained codes, negated where the gain is negative.

    Returns:
      int64 ``[channels, taps]``.
    """
    return channel_rows(operator).astype(np.int64) // operator.code_multiplier


def _sums(magnitudes: np.ndarray, steps: int) -> np.ndarray:
    """Every ``sum(magnitudes * x)`` with `x` from 0 to `steps`, sorted; sets are bits of an int."""
    reached = 1
    for magnitude in (int(value) for value in magnitudes if value):
        left = steps
        power = 1
        while left:  # Multiples by doubling: 1, 2, 4, ... and what is left over.
            count = min(power, left)
            reached |= reached << (count * magnitude)
            left -= count
            power *= 2
    size = (reached.bit_length() + 7) // 8
    bits = np.unpackbits(
        np.frombuffer(reached.to_bytes(size, "little"), np.uint8), bitorder="little"
    )
    return np.flatnonzero(bits)
