"""SOFTMAX on int8 codes as TFLite's kernels compute it.

The optimized kernel looks exponentials up in a table, of float32 or, on ARM, of 16-bit integers;
the reference kernel evaluates them in gemmlowp's fixed point. All give codes of grid (1/256, -128).
"""

from __future__ import annotations

import numpy as np

from export.kernel_sets import requantization

# exp(-1/4), exp(-1/2), ... exp(-16) in Q0.31; gemmlowp fixedpoint/fixedpoint.h.
_EXP_NEGATIVE_POWERS = (
    1672461947,
    1302514674,
    790015084,
    290630308,
    39332535,
    720401,
    242,
)
_INTEGER_BITS = 5
_FRACTION_BITS = 31 - _INTEGER_BITS
_ACCUMULATOR_BITS = 12
# 512 with the accumulator's 19 bits behind the point: gemmlowp checks a shift of at most 31 bits.
_TOTAL_LIMIT = 1 << 28


def optimized(codes: np.ndarray, scale: float) -> np.ndarray:
    """TFLite kernels/internal/optimized/optimized_ops.h Softmax with PopulateSoftmaxLookupTable.

    Args:
      codes: int8 ``[..., classes]``.
      scale: scale of the input's grid.

    Returns:
      int8 of the same shape.
    """
    distances = np.arange(256, dtype=np.float32) * np.float32(-scale)
    table = np.exp(distances.astype(np.float64)).astype(np.float32)
    steps = codes.astype(np.int32)
    values = table[steps.max(axis=-1, keepdims=True) - steps]
    total = np.zeros(values.shape[:-1], np.float32)
    for index in range(values.shape[-1]):  # float32 sums depend on the order
        total += values[..., index]
    inverse = np.float32(1) / (total * np.float32(1 / 256))
    scaled = (values * inverse[..., None]).astype(np.float64)
    return np.clip(np.floor(scaled + 0.5) - 128, -128, 127).astype(np.int8)


def optimized_arm(codes: np.ndarray, scale: float) -> np.ndarray:
    """TFLite kernels/internal/optimized/optimized_ops.h SoftmaxInt8LUT.

    Args:
      codes: int8 ``[..., classes]``.
      scale: scale of the input's grid.

    Returns:
      int8 of the same shape.
    """
    distances = np.arange(256, dtype=np.float32) * np.float32(-scale)
    exponentials = np.exp(distances.astype(np.float64)).astype(np.float32)
    scaled = (exponentials * np.float32(65535)).astype(np.float64)
    table = np.floor(scaled + 0.5).astype(np.int64)
    steps = codes.astype(np.int32)
    values = table[steps.max(axis=-1, keepdims=True) - steps]
    total = values.sum(axis=-1, keepdims=True).astype(np.float32)
    inverse = np.float32(1) / (total * np.float32(1 / 256))
    mantissa, shift = requantization.quantize_multiplier(inverse)
    result = requantization.multiply_double_rounding(values, mantissa, shift, half_up=True)
    return np.clip(result - 128, -128, 127).astype(np.int8)


def reference(codes: np.ndarray, scale: float) -> np.ndarray:
    """TFLite kernels/internal/reference/softmax.h Softmax on int8.

    Args:
      codes: int8 ``[..., classes]``.
      scale: scale of the input's grid.

    Returns:
      int8 of the same shape.

    Raises:
      ValueError: the exponentials of a row, the largest of which is 1, add up to 512 or more: the
        kernel ends the process.
    """
    real = min(float(scale) * (1 << _FRACTION_BITS), 2.0**31 - 1)
    mantissa, shift = requantization.quantize_multiplier(real)
    left_shift = int(shift)
    radius = ((1 << _INTEGER_BITS) - 1) * float(1 << (31 - _INTEGER_BITS)) / 2.0**left_shift
    lowest = -int(np.floor(radius))
    steps = codes.astype(np.int64)
    differences = steps - steps.max(axis=-1, keepdims=True)
    kept = differences >= lowest
    differences = np.where(kept, differences, 0)
    exponent = _high_mul(differences << left_shift, mantissa)
    values = np.where(kept, _exp_on_negative_values(exponent), 0)
    total = _shift_away(values, _ACCUMULATOR_BITS).sum(axis=-1, keepdims=True)
    if total.max(initial=0) >= _TOTAL_LIMIT:
        raise ValueError(
            "the reference kernel of SOFTMAX ends the process where the exponentials of a row, the "
            "largest of which is 1, add up to 512 or more, as those of 512 equal scores do; run "
            "these codes with other kernels"
        )
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    inverse = _one_over_one_plus_x((total << headroom) - (1 << 31))
    shift_out = _ACCUMULATOR_BITS - headroom + 31 - 8
    result = _shift_away(_high_mul(inverse, values), shift_out) - 128
    return np.where(kept, np.clip(result, -128, 127), -128).astype(np.int8)


def _high_mul(left: np.ndarray, right: np.ndarray | int) -> np.ndarray:
    """SaturatingRoundingDoublingHighMul of int32 values held in int64."""
    product = left * right
    return (product + (1 << 30)) >> 31


def _shift_away(values: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """RoundingDivideByPOT: half away from zero."""
    amount = np.asarray(shift)
    return (values + ((1 << amount) >> 1) - ((values < 0) & (amount > 0))) >> amount


def _exp_on_negative_values(values: np.ndarray) -> np.ndarray:
    """exp of Q5.26 numbers that are not positive, as Q0.31."""
    quarter = 1 << (_FRACTION_BITS - 2)
    fraction = (values & (quarter - 1)) - quarter
    result = _exp_on_last_quarter(fraction << _INTEGER_BITS)
    remainder = fraction - values
    for index, factor in enumerate(_EXP_NEGATIVE_POWERS):
        bit = 1 << (_FRACTION_BITS - 2 + index)
        result = np.where(remainder & bit, _high_mul(result, factor), result)
    return np.where(values == 0, (1 << 31) - 1, result)


def _exp_on_last_quarter(values: np.ndarray) -> np.ndarray:
    """exp on [-1/4, 0) in Q0.31: a Taylor expansion around -1/8."""
    exp_eighth, third = 1895147668, 715827883
    x = values + (1 << 28)
    x2 = _high_mul(x, x)
    x3 = _high_mul(x2, x)
    x4 = _high_mul(x2, x2)
    tail = _shift_away(_high_mul(_shift_away(x4, 2) + x3, third) + x2, 1)
    return exp_eighth + _high_mul(x + tail, exp_eighth)


def _one_over_one_plus_x(values: np.ndarray) -> np.ndarray:
    """1 / (1 + x) for Q0.31 x in [0, 1): three Newton-Raphson steps in Q2.29."""
    total = values + (1 << 31) - 1
    half_denominator = (total + 1) >> 1  # RoundingHalfSum; never negative here
    one = 1 << 29
    x = 1515870810 + _high_mul(half_denominator, -1010580540)
    for _ in range(3):
        product = _high_mul(half_denominator, x)
        x = x + np.clip(_high_mul(x, one - product) << 2, -(1 << 31), (1 << 31) - 1)
    return np.clip(x << 1, -(1 << 31), (1 << 31) - 1)
