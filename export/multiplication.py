"""MUL of int8 codes as each TFLite kernel computes it, in NumPy."""

from __future__ import annotations

import numpy as np

from export.graph import Grid, Multiply
from export.kernels import check_kernels
from export.requantization import requantize, to_codes

_XNNPACK_RULES = {"xnnpack": "float_even", "xnnpack_arm": "single_up"}


def multiply_codes(
    operator: Multiply,
    left: np.ndarray,
    right: np.ndarray,
    grids: tuple[Grid, Grid, Grid],
    kernels: str,
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
      grids: grids of left, right and output.
      kernels: a kernel set.

    Returns:
      int8 of the shape of `left`.
    """
    check_kernels(kernels)
    product = left.astype(np.int32) - grids[0].zero_point
    product *= right.astype(np.int32) - grids[1].zero_point
    left_scale, right_scale, output_scale = (np.float32(grid.scale) for grid in grids)
    scale = left_scale * right_scale / output_scale
    rule = _XNNPACK_RULES.get(kernels, "double_away")
    steps = requantize(product, rule, np.full(product.shape[-1], scale))
    return to_codes(steps, grids[2].zero_point, operator.relu)
