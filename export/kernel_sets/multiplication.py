"""MUL of int8 codes as each TFLite kernel computes it, in NumPy."""

from __future__ import annotations

import numpy as np

from export.ir.operators import Multiply
from export.kernel_sets.addition import Parameters
from export.kernel_sets.requantization import requantize, to_codes
from export.kernel_sets.rules import check_kernel_set

_XNNPACK_RULES = {"xnnpack": "float_even", "xnnpack_arm": "single_up"}


def multiply_codes(
    operator: Multiply,
    left: np.ndarray,
    right: np.ndarray,
    parameters: Parameters,
    kernel_set: str,
) -> np.ndarray:
    """Output codes of MUL.

    All kernels compute the scale of the product in float32 (TFLite kernels/mul.cc Prepare). XNNPACK
    multiplies in float32 and rounds halves to even (src/qs8-vmul, fp32), on ARM in fixed point,
    halves up (rndnu there); the built-in kernels (TFLite
    kernels/internal/{optimized,reference}/integer_ops/mul.h) round twice, halves away from zero, at
    every position.

    Args:
      operator: the operator.
      left: int8 codes.
      right: int8 codes that broadcast to `left`.
      parameters: of left, right and output.
      kernel_set: a kernel set.

    Returns:
      int8 of the shape of `left`.
    """
    check_kernel_set(kernel_set)
    product = left.astype(np.int32) - parameters[0].zero_point
    product *= right.astype(np.int32) - parameters[1].zero_point
    left_scale, right_scale, output_scale = (np.float32(each.scale) for each in parameters)
    scale = left_scale * right_scale / output_scale
    rule = _XNNPACK_RULES.get(kernel_set, "double_away")
    steps = requantize(product, rule, np.full(product.shape[-1], scale))
    return to_codes(steps, parameters[2].zero_point, operator.relu)
