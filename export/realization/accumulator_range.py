"""Which accumulators a channel can take, over every possible input.

Scaled to inputs from 0 to `steps`, a channel's accumulators are the sums ``sum(m * x_m)`` over its
different magnitudes `m`, each taken 0 to `n_m` times: `steps` for each code of that magnitude. Let
`g` be the magnitudes' greatest common divisor and `total` the largest sum. Three facts keep a
channel's table short, however many taps it has:

* Symmetry: with `s`, ``total - s`` is a sum. So what is up to half of `total` tells the rest.
* Regularity: let `m` be a magnitude with ``n_m >= l / g``, `l` the largest of the others, and take
  the sums of those others alone. Among any ``m / g`` terms of one, some add up to a multiple of
  `m`: two of their partial sums are the same modulo `m`. Without them the sum is one of the same
  residue, lower by at most ``m / g * l``, which is no more than ``n_m * m``. So sums of one residue
  are no farther apart than multiples of `m` bridge, and the least of them has fewer than ``m / g``
  terms. From ``(m / g - 1) * l`` up to its mirror image all sums therefore repeat with period `m`.
* Where there is no such `m`, `total` is less than the sum of ``l / g * m``: about a million for
  every magnitude from 1 to 127.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from export.ir.operators import Weighted
from export.kernel_sets.ideal import BEYOND

_MAGNITUDES = 129  # An int8 code may be -128, in a graph from elsewhere.
_BLOCK = 1 << 20  # Codes that are looked at together.
_MOST_HELD = 1 << 26  # Sums.


class AccumulatorRange:
    """The accumulators that the channels of one operator can take.

    An accumulator is ``sum(codes * x)`` over inputs `x` that each take every step from `low` to
    `high`. Most channels take every value between their smallest and their largest; where there are
    gaps (a kernel without a code of 1, say), the irregular ones next to the smallest are held, once
    for all channels with the same magnitudes: seldom more than a few hundred.

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
        self.least, self.most, counts = _bounds(codes, low, high)
        magnitudes = np.arange(_MAGNITUDES)
        reached = (high - low) * magnitudes * counts
        before = np.cumsum(reached, axis=1) - reached
        self.has_no_gaps = ~np.any((counts > 0) & (magnitudes > 1 + before), axis=1)
        gaps = np.flatnonzero(~self.has_no_gaps)
        different, table = np.unique(counts[gaps], axis=0, return_inverse=True)
        tables = list(_tables(different, high - low))
        # Sums of table t are t * BEYOND + sum, all in one sorted array: one search serves all.
        self._sums = np.concatenate(
            [BEYOND * index + sums for index, (sums, _) in enumerate(tables)]
            or [np.empty(0, np.int64)]
        )
        self._ends = np.cumsum([sums.size for sums, _ in tables], dtype=np.int64) - 1
        self._periods = np.array([period for _, period in tables], np.int64)
        self._uneven = np.array([(sums > sums[-1] - each).sum() > 1 for sums, each in tables], bool)
        self._table = np.full(len(codes), -1)
        self._table[gaps] = table.ravel()
        self._asked: np.ndarray | None = None
        self._around = np.empty(0, np.int64), np.empty(0, np.int64)

    @property
    def held(self) -> int:
        """How many sums are held for all channels together."""
        return self._sums.size

    def at_or_above(self, accumulator: np.ndarray) -> np.ndarray:
        """The smallest of a channel's accumulators from `accumulator` on; `BEYOND` where none is.

        Args:
          accumulator: int64 ``[..., channels]``.
        """
        result = np.maximum(accumulator, self.least)
        gaps = np.flatnonzero(self._table >= 0)
        if gaps.size:
            least, most, table = self.least[gaps], self.most[gaps], self._table[gaps]
            sums = np.minimum(result[..., gaps], most) - least
            result[..., gaps] = least + self._next_sums(sums, most - least, table)
        return np.where(accumulator > self.most, BEYOND, result)

    def below(self, accumulator: np.ndarray) -> np.ndarray:
        """The largest of a channel's accumulators under `accumulator`; `-BEYOND` where none is."""
        ends = self.least + self.most  # The accumulators are symmetric.
        mirrored = self.at_or_above(ends + 1 - accumulator)
        return np.where(mirrored == BEYOND, -BEYOND, ends - mirrored)

    def around(self, accumulator: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`below` and `at_or_above`; the last are kept, for every kernel set asks for the same."""
        if self._asked is None or not np.array_equal(self._asked, accumulator):
            self._asked = accumulator.copy()
            self._around = self.below(accumulator), self.at_or_above(accumulator)
        return self._around

    def select(self, channels: np.ndarray | slice) -> AccumulatorRange:
        """The accumulators of some of the channels, by index."""
        chosen = object.__new__(AccumulatorRange)
        chosen.least, chosen.most = self.least[channels], self.most[channels]
        chosen.has_no_gaps = self.has_no_gaps[channels]
        chosen._table = self._table[channels]
        chosen._asked = None
        chosen._sums, chosen._ends = self._sums, self._ends
        chosen._periods, chosen._uneven = self._periods, self._uneven
        return chosen

    def _next_sums(self, asked: np.ndarray, total: np.ndarray, table: np.ndarray) -> np.ndarray:
        """The smallest sum from `asked` on.

        Args:
          asked: int64 ``[..., channels]`` from 0 to `total`.
          total: the largest sum of each channel.
          table: its table.
        """
        first, period = BEYOND * table, self._periods[table]
        last = self._sums[self._ends[table]] - first  # From here to its mirror image: periodic.
        near = np.minimum(asked, total - last)
        moved = period * np.maximum(-((last - near) // period), 0)
        result = last + moved
        # Most of what is asked is between, in channels with one sum in each period.
        where = np.nonzero((asked <= last) | self._uneven[table])
        found = np.searchsorted(self._sums, (first + near - moved)[where])
        result[where] = self._sums[found] - first[where[-1]] + moved[where]
        where = np.nonzero(asked > total - last)
        found = np.searchsorted(self._sums, (first + total - asked)[where], side="right") - 1
        result[where] = (total + first)[where[-1]] - self._sums[found]
        return result


def accumulated_codes(operator: Weighted) -> np.ndarray:
    """A kernel without its code multiplier: the trained codes, negated where the gain is negative.

    Returns:
      int8 ``[channels, taps]``.
    """
    return operator.rows // np.int8(operator.code_multiplier)


def _bounds(codes: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The smallest and the largest accumulator, and how many codes have which magnitude.

    Returns:
      int64 ``[channels]`` twice, and ``[channels, magnitudes]``.
    """
    channels, taps = codes.shape
    least, most = np.empty(channels, np.int64), np.empty(channels, np.int64)
    counts = np.empty((channels, _MAGNITUDES), np.int64)
    rows = max(1, _BLOCK // max(1, taps))
    for first in range(0, channels, rows):
        block = slice(first, first + rows)
        part = codes[block].astype(np.int16)
        positive = np.maximum(part, 0).sum(axis=1, dtype=np.int64)
        negative = part.sum(axis=1, dtype=np.int64) - positive
        least[block] = positive * low + negative * high
        most[block] = positive * high + negative * low
        places = np.abs(part) + _MAGNITUDES * np.arange(len(part), dtype=np.int32)[:, None]
        found = np.bincount(places.ravel(), minlength=_MAGNITUDES * len(part))
        counts[block] = found.reshape(len(part), _MAGNITUDES)
    counts[:, 0] = 0
    return least, most, counts


def _tables(different: np.ndarray, steps: int) -> Iterator[tuple[np.ndarray, int]]:
    """`_first_sums` of every row of counts.

    Raises:
      ValueError: they are more than `_MOST_HELD`.
    """
    held = 0
    for counts in different:
        sums, period = _first_sums(counts, steps)
        held += sums.size
        if held > _MOST_HELD:
            raise ValueError(
                f"the accumulators of {len(different):,} channels have too many gaps to be held"
            )
        yield sums, period


def _first_sums(counts: np.ndarray, steps: int) -> tuple[np.ndarray, int]:
    """The sums of a channel as far as they are irregular.

    Args:
      counts: how many codes have which magnitude, ``[magnitudes]``.
      steps: the largest input step.

    Returns:
      The first sums, int64, sorted, and a period: from the last of them to its mirror image, sums
      repeat those of the period that ends there.
    """
    magnitudes = np.flatnonzero(counts)
    most = {int(magnitude): steps * int(counts[magnitude]) for magnitude in magnitudes}
    divisor = math.gcd(*most)
    total = sum(magnitude * times for magnitude, times in most.items())
    limit, period = total // 2, 0
    for magnitude, times in most.items():  # The smallest first: its period is the shortest.
        largest = max((other for other in most if other != magnitude), default=0)
        regular = (magnitude // divisor - 1) * largest
        if times * divisor >= largest and regular + magnitude <= total // 2:
            limit, period = regular + magnitude, magnitude
            break
    sums = _sums(most, limit)
    if period:
        _, first = np.unique(sums % period, return_index=True)
        if first.size < period // divisor:  # Some residues are never reached.
            end = int(first.max())
            return sums[: end + 1], period
    elif limit - sums[-1] >= divisor:  # Irregular up to the middle.
        return np.append(sums, total - sums[-1]), 1
    uneven = np.flatnonzero(np.diff(sums) != divisor)
    end = int(uneven[-1]) + 1 if uneven.size else 0
    return sums[: end + 1], divisor


def _sums(most: dict[int, int], limit: int) -> np.ndarray:
    """Every sum up to `limit` of magnitudes that are each taken up to so many times, sorted."""
    reached, mask = 1, (2 << limit) - 1  # Sets are bits of an int.
    for magnitude, times in most.items():
        left, power = min(times, limit // magnitude), 1
        while left:  # Multiples by doubling: 1, 2, 4, ... and what is left over.
            count = min(power, left)
            reached |= (reached << (count * magnitude)) & mask
            left -= count
            power *= 2
    size = (reached.bit_length() + 7) // 8
    bits = np.frombuffer(reached.to_bytes(size, "little"), np.uint8)
    return np.flatnonzero(np.unpackbits(bits, bitorder="little"))
