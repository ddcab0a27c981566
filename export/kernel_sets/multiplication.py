"""MUL of int8 codes as each TFLite kernel computes it, in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from export.ir.operators import Multiply
from export.kernel_sets.addition import VECTOR, Parameters
from export.kernel_sets.requantization import requantize, to_codes
from export.kernel_sets.rules import check_kernel_set, family

_XNNPACK_RULES = {"xnnpack": "float_even", "xnnpack_arm": "single_up"}


def multiply_codes(
    operator: Multiply,
    left: np.ndarray,
    right: np.ndarray,
    parameters: Parameters,
    kernel_set: str,
) -> np.ndarray:
    """Output codes of MUL.

    XNNPACK multiplies in float32 and rounds halves to even (src/qs8-vmul, fp32), on ARM in fixed
    point, halves up (rndnu there); the built-in kernels (TFLite
    kernels/internal/{optimized,reference}/integer_ops/mul.h) round twice, halves away from zero, at
    every position. The optimized kernel takes 16 elements of a run (`run_length`) at a time,
    narrows their steps to 16 bits before it adds the zero point, and adds it in 16 bits: where
    these do not hold the sum, the code jumps to the other end.

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
    scale = product_scale(parameters, kernel_set)
    rule = _XNNPACK_RULES.get(kernel_set, "double_away")
    steps = requantize(product, rule, np.full(product.shape[-1], scale))
    if family(kernel_set) == "optimized":
        runs = steps.reshape(-1, run_length(left.shape, right.shape))
        whole = runs[:, : runs.shape[1] - runs.shape[1] % VECTOR]
        whole[:] = _sixteen_bits(whole, parameters[2].zero_point)
    return to_codes(steps, parameters[2].zero_point, operator.relu)


def run_length(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Elements that the optimized kernel works through without a break.

    All of the tensor, batch included, where the shapes are equal; else those of the last axes of
    equal size, or, where there is one only, of the last axes on which `right` is repeated (TFLite
    kernels/internal/common.cc ProcessBroadcastShapes, BroadcastMulFivefold). What is repeated on
    two groups of axes is computed one by one.

    Args:
      left: a shape, the batch first.
      right: the same, or with size 1 on some axes.
    """
    axes = list(zip(left, right, strict=True))
    equal, repeated = _last(axes, lambda a, b: a == b), _last(axes, lambda a, b: b == 1)
    _last(axes, lambda a, b: a == b)
    return 1 if axes else equal if equal > 1 else repeated


def _last(axes: list[tuple[int, int]], belongs: Callable[[int, int], bool]) -> int:
    """Removes the last axes that belong together; returns how many elements they have."""
    count = 1
    while axes and belongs(*axes[-1]):
        count *= axes.pop()[0]
    return count


def _sixteen_bits(steps: np.ndarray, zero_point: int) -> np.ndarray:
    """Steps that a sum with the zero point in 16 bits, which wraps around, stands for."""
    limits = np.iinfo(np.int16)
    narrow = steps.clip(limits.min, limits.max).astype(np.int16)
    return (narrow + np.int16(zero_point)).astype(np.int64) - zero_point


def product_scale(parameters: Parameters, kernel_set: str) -> np.floating:
    """The real scale from a product of steps to output steps, as the kernel computes it.

    TFLite kernels/mul.cc Prepare, in float32; TFLM's micro/kernels/mul_common.cc has float64.

    Args:
      parameters: of left, right and output.
      kernel_set: a kernel set.

    Returns:
      float64 of TFLM, else float32.
    """
    kind = np.float64 if kernel_set == "tflm" else np.float32
    left_scale, right_scale, output_scale = (kind(each.scale) for each in parameters)
    return left_scale * right_scale / output_scale
