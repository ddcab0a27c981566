"""Quantizers of related work, on the same integer grids: pure functions and their NumPy twins.

DoReFa-Net (arXiv 1606.06160), XNOR-Net (arXiv 1603.05279), PACT (arXiv 1805.06085), and scales that
follow the kernel. The twins give the values, bit for bit.
"""

from __future__ import annotations

import tensorflow as tf

from wrpn_tf.arithmetic import quantizers
from wrpn_tf.arithmetic.numpy_twins import dorefa_codes_np as dorefa_codes_np
from wrpn_tf.arithmetic.numpy_twins import pact_np as pact_np
from wrpn_tf.arithmetic.scales import dynamic_scale_np as dynamic_scale_np
from wrpn_tf.arithmetic.scales import normal_factor as normal_factor


def dynamic_scale(weights: tf.Tensor, levels: int, axes: tuple[int, ...] | None) -> tf.Tensor:
    """A scale that is a statistic of the kernel: ``normal_factor(levels) * mean|w|``.

    As XNOR-Net's for one bit, for any number of levels: the least squared error for normally
    distributed weights. It passes no gradient to the weights.

    Args:
      weights: float32, any shape.
      levels: largest code.
      axes: axes that share a scale; None: all.

    Returns:
      positive float32 with 1 on `axes`.
    """
    mean = quantizers.mean_magnitude(weights, axes)
    return tf.stop_gradient(quantizers.positive(mean * normal_factor(levels)))


def dorefa_weights(weights: tf.Tensor, bits: int) -> tf.Tensor:
    """DoReFa's weights of 2 to 7 bits (arXiv 1606.06160, equation 9).

    ``2 quantize_k(tanh(w) / (2 max|tanh(w)|) + 1/2) - 1``, where quantize_k rounds to multiples of
    ``1 / (2^k - 1)``: all odd codes from ``-(2^k - 1)`` to ``2^k - 1``, of scale ``1 / (2^k - 1)``,
    and no 0. The gradient is straight through quantize_k, and exact through the rest.

    Args:
      weights: float32, any shape.
      bits: 2 to 7.
    """
    levels = quantizers.activation_levels(bits)
    normal = tf.tanh(tf.cast(weights, tf.float64))
    largest = tf.maximum(tf.reduce_max(tf.abs(normal)), quantizers.SMALLEST_SCALE)
    unit = tf.cast(normal / (2.0 * largest) + 0.5, weights.dtype)
    codes = 2.0 * quantizers.round_half_up(unit * levels) - levels
    value = codes * quantizers.opaque(1.0 / levels)
    return quantizers.straight_through(2.0 * unit, value)


def xnor_weights(weights: tf.Tensor, axes: tuple[int, ...] | None) -> tf.Tensor:
    """1-bit weights with a gradient through their scale (XNOR-Net, arXiv 1603.05279).

    The value is that of `quantizers.binarize` with ``alpha = mean|w|`` over `axes`, n weights. The
    gradient is that of the product: with g from above,
    ``alpha (|w_i| <= 1) g_i + sign(w_i) / n * sum_j g_j sign(w_j)``. The paper's own (section 3.1),
    ``g_i (alpha (|w_i| <= 1) + 1/n)``, keeps of the sum only j = i, and so is the straight-through
    gradient times one number for each channel, as a learning rate is.

    Args:
      weights: float32, any shape.
      axes: axes that share a scale; None: all.
    """

    @tf.custom_gradient
    def quantize(weights):
        scale = quantizers.mean_magnitude(weights, axes)
        signs = quantizers.binarize(weights, tf.ones_like(scale))

        def gradient(upstream):
            inside = tf.cast(tf.abs(weights) <= 1.0, weights.dtype)
            to_scale = tf.reduce_mean(upstream * signs, axis=axes, keepdims=True)
            return upstream * scale * inside + signs * to_scale

        return signs * scale, gradient

    return quantize(weights)


def pact(x: tf.Tensor, clip: tf.Tensor, levels: int) -> tf.Tensor:
    """PACT's activations (arXiv 1805.06085, equations 1 to 3), with the clip alpha learned.

    ``round(clip(x, 0, alpha) * n / alpha) * alpha / n``. The gradient is straight through for x
    between 0 and alpha, and alpha's is the sum of the upstream one where ``x >= alpha``.

    Args:
      x: float32, any shape.
      clip: positive float32 scalar: alpha.
      levels: n, the largest code.
    """

    @tf.custom_gradient
    def quantize(x, clip):
        scale = clip / quantizers.opaque(float(levels))

        def gradient(upstream):
            clipped = tf.cast(x >= clip, x.dtype)
            inside = tf.cast(x >= 0.0, x.dtype) - clipped
            return upstream * inside, tf.reduce_sum(upstream * clipped)

        return quantizers.fake_quantize(x, scale, 0, levels), gradient

    return quantize(x, clip)
