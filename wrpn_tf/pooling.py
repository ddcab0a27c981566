"""Average pooling as the integer kernel computes it."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras

from wrpn_tf import configs, quantizers
from wrpn_tf.keras_quantizers import OutputGrid

_TIE_RESOLUTION = 4096.0


class QuantizedAveragePooling2D(keras.layers.Layer):
    """Average pooling with one grid on both sides, as TFLite's AVERAGE_POOL_2D demands.

    The input is quantized, the codes are averaged (padding does not count), and the mean is rounded
    to a code by the kernel's rule: half-way cases away from zero *in the int8 domain*, which is
    half up for activations of up to 7 bits. The gradient is straight through.

    Args:
      quantizer: an output quantizer of this package; its grid is that of input and output.
      pool_size: window height and width in pixels.
      strides: vertical and horizontal step in pixels.
      padding: 'valid' or 'same'.
    """

    def __init__(self, quantizer, pool_size, strides, padding="valid", **kwargs):
        super().__init__(**kwargs)
        is_config = isinstance(quantizer, dict)
        self.quantizer = configs.from_config(quantizer) if is_config else quantizer
        self.pool_size = tuple(pool_size)
        self.strides = tuple(strides)
        self.padding = padding

    def build(self, input_shape):
        """Adds the quantizer's variables."""
        self.quantizer_vars = self.quantizer.build(input_shape, "output", self)
        super().build(input_shape)

    def call(self, inputs, training=None):
        """Quantizes, averages and rounds."""
        quantized = self.quantizer(inputs, training, self.quantizer_vars)
        mean = self._pool(quantized)
        if self.quantizer.observer is not None:
            return mean
        scale, zero_point = self.quantizer.scale_and_zero_point(self.quantizer_vars)
        code = self._pool(quantizers.round_half_up(quantized / scale))
        # The codes' sum is exact, their mean may land beside a tie; a mean of fewer than 2048 codes
        # is either a tie or further from it than this resolution.
        code = tf.round(code * _TIE_RESOLUTION) / _TIE_RESOLUTION + zero_point
        code = tf.sign(code) * tf.floor(tf.abs(code) + 0.5) - zero_point
        return quantizers.straight_through(mean, code * scale)

    def _pool(self, x):
        return tf.nn.avg_pool2d(x, self.pool_size, self.strides, self.padding.upper())

    def grid(self) -> OutputGrid | None:
        """The grid of input and output."""
        return self.quantizer.grid(self.quantizer_vars)

    def compute_output_shape(self, input_shape):
        """That of average pooling."""
        pool = keras.layers.AveragePooling2D(self.pool_size, self.strides, self.padding)
        return pool.compute_output_shape(input_shape)

    def get_config(self):
        """The arguments, serialized."""
        return super().get_config() | {
            "quantizer": configs.to_config(self.quantizer),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
        }
