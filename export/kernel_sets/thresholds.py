"""The thresholds of each kernel's rounding rule, over every accumulator of 32 bits."""

from __future__ import annotations

import numpy as np

from export.kernel_sets import requantization
from export.kernel_sets.ideal import BEYOND

_INT32_MAX = 2**31 - 1
_PRODUCT_MAX = 2**31 - 2**10  # Room for the zero point, and for the rounding of float32.


def domain(rule: str, multiplier: np.ndarray) -> np.ndarray:
    """The largest magnitude of an accumulator for which a rule's integers do not overflow.

    Args:
      rule: see `export.kernel_sets.rules`.
      multiplier: ``[channels]``.

    Returns:
      int64 ``[channels]``.
    """
    product = _PRODUCT_MAX / multiplier.astype(np.float64)
    limit = np.minimum(product, _INT32_MAX).astype(np.int64)
    if rule.startswith("double"):  # The accumulator is shifted left before it is multiplied.
        _, shift = requantization.quantize_multiplier(multiplier)
        return np.minimum(limit, np.int64(_INT32_MAX) >> np.maximum(shift, 0))
    return limit


def smallest_accumulators(rule: str, multiplier: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The smallest accumulator, bias included, that a rule rounds to at least each level.

    Args:
      rule: see `export.kernel_sets.rules`.
      multiplier: positive, ``[channels]``, of the dtype that the rule takes.
      levels: int ``[levels]``, output codes with the zero point subtracted.

    Returns:
      int64 ``[levels, channels]``; `BEYOND` where none does, `-BEYOND` where all do.
    """
    limit = domain(rule, multiplier)
    wanted = levels[:, None]

    def reaches(accumulator: np.ndarray) -> np.ndarray:
        return requantization.requantize(accumulator, rule, multiplier) >= wanted

    # A rule is monotone: bisection, first within the few steps by which it can differ from real
    # arithmetic, and over the whole domain where that does not hold the threshold.
    real = (wanted - 0.5) / multiplier.astype(np.float64)
    width = 3 + np.ceil(np.abs(real) * 2.0**-21)
    below = np.clip(np.floor(real - width), -limit, limit).astype(np.int64)
    above = np.clip(np.ceil(real + width), -limit, limit).astype(np.int64)
    always, never = reaches(below), ~reaches(above)
    if always.any() or never.any():
        below, above = np.where(always, -limit, below), np.where(never, limit, above)
        always, never = reaches(below), ~reaches(above)
    while (above - below > 1).any():
        middle = (above + below) // 2
        high = reaches(middle)
        above, below = np.where(high, middle, above), np.where(high, below, middle)
    return np.where(never, BEYOND, np.where(always, -BEYOND, above))
