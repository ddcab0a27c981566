"""The thresholds of each kernel's rounding rule, over every accumulator of 32 bits."""

from __future__ import annotations

import functools

import numpy as np

from export.ir.operators import PRODUCT_MAX
from export.kernel_sets.ideal import BEYOND
from export.kernel_sets.requantization import quantize_multiplier, requantize, rounds_half_up

_INT32_MAX, _INT64_MAX = 2**31 - 1, 2**63 - 1


def domain(rule: str, multiplier: np.ndarray) -> np.ndarray:
    """The largest magnitude of an accumulator for which a rule's integers do not overflow.

    Args:
      rule: see `export.kernel_sets.rules`.
      multiplier: ``[channels]``.

    Returns:
      int64 ``[channels]``.
    """
    product = PRODUCT_MAX / multiplier.astype(np.float64)
    limit = np.minimum(product, _INT32_MAX).astype(np.int64)
    if rule.startswith("double"):  # The accumulator is shifted left before it is multiplied.
        _, shift = quantize_multiplier(multiplier)
        return np.minimum(limit, np.int64(_INT32_MAX) >> np.maximum(shift, 0))
    return limit


def smallest_accumulators(rule: str, multiplier: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The smallest accumulator, bias included, that a rule rounds to at least each level.

    Args:
      rule: see `export.kernel_sets.rules`.
      multiplier: positive, ``[channels]``, of the dtype that the rule takes.
      levels: int ``[levels]``, output codes with the zero point subtracted.

    Returns:
      int64 ``[levels, channels]``, read-only; `BEYOND` where none does, `-BEYOND` where all do.
    """
    content = multiplier.tobytes(), levels.astype(np.int64).tobytes()
    return _smallest(rule, multiplier.dtype.str, *content)


@functools.lru_cache(maxsize=1)  # Scales that are tried are mostly chosen, and asked for again.
def _smallest(rule: str, dtype: str, multipliers: bytes, all_levels: bytes) -> np.ndarray:
    """`smallest_accumulators` of arrays with these bytes."""
    multiplier, levels = np.frombuffer(multipliers, dtype), np.frombuffer(all_levels, np.int64)
    limit = domain(rule, multiplier)
    if rule == "single_up" or rule.startswith("double"):
        smallest = _of_fixed_point(rule, multiplier, levels)
        smallest = np.where(
            smallest > limit, BEYOND, np.where(smallest <= -limit, -BEYOND, smallest)
        )
    else:
        smallest = _of_floats(rule, multiplier, levels, limit)
    smallest.flags.writeable = False
    return smallest


def _of_fixed_point(rule: str, multiplier: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """`smallest_accumulators` of a rule of integers, solved for the accumulator.

    May be any number beyond the domain where no accumulator within it is the threshold.
    """
    mantissa, shift = quantize_multiplier(multiplier)
    wanted = levels.astype(np.int64)[:, None]
    if rule == "single_up":  # a m + 2 ** (30 - s) >= level 2 ** (31 - s)
        product = _shifted(2 * wanted - 1, 30 - shift)
        return _least_factor(product, mantissa)
    # (y + 2 ** (right - 1)) >> right >= level, where a negative y is 1 less unless it rounds up.
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    away = ~rounds_half_up(rule, multiplier.size) & (right > 0) & (wanted <= 0)
    first = (wanted << right) - ((1 << right) >> 1) + away
    # y = (a 2 ** left m + 2 ** 30) >> 31
    return _least_factor(_shifted(2 * first - 1, 30), mantissa << left)


def _shifted(values: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """``values * 2 ** shift``, or the largest int64, which no product of kernels reaches."""
    limit = np.int64(_INT64_MAX) >> shift
    return np.where(np.abs(values) <= limit, values << shift, np.sign(values) * _INT64_MAX)


def _least_factor(product: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The smallest integers that times `factor`, not negative, are at least `product`."""
    none = np.where(product > 0, BEYOND, -BEYOND)
    return np.where(factor > 0, -(-product // np.maximum(factor, 1)), none)


def _of_floats(
    rule: str, multiplier: np.ndarray, levels: np.ndarray, limit: np.ndarray
) -> np.ndarray:
    """`smallest_accumulators` of a rule of floats: monotone, so found by bisection."""
    wanted = levels[:, None]

    def reaches(accumulator: np.ndarray, channels: np.ndarray | slice = slice(None)) -> np.ndarray:
        return requantize(accumulator, rule, multiplier[channels]) >= wanted

    # Mostly the next integer of real arithmetic; otherwise within the few steps by which a rule can
    # differ from it; and if that does not hold the threshold, anywhere in the domain.
    real = (wanted - 0.5) / multiplier.astype(np.float64)
    smallest = np.clip(np.ceil(real), 1 - limit, limit).astype(np.int64)
    known = reaches(smallest) & ~reaches(smallest - 1)
    doubtful = np.flatnonzero(~known.all(axis=0))
    if not doubtful.size:
        return smallest
    real, limit = real[:, doubtful], limit[doubtful]
    width = 3 + np.ceil(np.abs(real) * 2.0**-21)
    below = np.clip(np.floor(real - width), -limit, limit).astype(np.int64)
    above = np.clip(np.ceil(real + width), -limit, limit).astype(np.int64)
    always, never = reaches(below, doubtful), ~reaches(above, doubtful)
    if always.any() or never.any():
        below, above = np.where(always, -limit, below), np.where(never, limit, above)
        always, never = reaches(below, doubtful), ~reaches(above, doubtful)
    while (above - below > 1).any():
        middle = (above + below) // 2
        high = reaches(middle, doubtful)
        above, below = np.where(high, middle, above), np.where(high, below, middle)
    smallest[:, doubtful] = np.where(never, BEYOND, np.where(always, -BEYOND, above))
    return smallest
