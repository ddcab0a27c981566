"""ADD and SUB of int8 codes as each TFLite kernel computes them, in NumPy.

Both inputs are brought to a common fine grid (20 more bits), added, and brought to the output's.
"""

from __future__ import annotations

import numpy as np

from export.ir.operators import Sum
from export.kernel_sets.requantization import (
    multiply_double_rounding,
    quantize_multiplier,
    to_codes,
)
from export.kernel_sets.rules import family
from wrpn_tf import QuantizationParameters

_ADD_SHIFT = 20
_ADD_PART = 1 << 18  # elements worked on at once
VECTOR = 16
"""Elements that the vector loops of the optimized kernels, that of MUL too, take at a time."""

Parameters = tuple[QuantizationParameters, QuantizationParameters, QuantizationParameters]
"""Those of left, right and output."""


def add_codes(
    operator: Sum,
    left: np.ndarray,
    right: np.ndarray,
    parameters: Parameters,
    kernel_set: str,
) -> np.ndarray:
    """Output codes of ADD, or of SUB, whose optimized kernel is the reference.

    The optimized kernel takes 16 elements of the flattened tensor (batch included) at a time and
    rounds the last ``size % 16`` as the reference does, so its codes may depend on the position.

    Args:
      operator: the operator.
      left: int8 codes, a whole tensor.
      right: int8 codes of the same shape.
      parameters: of left, right and output.
      kernel_set: a kernel set.

    Returns:
      int8 of the inputs' shape.
    """
    kernel_set = family(kernel_set)
    if operator.sign < 0 and kernel_set == "optimized":
        kernel_set = "reference"
    rule = {
        "xnnpack": _add_xnnpack,
        "optimized": _add_vector,
        "reference": _add_scalar,
    }[kernel_set]
    size = left.size
    whole = size - size % VECTOR
    parts = [(start, min(start + _ADD_PART, whole), rule) for start in range(0, whole, _ADD_PART)]
    parts.append((whole, size, _add_scalar if kernel_set == "optimized" else rule))
    result = np.empty(size, np.int8)
    flat = (left.reshape(-1), right.reshape(-1))
    for start, stop, function in parts:
        steps = [
            codes[start:stop].astype(np.int64) - side.zero_point
            for codes, side in zip(flat, parameters[:2], strict=True)
        ]
        total = function(steps, parameters, operator.sign)
        result[start:stop] = to_codes(total, parameters[2].zero_point, operator.relu)
    return result.reshape(left.shape)


def _add_xnnpack(inputs: list[np.ndarray], parameters: Parameters, sign: int) -> np.ndarray:
    """XNNPACK src/microparams-init.c xnn_init_qs8_add_minmax_*_params: one shift, half up."""
    output_scale = np.float32(parameters[2].scale)
    scales = np.array([side.scale for side in parameters[:2]], np.float32)
    ratios = scales / output_scale
    shift = _ADD_SHIFT - (int(np.frexp(ratios.max())[1]) - 1)
    factors = np.rint(np.ldexp(ratios.astype(np.float64), shift)).astype(np.int64)
    total = inputs[0] * factors[0] + inputs[1] * (sign * factors[1])
    return (total + (1 << (shift - 1))) >> shift


def _add_vector(inputs: list[np.ndarray], parameters: Parameters, sign: int) -> np.ndarray:
    """TFLite optimized/integer_ops/add.h: the inputs' shifts are merged, one rounding each."""
    return _add_builtin(inputs, parameters, sign, merge_shifts=True)


def _add_scalar(inputs: list[np.ndarray], parameters: Parameters, sign: int) -> np.ndarray:
    """TFLite reference/integer_ops/add.h AddElementwise: two roundings for each input."""
    return _add_builtin(inputs, parameters, sign, merge_shifts=False)


def _add_builtin(
    inputs: list[np.ndarray], parameters: Parameters, sign: int, *, merge_shifts: bool
) -> np.ndarray:
    mantissas, shifts = builtin_multipliers(parameters)
    total = np.zeros_like(inputs[0])
    signs = (1, sign)
    for steps, mantissa, shift, side in zip(inputs, mantissas[:2], shifts[:2], signs, strict=True):
        if merge_shifts:
            merged = int(shift) + _ADD_SHIFT
            shifted = steps << max(merged, 0) >> max(-merged, 0)
            total += side * ((shifted * mantissa + (1 << 30)) >> 31)
        else:
            shifted = steps << _ADD_SHIFT
            total += side * multiply_double_rounding(shifted, mantissa, shift, half_up=False)
    return multiply_double_rounding(total, mantissas[2], shifts[2], half_up=False)


def builtin_multipliers(parameters: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """What left, right and their sum are multiplied by: TFLite kernels/add.cc Prepare.

    Returns:
      Mantissas and shifts as from `export.kernel_sets.requantization.quantize_multiplier`, int64
      ``[3]`` each.
    """
    left, right, output = (float(each.scale) for each in parameters)
    twice_largest = 2 * max(left, right)
    total = twice_largest / ((1 << _ADD_SHIFT) * output)
    return quantize_multiplier(np.array([left / twice_largest, right / twice_largest, total]))
