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

'tflm' is TensorFlow Lite Micro's reference kernels, on any machine (tflite-micro, source of August
2026): those of 2.14, but with every multiplier the quotient of float64 products (micro/kernels/
fully_connected_common.cc, mul_common.cc) and a LOGISTIC in fixed point (logistic_common.cc).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from export.ir.graph import Graph
from export.ir.operators import (
    Add,
    Concatenate,
    Conv2D,
    DepthToSpace,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
    Logistic,
    Maximum,
    Minimum,
    Multiply,
    Operator,
    Pad,
    Pool2D,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    Slice,
    Softmax,
    SpaceToDepth,
    Subtract,
    Transpose,
    TransposeConv2D,
    Weighted,
)
from export.kernel_sets.narrow_weights import is_delegated
from export.kernel_sets.requantization import requantize, to_codes
from wrpn_tf import QuantizationParameters

KERNEL_SETS = ("xnnpack", "optimized", "reference")
# All that convolutions and dense layers are proven for.
TARGETS = ("xnnpack", "optimized", "optimized_arm", "reference", "reference_2_14", "tflm")
# All that the executor runs. 'xnnpack_arm' differs from 'xnnpack' in MUL and in what XNNPACK leaves
# to the optimized kernels.
EXECUTABLE = (*TARGETS, "xnnpack_arm")


_Inputs = Sequence[QuantizationParameters]


def check_kernel_set(kernel_set: str) -> None:
    """Raises ValueError where `kernel_set` is not the name of a kernel set."""
    if kernel_set not in EXECUTABLE:
        raise ValueError(f"kernels must be one of {', '.join(EXECUTABLE)}, not {kernel_set!r}")


def family(kernel_set: str) -> str:
    """The kernel set on x86-64 in 2.3 that all but weighted operators and nonlinear ones share."""
    check_kernel_set(kernel_set)
    if kernel_set == "tflm":
        return "reference"
    return kernel_set.removesuffix("_arm").removesuffix("_2_14")


def effective_kernel_set(graph: Graph, operator: Operator, kernel_set: str) -> str:
    """The kernel set that runs `operator` when `kernel_set` is asked for.

    XNNPACK leaves to the built-in kernels what `TAKEN_BY_XNNPACK` says. (It leaves some operators
    too that are exact everywhere.)
    """
    check_kernel_set(kernel_set)
    if family(kernel_set) != "xnnpack":
        return kernel_set
    inputs = [graph.tensors[name].quantization for name in operator.inputs]
    output = graph.tensors[operator.output].quantization
    if not TAKEN_BY_XNNPACK[type(operator)](operator, inputs, output):
        return kernel_set.replace("xnnpack", "optimized")
    return kernel_set if type(operator) in XNNPACK_ARM else "xnnpack"


def _takes_zeros(operator: Pad, inputs: _Inputs, output: QuantizationParameters) -> bool:
    return not operator.lowest


def _always(operator: Operator, inputs: _Inputs, output: QuantizationParameters) -> bool:
    return True


def _never(operator: Operator, inputs: _Inputs, output: QuantizationParameters) -> bool:
    """No int8 SOFTMAX."""
    return False


def _takes_storage(operator: Weighted, inputs: _Inputs, output: QuantizationParameters) -> bool:
    """Of kernels stored in fewer than 8 bits few."""
    return is_delegated(type(operator), operator.dtype_bits, operator.row_length)


def _takes_window(
    operator: TransposeConv2D, inputs: _Inputs, output: QuantizationParameters
) -> bool:
    """Not SAME padding with strides beyond the window."""
    window = operator.kernel.shape[1:3]
    within = all(step <= size for step, size in zip(operator.strides, window, strict=True))
    return operator.padding == "VALID" or within


def _takes_scales(operator: Operator, inputs: _Inputs, output: QuantizationParameters) -> bool:
    """Input scales in ``[2 ** -10, 2 ** 8)`` output scales."""
    ratios = [np.float32(each.scale) / np.float32(output.scale) for each in inputs]
    return all(2.0**-10 <= ratio < 2.0**8 for ratio in ratios)


def _takes_product(operator: Operator, inputs: _Inputs, output: QuantizationParameters) -> bool:
    """A product of input scales in ``[2 ** -16, 2 ** 8)`` output scales."""
    left, right = (np.float32(each.scale) for each in inputs)
    return bool(2.0**-16 <= left * right / np.float32(output.scale) < 2.0**8)


def _takes_maximum(operator: Pool2D, inputs: _Inputs, output: QuantizationParameters) -> bool:
    """No int8 AVERAGE_POOL_2D."""
    return operator.kind == "max"


TAKEN_BY_XNNPACK: dict[type[Operator], Callable[[Any, _Inputs, QuantizationParameters], bool]] = {
    Conv2D: _takes_storage,
    GroupedConv2D: _takes_storage,
    DepthwiseConv2D: _takes_storage,
    TransposeConv2D: _takes_window,
    FullyConnected: _takes_storage,
    Add: _takes_scales,
    Subtract: _takes_scales,
    Maximum: _always,
    Minimum: _always,
    Multiply: _takes_product,
    Pool2D: _takes_maximum,
    Concatenate: _always,
    Pad: _takes_zeros,
    Slice: _always,
    Transpose: _always,
    DepthToSpace: _always,
    SpaceToDepth: _always,
    ResizeNearest: _always,
    ResizeBilinear: _always,
    Reshape: _always,
    Logistic: _always,
    Softmax: _never,
}
"""By operator: whether XNNPACK takes it, given it and the parameters of its inputs and output."""

XNNPACK_ARM: frozenset[type[Operator]] = frozenset({Multiply})
"""Operators that XNNPACK computes otherwise on ARM."""


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
    rules = ROUNDING[operator]
    if vector_product and rules["optimized_arm"] == "single_up":
        return rules | {"optimized_arm": "double_up"}
    return rules


_MATRIX_PRODUCT = {
    "xnnpack": "float_even",
    "optimized": "double_up",
    "optimized_arm": "single_up",
    "reference": "double_away",
    "reference_2_14": "double_away",
    "tflm": "double_away",
}
_CHANNEL_LOOP = _MATRIX_PRODUCT | {"optimized": "double_mixed", "optimized_arm": "double_mixed"}
# The optimized kernel leaves groups to the reference.
_LEFT_TO_REFERENCE = _MATRIX_PRODUCT | {"optimized": "double_away", "optimized_arm": "double_away"}
ROUNDING: dict[type[Operator], dict[str, str]] = {
    Conv2D: _MATRIX_PRODUCT,
    GroupedConv2D: _LEFT_TO_REFERENCE,
    DepthwiseConv2D: _CHANNEL_LOOP,
    TransposeConv2D: _CHANNEL_LOOP,
    FullyConnected: _MATRIX_PRODUCT | {"reference": "real_away"},
}
"""By operator with a kernel and by target: how the product with a matrix is rounded."""

ONE_SCALE: frozenset[type[Operator]] = frozenset({FullyConnected})
"""Operators whose kernel has a single scale in a file where all its channels' are equal."""


def is_per_tensor(operator: type[Weighted], kernel_scale: np.ndarray, dtype_bits: int) -> bool:
    """Whether the writer gives the kernel a single scale: see `ONE_SCALE`.

    Not those with INT2 codes, which XNNPACK takes with a scale for each channel only.
    """
    takes_one = operator in ONE_SCALE and dtype_bits > 2
    return takes_one and bool((kernel_scale == kernel_scale[0]).all())


def real_multiplier(
    operator: Weighted, input_scale: float, output_scale: float, kernel_set: str
) -> np.ndarray:
    """`multipliers` of an operator."""
    check_kernel_set(kernel_set)
    per_tensor = is_per_tensor(type(operator), operator.kernel_scale, operator.dtype_bits)
    return multipliers(operator.kernel_scale, per_tensor, input_scale, output_scale, kernel_set)


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
    if target not in ("reference", "tflm") and per_tensor:
        # kernels/kernel_util.cc GetQuantizedConvolutionMultipler multiplies in float32.
        product = (np.float32(input_scale) * kernel_scale).astype(np.float64)
        return product / np.float64(output_scale)
    return np.float64(input_scale) * kernel_scale.astype(np.float64) / np.float64(output_scale)


def weighted_codes(
    accumulator: np.ndarray,
    operator: Weighted,
    source: QuantizationParameters,
    target: QuantizationParameters,
    kernel_set: str,
) -> np.ndarray:
    """Output codes of a convolution or dense layer.

    Args:
      accumulator: ``[batch, ..., channels]``, bias included, within int32.
      operator: the layer.
      source: of its input.
      target: of its output.
      kernel_set: a kernel set.

    Returns:
      int8 ``[batch, ..., channels]``.
    """
    multiplier = real_multiplier(operator, source.scale, target.scale, kernel_set)
    vector_product = is_vector_product(operator.rows, accumulator.shape)
    rule = rounding_rules(type(operator), vector_product)[kernel_set]
    steps = requantize(accumulator, rule, multiplier)
    return to_codes(steps, target.zero_point, operator.relu)
