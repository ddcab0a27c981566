"""Quantization arithmetic: pure functions, each with a NumPy twin, and one gradient.

Everything here is one operation seen from different sides: divide by a scale, round, clip, multiply
by the scale. `fake_quantize` is that operation with its straight-through estimator; the functions
named ``*_np`` (`wrpn_tf.arithmetic.numpy_twins`) are its oracle and produce the same float32 bit
for bit. `wrpn_tf.arithmetic.portable` has the same in `keras.ops`.

Half-way cases round up (towards plus infinity) everywhere: that is what TFLite's ADD and pooling
kernels do, and a convolution's bias can be chosen so that its kernel does too.
"""

from __future__ import annotations

import tensorflow as tf

from wrpn_tf.arithmetic import cpu_kernels
from wrpn_tf.arithmetic.bits import OFF as OFF
from wrpn_tf.arithmetic.bits import activation_levels as activation_levels
from wrpn_tf.arithmetic.bits import check_bits as check_bits
from wrpn_tf.arithmetic.bits import weight_levels as weight_levels
from wrpn_tf.arithmetic.numpy_twins import HAIR, SMALLEST_SCALE
from wrpn_tf.arithmetic.numpy_twins import affine_grid_np as affine_grid_np
from wrpn_tf.arithmetic.numpy_twins import binarize_np as binarize_np
from wrpn_tf.arithmetic.numpy_twins import binary_codes_np as binary_codes_np
from wrpn_tf.arithmetic.numpy_twins import fake_quantize_np as fake_quantize_np
from wrpn_tf.arithmetic.numpy_twins import mean_magnitude_np as mean_magnitude_np
from wrpn_tf.arithmetic.numpy_twins import pixel_grid_np as pixel_grid_np
from wrpn_tf.arithmetic.numpy_twins import positive_np as positive_np
from wrpn_tf.arithmetic.numpy_twins import quantize_codes_np as quantize_codes_np
from wrpn_tf.arithmetic.numpy_twins import round_half_up_np as round_half_up_np
from wrpn_tf.arithmetic.numpy_twins import wrpn_activations_np as wrpn_activations_np
from wrpn_tf.arithmetic.numpy_twins import wrpn_weights_np as wrpn_weights_np


def round_half_up(x: tf.Tensor) -> tf.Tensor:
    """``floor(x + 1/2)``: nearest integer, half-way cases up."""
    return tf.floor(x + 0.5)


def positive(scale: tf.Tensor) -> tf.Tensor:
    """The scale in use for a stored (learned) one: its magnitude, never below `SMALLEST_SCALE`."""
    return tf.maximum(tf.abs(scale), SMALLEST_SCALE)


def fake_quantize(
    x: tf.Tensor,
    scale: tf.Tensor,
    low: float,
    high: float,
    gradient_scale: float = 1.0,
    known: tf.Tensor | None = None,
) -> tf.Tensor:
    """``scale * clip(round_half_up(x / scale), low, high)`` with a straight-through gradient.

    The gradient with respect to `x` is 1 where ``low <= x / scale <= high`` and 0 outside. The
    gradient with respect to `scale` is that of learned step size quantization (LSQ, arXiv
    1902.08153, equation 3): ``code - x / scale`` inside the clip, `low` below it and `high` above,
    summed over what shares the scale and multiplied by `gradient_scale`.

    Args:
      x: float32, any shape.
      scale: positive float32, broadcastable to `x`.
      low: smallest code.
      high: largest code.
      gradient_scale: factor on the scale's gradient, see
        `wrpn_tf.arithmetic.scales.lsq_gradient_scale`.
      known: what it returns, where an earlier call has computed it; only the gradient is then new.

    Returns:
      float32 of the shape of `x`, on the grid of multiples of `scale`.
    """

    @tf.custom_gradient
    def quantize(x, scale):
        steps = x / scale
        codes = _codes(steps, low, high)
        values = codes * scale if known is None else known

        def gradient(upstream):
            passed = _pass_inside(upstream, steps, low, high)
            if scale.shape.rank == 0 and cpu_kernels.has_fast_dot(x):
                # Values are kept for the next layer; codes would be for this alone.
                of_codes = cpu_kernels.dot(upstream, values) / scale
                slope = of_codes - cpu_kernels.dot(passed, steps)
            else:
                slope = _sum_like(upstream * codes - passed * steps, scale)
            return passed, slope * gradient_scale

        return values, gradient

    return quantize(x, scale)


def fake_quantize_to_int8(x: tf.Tensor, scale: tf.Tensor, zero_point: tf.Tensor) -> tf.Tensor:
    """`fake_quantize` to the 256 codes of int8 around a zero point.

    Its gradient with respect to `x` is the same, but that a value outside the clip by a rounding of
    float32, 2^-17 steps or less, counts as inside. None goes to the scale and the zero point.

    Args:
      x: float32, any shape.
      scale: positive float32 scalar.
      zero_point: float32 scalar, an integer in [-128, 127]: the code of 0.

    Returns:
      float32 of the shape of `x`, on the grid of multiples of `scale`.
    """
    low = -128.0 - tf.stop_gradient(zero_point)
    scale = tf.stop_gradient(scale)

    @tf.custom_gradient
    def quantize(x):
        steps = x / scale

        def gradient(upstream):
            # The kernel has constants for limits, so steps are counted from the lowest code.
            return tf.quantization.fake_quant_with_min_max_args_gradient(
                upstream, steps - low, 0.0, 255.0, 8
            )

        return _clip_and_round(steps, low, low + 255.0) * scale, gradient

    return quantize(x)


def _clip_and_round(steps: tf.Tensor, low: float | tf.Tensor, high: float | tf.Tensor) -> tf.Tensor:
    low, high = tf.cast(low, steps.dtype), tf.cast(high, steps.dtype)
    return round_half_up(tf.raw_ops.ClipByValue(t=steps, clip_value_min=low, clip_value_max=high))


def _codes(steps: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """``clip(round_half_up(steps), low, high)`` in as few passes over memory as there are kernels.

    Quantization to steps of 1 is one kernel, and exact from 0 on: it divides and multiplies by 1.
    """
    bits = _kernel_bits(low, high)
    if bits is not None and low == 0:
        return tf.quantization.fake_quant_with_min_max_args(steps, 0.0, float(high), bits)
    return _clip_and_round(steps, low, high)


def _pass_inside(upstream: tf.Tensor, steps: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """The upstream gradient where ``low <= steps <= high``, and 0 elsewhere."""
    bits = _kernel_bits(low, high)
    if bits is not None:
        return tf.quantization.fake_quant_with_min_max_args_gradient(
            upstream, steps, float(low), float(high), bits, narrow_range=low != 0
        )
    # A mask to multiply with: `tf.where` takes four times as long on a CPU.
    clipped = tf.clip_by_value(steps, low, high)
    return upstream * tf.cast(tf.equal(steps, clipped), upstream.dtype)


def _kernel_bits(low: float, high: float) -> int | None:
    """Bits of TensorFlow's quantization kernels with steps of 1 from `low` to `high`."""
    if low not in (0, -high):
        return None
    levels = round(high - low) + (low != 0)  # A symmetric range is `narrow`: it has a code less.
    bits = levels.bit_length()
    return bits if 2 <= bits <= 8 and levels == 2**bits - 1 else None


def binarize(weights: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """1-bit weights, ``scale * sign(weights)`` with ``sign(0) = 1`` (WRPN, section 5; BWN).

    The gradient with respect to `weights` is straight through where ``|weights| <= 1`` and 0
    outside; `scale` is a statistic of the weights and passes no gradient.

    Args:
      weights: float32, any shape.
      scale: positive float32, broadcastable to `weights`; see `mean_magnitude`.

    Returns:
      float32 of the shape of `weights`.
    """

    @tf.custom_gradient
    def quantize(weights):
        signs = tf.where(weights >= 0.0, 1.0, -1.0)

        def gradient(upstream):
            return tf.where(tf.abs(weights) <= 1.0, upstream, 0.0)

        return signs * tf.stop_gradient(scale), gradient

    return quantize(weights)


def mean_magnitude(weights: tf.Tensor, axes: tuple[int, ...] | None = None) -> tf.Tensor:
    """``mean(|weights|)`` over `axes`, kept as dimensions of 1: the binary weights' scale.

    Summed in float64, where the order of summation does not show in the float32 result.
    """
    total = tf.reduce_sum(tf.cast(tf.abs(weights), tf.float64), axis=axes, keepdims=True)
    count = tf.cast(tf.size(weights) // tf.size(total), tf.float64)
    return positive(tf.cast(total / opaque(count), weights.dtype))


def wrpn_weights(weights: tf.Tensor, bits: int, axes: tuple[int, ...] | None = None) -> tf.Tensor:
    """The paper's weight quantizer (WRPN, section 5).

    For 2 to 8 bits, ``round((2^(k-1) - 1) clip(w, -1, 1)) / (2^(k-1) - 1)``; for 1 bit,
    ``sign(w) * mean|w|``; for 32, the identity.

    Args:
      weights: float32, any shape.
      bits: 1 to 8, or 32.
      axes: axes of the mean for 1 bit; None takes the whole layer.

    Raises:
      ValueError: for any other bit-width.
    """
    if check_bits(bits, "weight bits") == OFF:
        return weights
    if bits == 1:
        return binarize(weights, mean_magnitude(weights, axes))
    levels = weight_levels(bits)
    return fake_quantize(weights, opaque(1.0 / levels), -levels, levels)


def wrpn_activations(x: tf.Tensor, bits: int) -> tf.Tensor:
    """The paper's activation quantizer (WRPN, section 5).

    ``round((2^k - 1) clip(x, 0, 1)) / (2^k - 1)``; for 32 bits, the identity.

    Args:
      x: float32, any shape.
      bits: 1 to 8, or 32.

    Raises:
      ValueError: for any other bit-width.
    """
    if check_bits(bits, "activation bits") == OFF:
        return x
    levels = activation_levels(bits)
    return fake_quantize(x, opaque(1.0 / levels), 0, levels)


def affine_grid(minimum: tf.Tensor, maximum: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Scale and zero point of the int8 grid that covers a range and holds 0 exactly.

    A range from -a to a gets 254 steps: of 255, no code would be nearest to 0.

    Args:
      minimum: float32 scalar, at most 0 is used.
      maximum: float32 scalar, at least 0 is used.

    Returns:
      ``(scale, zero_point)``, both float32; the zero point is an integer in [-128, 127].
    """
    minimum, maximum = tf.minimum(minimum, 0.0), tf.maximum(maximum, 0.0)
    symmetric = tf.equal(-minimum, maximum) & (maximum > 0.0)
    steps = tf.where(symmetric, opaque(254.0), opaque(255.0))
    scale = tf.maximum((maximum - minimum) / steps, SMALLEST_SCALE)
    # At most 127, as ``-minimum <= 255 * scale`` but for float32's rounding.
    zero_point = round_half_up(-128.0 - minimum / scale)
    return scale, tf.where(symmetric, 0.0, zero_point)


def pixel_grid(minimum: tf.Tensor, maximum: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The int8 grid of an image whose pixels 0 and 255 stand for the ends of a range.

    Pixel p has the code p - 128, and 0 is a code. Where 0 is not the value of a pixel, the pixels
    lie beside the codes, by up to half a step: ``p / 127.5 - 1`` is the code of
    ``(p - 127) / 127.5``. Half of that distance is added to every value before it is rounded; so
    pixels, and the values of codes too, are at least a quarter of a step from where rounding turns.

    Args:
      minimum: float32 scalar, at most 0.
      maximum: float32 scalar, at least 0 and above `minimum`.

    Returns:
      ``(scale, zero_point, shift)``, all float32; `shift` is what is added before rounding.
    """
    scale = (maximum - minimum) / opaque(255.0)
    # A hair more than a half: where both are as near, float32 does not decide.
    lowest = tf.floor(minimum / scale + (0.5 + HAIR))
    return scale, -128.0 - lowest, (lowest * scale - minimum) * 0.5


def straight_through(x: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """`value`, bit for bit, with the gradient of `x`."""

    @tf.custom_gradient
    def replace(x):
        return tf.stop_gradient(value), lambda upstream: upstream

    return replace(x)


def opaque(value: float | tf.Tensor) -> tf.Tensor:
    """A constant that the graph optimizer does not see.

    It would replace a division by a constant with a multiplication by a reciprocal, which
    rounds differently from the division that eager TensorFlow and NumPy compute.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=value, shape=[])


def _sum_like(x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Sums `x` over the axes along which `like` was broadcast to it."""
    leading = x.shape.rank - like.shape.rank
    stretched = [leading + axis for axis, size in enumerate(like.shape) if size == 1]
    return tf.reshape(tf.reduce_sum(x, axis=[*range(leading), *stretched]), tf.shape(like))
