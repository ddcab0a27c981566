"""The quantizers in `keras.ops`: one definition for TensorFlow, JAX and PyTorch.

Values are those of `wrpn_tf.arithmetic.numpy_twins`, bit for bit, also when a backend compiles
them; gradients are those that `wrpn_tf.arithmetic.quantizers` and `related_work` say.

Compilers replace a division by a constant with a multiplication by its reciprocal, which rounds
differently. In float64 that does not show in the float32 result, so constants divide there.
"""

from __future__ import annotations

import contextlib
from typing import Any

import keras
from keras import ops

from wrpn_tf.arithmetic.bits import activation_levels
from wrpn_tf.arithmetic.numpy_twins import HAIR, SMALLEST_SCALE
from wrpn_tf.arithmetic.scales import normal_factor

Tensor = Any
"""A tensor of the backend of Keras."""


def round_half_up(x: Tensor) -> Tensor:
    """``floor(x + 1/2)``: nearest integer, half-way cases up."""
    return ops.floor(x + 0.5)


def positive(scale: Tensor) -> Tensor:
    """The scale in use for a stored one: its magnitude, never below `SMALLEST_SCALE`."""
    return ops.maximum(ops.abs(scale), SMALLEST_SCALE)


def divided(x: Tensor, constant: float) -> Tensor:
    """``x / constant`` as NumPy divides in float32, for a whole number of at most 8 bits."""
    with float64():
        return ops.cast(ops.cast(x, "float64") / constant, "float32")


def fake_quantize(
    x: Tensor,
    scale: Tensor,
    low: float,
    high: float,
    gradient_scale: float = 1.0,
    known: Tensor | None = None,
) -> Tensor:
    """See `wrpn_tf.arithmetic.quantizers.fake_quantize`, which it is on TensorFlow.

    Nothing is known on other backends.
    """
    if keras.config.backend() != "tensorflow":
        return fake_quantize_by_ops(x, scale, low, high, gradient_scale)
    from wrpn_tf.arithmetic import quantizers

    x, scale = ops.cast(x, "float32"), ops.cast(scale, "float32")
    return quantizers.fake_quantize(x, scale, low, high, gradient_scale, known)


def fake_quantize_to_int8(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """See `wrpn_tf.arithmetic.quantizers.fake_quantize_to_int8`, which it is on TensorFlow."""
    x = ops.cast(x, "float32")
    if keras.config.backend() != "tensorflow":
        low, high = -128.0 - zero_point, 127.0 - zero_point
        return fake_quantize_by_ops(x, ops.stop_gradient(scale), low, high)
    from wrpn_tf.arithmetic import quantizers

    return quantizers.fake_quantize_to_int8(x, scale, zero_point)


def fake_quantize_by_ops(
    x: Tensor, scale: Tensor, low: Any, high: Any, gradient_scale: float = 1.0
) -> Tensor:
    """The same with what all backends have: on TensorFlow it takes twice as many passes."""

    @ops.custom_gradient
    def quantize(x, scale, low, high):
        codes = _clip(round_half_up(x / scale), low, high)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            steps = x / scale
            inside = ops.cast(ops.equal(steps, _clip(steps, low, high)), x.dtype)
            slope = codes - inside * steps
            to_scale = _sum_like(upstream * slope, scale) * gradient_scale
            return upstream * inside, to_scale, ops.zeros_like(low), ops.zeros_like(high)

        return codes * scale, gradient

    return quantize(*(ops.cast(value, "float32") for value in (x, scale, low, high)))


def binarize(weights: Tensor, scale: Tensor) -> Tensor:
    """See `wrpn_tf.arithmetic.quantizers.binarize`."""

    @ops.custom_gradient
    def quantize(weights, scale):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return upstream * _inside_one(weights), ops.zeros_like(scale)

        return _signs(weights) * scale, gradient

    return quantize(weights, ops.stop_gradient(scale))


def mean_magnitude(weights: Tensor, axes: tuple[int, ...] | None = None) -> Tensor:
    """See `wrpn_tf.arithmetic.quantizers.mean_magnitude`; it passes no gradient."""
    weights = ops.stop_gradient(weights)
    with float64():
        total = ops.sum(ops.abs(ops.cast(weights, "float64")), axis=axes, keepdims=True)
        count = _size(weights) // _size(total)
        mean = ops.cast(total / count, "float32")
    return positive(mean)


def affine_grid(minimum: Tensor, maximum: Tensor) -> tuple[Tensor, Tensor]:
    """See `wrpn_tf.arithmetic.quantizers.affine_grid`."""
    minimum, maximum = ops.minimum(minimum, 0.0), ops.maximum(maximum, 0.0)
    symmetric = ops.logical_and(ops.equal(-minimum, maximum), maximum > 0.0)
    width = maximum - minimum
    scale = ops.where(symmetric, divided(width, 254.0), divided(width, 255.0))
    scale = ops.maximum(scale, SMALLEST_SCALE)
    return scale, ops.where(symmetric, 0.0, round_half_up(-128.0 - minimum / scale))


def pixel_grid(minimum: Tensor, maximum: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point of `wrpn_tf.arithmetic.quantizers.pixel_grid`.

    The shift is NumPy's: its product and difference are one operation where a compiler fuses them.
    """
    scale = divided(maximum - minimum, 255.0)
    return scale, -128.0 - ops.floor(minimum / scale + (0.5 + HAIR))


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """`value`, bit for bit, with the gradient of `x`."""

    @ops.custom_gradient
    def replace(x, value):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return upstream, ops.zeros_like(value)

        return value, gradient

    return replace(x, ops.stop_gradient(value))


def dynamic_scale(weights: Tensor, levels: int, axes: tuple[int, ...] | None) -> Tensor:
    """See `wrpn_tf.arithmetic.related_work.dynamic_scale`."""
    return positive(mean_magnitude(weights, axes) * float(normal_factor(levels)))


def dorefa_weights(weights: Tensor, bits: int) -> Tensor:
    """See `wrpn_tf.arithmetic.related_work.dorefa_weights`."""
    levels = activation_levels(bits)

    @ops.custom_gradient
    def quantize(weights):
        with float64():
            normal = ops.tanh(ops.cast(weights, "float64"))
            # On PyTorch `ops.maximum` of two float64 is a float32.
            largest = ops.max(ops.abs(normal), initial=SMALLEST_SCALE)
            unit = ops.cast(normal / (2.0 * largest) + 0.5, "float32")
            # Rounded to float32 once, and not together with what is added.
            steps = ops.cast(ops.cast(unit, "float64") * levels, "float32")
        codes = 2.0 * round_half_up(steps) - levels

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            with float64():  # Of ``normal / largest``, where the largest depends on the weights.
                upstream = ops.cast(upstream, "float64")
                first = ops.cast(ops.equal(ops.abs(normal), largest), "float64")
                first = first / ops.maximum(ops.sum(first), 1.0)
                share = ops.sum(upstream * normal) / (largest * largest)
                slope = upstream / largest - first * ops.sign(normal) * share
                return ops.cast(slope * (1.0 - normal * normal), "float32")

        return codes * (1.0 / levels), gradient

    return quantize(ops.cast(weights, "float32"))


def xnor_weights(weights: Tensor, axes: tuple[int, ...] | None) -> Tensor:
    """See `wrpn_tf.arithmetic.related_work.xnor_weights`."""

    @ops.custom_gradient
    def quantize(weights):
        scale, signs = mean_magnitude(weights, axes), _signs(weights)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            to_scale = ops.mean(upstream * signs, axis=axes, keepdims=True)
            return upstream * scale * _inside_one(weights) + signs * to_scale

        return signs * scale, gradient

    return quantize(ops.cast(weights, "float32"))


def pact(x: Tensor, clip: Tensor, levels: int) -> Tensor:
    """See `wrpn_tf.arithmetic.related_work.pact`."""

    @ops.custom_gradient
    def quantize(x, clip):
        scale = divided(clip, float(levels))

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            clipped = ops.cast(x >= clip, x.dtype)
            inside = ops.cast(x >= 0.0, x.dtype) - clipped
            return upstream * inside, ops.sum(upstream * clipped)

        return _clip(round_half_up(x / scale), 0.0, float(levels)) * scale, gradient

    return quantize(ops.cast(x, "float32"), ops.cast(clip, "float32"))


def float64() -> contextlib.AbstractContextManager:
    """Where operations may have float64 results, which JAX has only on demand."""
    if keras.config.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.enable_x64(True)


def _clip(x: Tensor, low: Any, high: Any) -> Tensor:
    return ops.minimum(ops.maximum(x, low), high)


def _signs(weights: Tensor) -> Tensor:
    return ops.where(weights >= 0.0, 1.0, -1.0)


def _inside_one(weights: Tensor) -> Tensor:
    return ops.cast(ops.abs(weights) <= 1.0, weights.dtype)


def _size(x: Tensor) -> int:
    size = 1
    for length in x.shape:
        size *= length
    return size


def _sum_like(x: Tensor, like: Tensor) -> Tensor:
    """Sums `x` over the axes along which `like` was broadcast to it."""
    leading = len(x.shape) - len(like.shape)
    stretched = [leading + axis for axis, size in enumerate(like.shape) if size == 1]
    axes = (*range(leading), *stretched)
    return ops.reshape(ops.sum(x, axis=axes) if axes else x, like.shape)
