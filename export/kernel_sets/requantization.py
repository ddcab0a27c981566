"""The rounding that kernels do: integers times real scales, and means of codes, in NumPy.

`export.kernel_sets.rules` says which kernel has which of the rules.
"""

from __future__ import annotations

import numpy as np

VECTOR = 8
"""Channels that the vector loops of the optimized kernels take at a time."""


def quantize_multiplier(real: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """``real = mantissa * 2 ** (shift - 31)`` with a 31-bit mantissa.

    TFLite kernels/internal/quantization_util.cc QuantizeMultiplier.

    Args:
      real: float64, not negative.

    Returns:
      The mantissa in [2 ** 30, 2 ** 31) or 0, and the shift (positive: to the left); int64.
    """
    fraction, exponent = np.frexp(np.asarray(real, np.float64))
    mantissa = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
    shift = exponent.astype(np.int64)
    carry = mantissa == 1 << 31
    mantissa = np.where(carry, mantissa >> 1, mantissa)
    shift = np.where(carry, shift + 1, shift)
    lost = shift < -31
    return np.where(lost, 0, mantissa), np.where(lost, 0, shift)


def multiply_double_rounding(
    values: np.ndarray,
    mantissa: np.ndarray,
    shift: np.ndarray,
    *,
    half_up: bool | np.ndarray,
) -> np.ndarray:
    """MultiplyByQuantizedMultiplier: int32 `values` times ``mantissa * 2 ** (shift - 31)``.

    Args:
      values: integers within int32; int64 is fine.
      mantissa: from `quantize_multiplier`, broadcast against `values`.
      shift: likewise.
      half_up: where the final shift rounds halves up; elsewhere it rounds them away from zero.

    Returns:
      int64.
    """
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    result = values.astype(np.int64)
    if left.any():
        result = (result << left).astype(np.int32).astype(np.int64)
    result *= mantissa
    result += 1 << 30
    result >>= 31
    rounding = (1 << right) >> 1
    if not np.all(half_up):
        result -= (result < 0) & (right > 0) & ~np.asarray(half_up)
    result += rounding
    result >>= right
    return result


def requantize(accumulator: np.ndarray, rule: str, multiplier: np.ndarray) -> np.ndarray:
    """The rounded product of int32 accumulators and real multipliers.

    Args:
      accumulator: ``[..., channels]`` integers within int32.
      rule: from `rounding_rules`.
      multiplier: from `real_multiplier`, ``[channels]``.

    Returns:
      ``[..., channels]`` integers, in int64 or in a float type that holds them exactly.
    """
    if rule == "float_even":
        return np.rint(accumulator.astype(np.float32) * multiplier)
    if rule == "real_away":
        product = accumulator.astype(np.float64) * multiplier
        return np.trunc(product + np.copysign(np.nextafter(0.5, 0), product))
    if rule == "single_up":
        mantissa, shift = quantize_multiplier(multiplier)
        return (accumulator.astype(np.int64) * mantissa + (1 << (30 - shift))) >> (31 - shift)
    mantissa, shift = quantize_multiplier(multiplier)
    half_up = rounds_half_up(rule, multiplier.shape[-1])
    return multiply_double_rounding(accumulator, mantissa, shift, half_up=half_up)


def rounds_half_up(rule: str, channels: int) -> np.ndarray:
    """For which channels a rule that rounds twice rounds halves up the second time, bool.

    Raises:
      ValueError: the rule is none of these.
    """
    grouped = {
        "double_up": channels,
        "double_mixed": channels - channels % VECTOR,
        "double_away": 0,
    }
    if rule not in grouped:
        raise ValueError(f"unknown rounding rule {rule!r}")
    return np.arange(channels) < grouped[rule]


def to_codes(steps: np.ndarray, zero_point: int, relu: bool) -> np.ndarray:
    """int8 codes from output steps: adds the zero point, saturates, applies the fused RELU."""
    low = max(-128, zero_point) if relu else -128
    return np.clip(steps + zero_point, low, 127).astype(np.int8)


def average_codes(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean of int8 codes, half away from code 0 (not from the zero point).

    TFLite kernels/internal/{reference,optimized}/integer_ops/pooling.h AveragePool.

    Args:
      total: integer sums of codes.
      count: how many codes each sum holds, broadcast against `total`.
    """
    magnitude = (np.abs(total) + count // 2) // count
    return (np.sign(total) * magnitude).astype(np.int8)


def bilinear_codes(total: np.ndarray, divisor: int | np.ndarray, kernel_set: str) -> np.ndarray:
    """Interpolated int8 codes: XNNPACK rounds halves up, the built-in kernels away from code 0.

    XNNPACK src/s8-ibilinear; TFLite kernels/internal/reference/resize_bilinear.h
    ResizeBilinearInteger.

    Args:
      total: integer ``codes * divisor``.
      divisor: even, broadcast against `total`.
      kernel_set: one of `TARGETS`.
    """
    if kernel_set == "xnnpack":
        return ((total + divisor // 2) // divisor).astype(np.int8)
    return average_codes(total, np.asarray(divisor))
