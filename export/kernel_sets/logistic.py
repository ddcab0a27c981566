"""LOGISTIC on int8 codes as TFLite's kernels compute it: a table of 256 entries.

All kernels fill it with ``1 / (1 + exp(-x))`` and differ where that is within a float32 of a tie;
TensorFlow Lite Micro, which has no table, computes each code in fixed point.
"""

from __future__ import annotations

import numpy as np

from export.kernel_sets import gemmlowp, requantization
from wrpn_tf import QuantizationParameters

_STEPS = np.float32(256)  # of the output in [0, 1]
_INTEGER_BITS = 4  # of fixed-point inputs


def table(source: QuantizationParameters, kernel_set: str) -> np.ndarray:
    """The output codes for input codes -128 to 127.

    XNNPACK (src/reference/unary-elementwise.cc) rounds the quotient to float32, adds the zero point
    in float32 and rounds halves to even. The built-in kernels (TFLite kernels/activations.cc
    SigmoidPrepare and kernels/internal/common.h LUTPopulate) compute all in float32 and round
    halves up.

    Args:
      source: of the input.
      kernel_set: 'xnnpack', 'tflm' or another one.

    Returns:
      int8 ``[256]``, codes of scale 1/256 and zero point -128.
    """
    if kernel_set == "tflm":
        return _fixed_point(source)
    codes = np.arange(-128, 128, dtype=np.float32)
    reals = (codes - np.float32(source.zero_point)) * np.float32(source.scale)
    with np.errstate(over="ignore"):  # exp(-x) may be infinite: the quotient is 0.
        powers = np.exp(-reals.astype(np.float64))
        if kernel_set == "xnnpack":
            steps = (1 / (1 + powers)).astype(np.float32) * _STEPS
            rounded = np.rint(steps - np.float32(128))
        else:
            steps = np.float32(1) / (np.float32(1) + powers.astype(np.float32)) * _STEPS
            rounded = np.floor(steps + np.float32(0.5)) - 128
    return np.clip(rounded, -128, 127).astype(np.int8)


def _fixed_point(source: QuantizationParameters) -> np.ndarray:
    """The table of TFLite kernels/internal/reference/integer_ops/logistic.h, as TFLM calls it."""
    mantissa, shift = requantization.quantize_multiplier(
        float(source.scale) * (1 << (31 - _INTEGER_BITS))
    )
    radius = np.floor(((1 << _INTEGER_BITS) - 1) * 2.0 ** (31 - _INTEGER_BITS - int(shift)))
    steps = np.arange(-128, 128) - source.zero_point
    inside = np.abs(steps) < radius
    values = requantization.multiply_double_rounding(
        np.where(inside, steps, 0), mantissa, shift, half_up=False
    )
    rounded = gemmlowp.shift_away(gemmlowp.logistic(values, _INTEGER_BITS), 23) - 128
    ends = np.where(steps <= -radius, -128, 127)  # With a radius of 0, that of 0 is -128.
    return np.where(inside, np.clip(rounded, -128, 127), ends).astype(np.int8)
