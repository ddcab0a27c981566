"""TensorFlow's kernels of another purpose that do on a CPU in one pass what takes several.

GPUs have none of them or slow ones, and XLA has none or makes something slow of them; there, the
several operations are fused.
"""

from __future__ import annotations

import tensorflow as tf

# Keras asks the same for its recurrent layers; TensorFlow has no public name for it.
from tensorflow.python.ops import control_flow_util

_DOT_CHANNELS = 16
"""Of fewer channels `dot` is slower than a product and its sum."""


def are_available() -> bool:
    """Whether what is traced, or runs, now is for a CPU and not for XLA."""
    in_xla = control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
    return not in_xla and not tf.config.list_logical_devices("GPU")


def has_fast_dot(x: tf.Tensor) -> bool:
    """Whether `dot` of tensors of this shape is available and faster than a product and its sum."""
    has_channels = x.shape.rank > 1 and (x.shape[-1] or 0) >= _DOT_CHANNELS
    return has_channels and are_available()


def dot(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The sum of ``x * y``: of the gradient of a depthwise 1x1 kernel, which is it by channel.

    It takes all cores and makes no tensor of products; `tf.matmul` takes one core.

    Args:
      x: float32 ``[images, ..., channels]``.
      y: float32 of the same shape.

    Returns:
      float32 scalar.
    """
    channels = x.shape[-1]
    sizes = tf.shape(x)  # Of no image, too, as a replica may have.
    columns = tf.stack([sizes[0], tf.reduce_prod(sizes[1:-1]), 1, channels])
    by_channel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=tf.reshape(x, columns),
        filter_sizes=[1, 1, channels, 1],
        out_backprop=tf.reshape(y, columns),
        strides=[1, 1, 1, 1],
        padding="VALID",
    )
    return tf.reduce_sum(by_channel)


def nearest_codes(values: tf.Tensor, scale: tf.Tensor, low: float | tf.Tensor) -> tf.Tensor:
    """The nearest of 256 codes: ``values / scale - low``, rounded, of values near them.

    Args:
      values: float32, any shape, less than half a scale from ``[low, low + 255] * scale``.
      scale: positive float32 scalar.
      low: at most 0 and at least -255.

    Returns:
      uint8 of the shape of `values`.
    """
    codes = tf.raw_ops.QuantizeV2(
        input=values,
        min_range=low * scale,
        max_range=(low + 255.0) * scale,
        T=tf.quint8,
        mode="MIN_COMBINED",
        ensure_minimum_range=0.0,
    )
    return tf.bitcast(codes.output, tf.uint8)
