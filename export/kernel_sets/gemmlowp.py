"""The fixed-point functions of gemmlowp (fixedpoint/fixedpoint.h) in NumPy.

Reference kernels call them. A Q0.31 number is an integer of 31 bits behind the point and a sign;
here all are held in int64.
"""

from __future__ import annotations

import numpy as np

# exp(-1/4), exp(-1/2), ... exp(-16) in Q0.31.
_EXP_NEGATIVE_POWERS = (
    1672461947,
    1302514674,
    790015084,
    290630308,
    39332535,
    720401,
    242,
)


def high_mul(left: np.ndarray, right: np.ndarray | int) -> np.ndarray:
    """SaturatingRoundingDoublingHighMul of int32 values held in int64."""
    product = left * right
    return (product + (1 << 30)) >> 31


def shift_away(values: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """RoundingDivideByPOT: half away from zero."""
    amount = np.asarray(shift)
    return (values + ((1 << amount) >> 1) - ((values < 0) & (amount > 0))) >> amount


def exp_on_negative_values(values: np.ndarray, integer_bits: int) -> np.ndarray:
    """exp of fixed-point numbers that are not positive, as Q0.31.

    Args:
      values: integers within int32.
      integer_bits: of the 31 bits, how many are before the point; up to 5.
    """
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    fraction = (values & (quarter - 1)) - quarter
    result = _exp_on_last_quarter(fraction << integer_bits)
    remainder = fraction - values
    for index, factor in enumerate(_EXP_NEGATIVE_POWERS[: integer_bits + 2]):
        bit = 1 << (fraction_bits - 2 + index)
        result = np.where(remainder & bit, high_mul(result, factor), result)
    return np.where(values == 0, (1 << 31) - 1, result)


def _exp_on_last_quarter(values: np.ndarray) -> np.ndarray:
    """exp on [-1/4, 0) in Q0.31: a Taylor expansion around -1/8."""
    exp_eighth, third = 1895147668, 715827883
    x = values + (1 << 28)
    x2 = high_mul(x, x)
    x3 = high_mul(x2, x)
    x4 = high_mul(x2, x2)
    tail = shift_away(high_mul(shift_away(x4, 2) + x3, third) + x2, 1)
    return exp_eighth + high_mul(x + tail, exp_eighth)


def one_over_one_plus_x(values: np.ndarray) -> np.ndarray:
    """1 / (1 + x) for Q0.31 x in [0, 1): three Newton-Raphson steps in Q2.29."""
    total = values + (1 << 31) - 1
    half_denominator = (total + 1) >> 1  # RoundingHalfSum; never negative here
    one = 1 << 29
    x = 1515870810 + high_mul(half_denominator, -1010580540)
    for _ in range(3):
        product = high_mul(half_denominator, x)
        x = x + np.clip(high_mul(x, one - product) << 2, -(1 << 31), (1 << 31) - 1)
    return np.clip(x << 1, -(1 << 31), (1 << 31) - 1)


def logistic(values: np.ndarray, integer_bits: int) -> np.ndarray:
    """1 / (1 + exp(-x)) as Q0.31.

    Args:
      values: integers within int32.
      integer_bits: see `exp_on_negative_values`.
    """
    positive = one_over_one_plus_x(exp_on_negative_values(-np.abs(values), integer_bits))
    return np.where(values == 0, 1 << 30, np.where(values > 0, positive, (1 << 31) - 1 - positive))
