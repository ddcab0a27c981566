"""SOFTMAX on int8 codes as TFLite's kernels compute it.

The optimized kernel looks exponentials up in a table, of float32 or, on ARM, of 16-bit integers;
the reference kernel evaluates them in gemmlowp's fixed point. All give codes of grid (1/256, -128).
"""

from __future__ import annotations

import numpy as np

from export.kernel_sets import gemmlowp, requantization

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
    mantissa, left_shift, reach = fixed_point(scale)
    steps = codes.astype(np.int64)
    differences = steps - steps.max(axis=-1, keepdims=True)
    kept = differences >= -reach
    differences = np.where(kept, differences, 0)
    exponent = gemmlowp.high_mul(differences << left_shift, mantissa)
    values = np.where(kept, gemmlowp.exp_on_negative_values(exponent, _INTEGER_BITS), 0)
    total = gemmlowp.shift_away(values, _ACCUMULATOR_BITS).sum(axis=-1, keepdims=True)
    if total.max(initial=0) >= _TOTAL_LIMIT:
        raise ValueError(
            "the reference kernel of SOFTMAX ends the process where the exponentials of a row, the "
            "largest of which is 1, add up to 512 or more, as those of 512 equal scores do; run "
            "these codes with other kernels"
        )
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    inverse = gemmlowp.one_over_one_plus_x((total << headroom) - (1 << 31))
    shift_out = _ACCUMULATOR_BITS - headroom + 31 - 8
    result = gemmlowp.shift_away(gemmlowp.high_mul(inverse, values), shift_out) - 128
    return np.where(kept, np.clip(result, -128, 127), -128).astype(np.int8)


def fixed_point(scale: float) -> tuple[int, int, int]:
    """By what `reference` multiplies differences of codes.

    TFLite kernels/internal/quantization_util.cc PreprocessSoftmaxScaling, CalculateInputRadius.

    Args:
      scale: scale of the input's grid.

    Returns:
      Mantissa and shift to the left of the factor from a step to Q5.26, and the largest difference
      of codes that counts.
    """
    real = min(float(scale) * (1 << _FRACTION_BITS), 2.0**31 - 1)
    mantissa, shift = requantization.quantize_multiplier(real)
    radius = ((1 << _INTEGER_BITS) - 1) * float(1 << (31 - _INTEGER_BITS)) / 2.0 ** int(shift)
    return int(mantissa), int(shift), int(np.floor(radius))
