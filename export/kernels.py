"""How each TFLite kernel turns an integer accumulator into an int8 code, in NumPy.

Three sets of kernels are in use, and they round differently (x86-64, ai-edge-litert 2.3):

  xnnpack    what the Interpreter runs by default; operators XNNPACK does not take run 'optimized'
  optimized  the built-in kernels, without a delegate
  reference  the built-in reference kernels (BUILTIN_REF)

Rounding rules of a multiplication by a real scale:

  float_even   float32(accumulator) * float32(scale), half to even.
               XNNPACK src/reference/requantization, qs8-requantization fp32
  double_away  a doubling high multiplication, half up, then a shift, half away from zero.
               TFLite kernels/internal/common.cc MultiplyByQuantizedMultiplier (gemmlowp)
  double_up    the same with a shift that rounds half up.
               ruy's x86 kernels (pack and multiplier in ruy/kernel_avx*.cc)
  double_mixed double_up for the channels in whole groups of 8, double_away for the rest.
               TFLite kernels/internal/optimized/integer_ops/depthwise_conv.h, and Quantize in
               kernels/internal/optimized/optimized_ops.h: vector loop and tail
  single_up    one 64-bit product and shift, half up.
               ruy's ARM kernels (ruy/kernel_arm*.cc, ruy/apply_multiplier.cc)
  real_away    float64, half away from zero.
               TFLite kernels/internal/reference/integer_ops/fully_connected.h

On ARM the reference kernels round as on x86-64, and so does XNNPACK but for MUL ('xnnpack_arm').
The optimized ones ('optimized_arm') have a SOFTMAX of their own, and round convolutions and dense
layers by single_up, or double_up for the product of a matrix and one vector (`is_vector_product`).
'reference_2_14' is the reference of tflite-runtime 2.14, whose dense layers differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from export.graph import (
    Add,
    DepthwiseConv2D,
    FullyConnected,
    Grid,
    GroupedConv2D,
    IntegerGraph,
    Multiply,
    Operator,
    Pool2D,
    Softmax,
    Subtract,
    TransposeConv2D,
    Weighted,
    channel_rows,
)
from export.storage import is_delegated

KERNELS = ("xnnpack", "optimized", "reference")
# All that convolutions and dense layers are proven for.
TARGETS = ("xnnpack", "optimized", "optimized_arm", "reference", "reference_2_14")
# All that the executor runs. 'xnnpack_arm' differs from 'xnnpack' in MUL and in what XNNPACK leaves
# to the optimized kernels.
EXECUTABLE = (*TARGETS, "xnnpack_arm")
# Channels that the vector loops of the optimized kernels take at a time.
_VECTOR = 8


def check_kernels(kernels: str) -> None:
    """Raises ValueError where `kernels` is not the name of a kernel set."""
    if kernels not in EXECUTABLE:
        raise ValueError(f"kernels must be one of {', '.join(EXECUTABLE)}, not {kernels!r}")


def family(kernels: str) -> str:
    """The kernel set on x86-64 in 2.3 that all but weighted operators, MUL and SOFTMAX share."""
    check_kernels(kernels)
    return kernels.removesuffix("_arm").removesuffix("_2_14")


def effective_kernels(graph: IntegerGraph, operator: Operator, kernels: str) -> str:
    """The kernel set that runs `operator` when `kernels` is asked for.

    XNNPACK leaves to the built-in kernels int8 AVERAGE_POOL_2D, int8 SOFTMAX, ADD and SUB with an
    input scale outside ``[2 ** -10, 2 ** 8)`` output scales, MUL with a product of input scales
    outside ``[2 ** -16, 2 ** 8)`` output scales and TRANSPOSE_CONV with SAME padding and strides
    beyond the window. (It leaves some operators too that are exact everywhere.) Of kernels stored
    in fewer than 8 bits it takes few: `storage.is_delegated`.
    """
    check_kernels(kernels)
    if family(kernels) != "xnnpack":
        return kernels
    scales = [np.float32(graph.tensors[name].grid.scale) for name in operator.inputs]
    output_scale = np.float32(graph.tensors[operator.output].grid.scale)
    if isinstance(operator, (Add, Subtract)):
        taken = all(2.0**-10 <= scale / output_scale < 2.0**8 for scale in scales)
    elif isinstance(operator, Multiply):
        taken = bool(2.0**-16 <= scales[0] * scales[1] / output_scale < 2.0**8)
    elif isinstance(operator, TransposeConv2D):
        window = operator.kernel.shape[1:3]
        within = all(step <= size for step, size in zip(operator.strides, window, strict=True))
        taken = operator.padding == "VALID" or within
    elif isinstance(operator, Weighted):
        taken = is_delegated(type(operator), operator.storage, operator.kernel.shape[-1])
    else:
        taken = not isinstance(operator, Softmax) and not (
            isinstance(operator, Pool2D) and operator.kind == "average"
        )
    if not taken:
        return kernels.replace("xnnpack", "optimized")
    return kernels if isinstance(operator, Multiply) else "xnnpack"


def is_vector_product(rows: np.ndarray, output_shape: Sequence[int | None]) -> bool:
    """Whether ARM's optimized kernels compute a layer at batch 1 with their code for one vector.

    TFLite kernels/cpu_backend_gemm_custom_gemv.h, which takes at least 4 rows of 8 columns: dense
    layers after flattening, and convolutions whose output is a single position.

    Args:
      rows: the kernel as ``[channels, taps]``.
      output_shape: ``[batch, ..., channels]``.
    """
    channels, taps = rows.shape
    return math.prod(size or 1 for size in output_shape[1:-1]) == 1 and channels >= 4 and taps >= 8


def rounding_rules(operator: type[Weighted], vector_product: bool) -> dict[str, str]:
    """The rounding rule of a class of convolutions or dense layers, by target.

    Args:
      operator: the class.
      vector_product: from `is_vector_product`.
    """
    rules = {
        "xnnpack": "float_even",
        "optimized": "double_up",
        "optimized_arm": "double_up" if vector_product else "single_up",
        "reference": "double_away",
        "reference_2_14": "double_away",
    }
    if issubclass(operator, DepthwiseConv2D | TransposeConv2D):
        rules |= {"optimized": "double_mixed", "optimized_arm": "double_mixed"}
    if issubclass(operator, FullyConnected):
        rules |= {"reference": "real_away"}
    if issubclass(operator, GroupedConv2D):  # The optimized kernel leaves groups to the reference.
        rules |= {"optimized": "double_away", "optimized_arm": "double_away"}
    return rules


def is_per_tensor(operator: type[Weighted], kernel_scale: np.ndarray, storage: int) -> bool:
    """Whether the writer gives the kernel a single scale: dense layers with equal scales.

    Not those with INT2 codes, which XNNPACK takes with a scale for each channel only.
    """
    takes_one = issubclass(operator, FullyConnected) and storage > 2
    return takes_one and bool((kernel_scale == kernel_scale[0]).all())


def real_multiplier(
    operator: Weighted, input_scale: float, output_scale: float, kernels: str
) -> np.ndarray:
    """`multipliers` of an operator."""
    check_kernels(kernels)
    per_tensor = is_per_tensor(type(operator), operator.kernel_scale, operator.storage)
    return multipliers(operator.kernel_scale, per_tensor, input_scale, output_scale, kernels)


def multipliers(
    kernel_scale: np.ndarray,
    per_tensor: bool,
    input_scale: float,
    output_scale: float,
    target: str,
) -> np.ndarray:
    """The real scale from accumulator to output steps, per channel, as the kernel computes it.

    Args:
      kernel_scale: float32 ``[channels]``.
      per_tensor: see `is_per_tensor`.
      input_scale: scale of the input tensor.
      output_scale: scale of the output tensor.
      target: one of `TARGETS`.

    Returns:
      float32 ``[channels]`` under XNNPACK, float64 otherwise.
    """
    kernel_scale = kernel_scale.astype(np.float32)
    if target == "xnnpack":
        return np.float32(input_scale) * kernel_scale / np.float32(output_scale)
    if target != "reference" and per_tensor:
        # kernels/kernel_util.cc GetQuantizedConvolutionMultipler multiplies in float32.
        product = (np.float32(input_scale) * kernel_scale).astype(np.float64)
        return product / np.float64(output_scale)
    return np.float64(input_scale) * kernel_scale.astype(np.float64) / np.float64(output_scale)


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
    channels = multiplier.shape[-1]
    grouped = {
        "double_up": channels,
        "double_mixed": channels - channels % _VECTOR,
        "double_away": 0,
    }
    if rule not in grouped:
        raise ValueError(f"unknown rounding rule {rule!r}")
    mantissa, shift = quantize_multiplier(multiplier)
    half_up = np.arange(channels) < grouped[rule]
    return multiply_double_rounding(accumulator, mantissa, shift, half_up=half_up)


def to_codes(steps: np.ndarray, zero_point: int, relu: bool) -> np.ndarray:
    """int8 codes from output steps: adds the zero point, saturates, applies the fused RELU."""
    low = max(-128, zero_point) if relu else -128
    return np.clip(steps + zero_point, low, 127).astype(np.int8)


def weighted_codes(
    accumulator: np.ndarray,
    operator: Weighted,
    input_grid: Grid,
    output_grid: Grid,
    kernels: str,
) -> np.ndarray:
    """Output codes of a convolution or dense layer.

    Args:
      accumulator: ``[batch, ..., channels]``, bias included, within int32.
      operator: the layer.
      input_grid: grid of its input.
      output_grid: grid of its output.
      kernels: a kernel set.

    Returns:
      int8 ``[batch, ..., channels]``.
    """
    multiplier = real_multiplier(operator, input_grid.scale, output_grid.scale, kernels)
    vector_product = is_vector_product(channel_rows(operator), accumulator.shape)
    rule = rounding_rules(type(operator), vector_product)[kernels]
    steps = requantize(accumulator, rule, multiplier)
    return to_codes(steps, output_grid.zero_point, operator.relu)


def bilinear_codes(total: np.ndarray, divisor: int | np.ndarray, kernels: str) -> np.ndarray:
    """Interpolated int8 codes: XNNPACK rounds halves up, the built-in kernels away from code 0.

    XNNPACK src/s8-ibilinear; TFLite kernels/internal/reference/resize_bilinear.h
    ResizeBilinearInteger.

    Args:
      total: integer ``codes * divisor``.
      divisor: even, broadcast against `total`.
      kernels: one of `TARGETS`.
    """
    if kernels == "xnnpack":
        return ((total + divisor // 2) // divisor).astype(np.int8)
    return average_codes(total, np.asarray(divisor))


def average_codes(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean of int8 codes, half away from code 0 (not from the zero point).

    TFLite kernels/internal/{reference,optimized}/integer_ops/pooling.h AveragePool.

    Args:
      total: integer sums of codes.
      count: how many codes each sum holds, broadcast against `total`.
    """
    magnitude = (np.abs(total) + count // 2) // count
    return (np.sign(total) * magnitude).astype(np.int8)
