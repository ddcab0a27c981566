"""Average pooling and bilinear upsampling as the integer kernels compute them."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.keras import utils

from wrpn_tf.arithmetic import quantizers
from wrpn_tf.arithmetic.quantization_parameters import QuantizationParameters
from wrpn_tf.tfmot import quantize_config

# How finely means of few and of many codes are told apart, and with which floats they are computed.
_FEW_CODES = 2048
_FEW = (tf.float32, 4096.0)
_MANY = (tf.float64, 2.0**32)


class OneGridLayer(keras.layers.Layer):
    """A layer with one grid on both sides.

    Args:
      quantizer: an output quantizer of this package; its grid is that of input and output.
    """

    def __init__(self, quantizer, **kwargs):
        super().__init__(**kwargs)
        is_config = isinstance(quantizer, dict)
        self.quantizer = quantize_config.from_config(quantizer) if is_config else quantizer

    def build(self, input_shape):
        """Adds the quantizer's variables."""
        self.quantizer_vars = self.quantizer.build(input_shape, "output", self)
        super().build(input_shape)

    def call(self, inputs, training=False):
        """Computes on the grid; what is traced here needs no AutoGraph, which takes long."""
        return tf.autograph.experimental.do_not_convert(self._compute)(inputs, training)

    def _compute(self, inputs, training):
        raise NotImplementedError

    def _quantize(self, inputs, training):
        """The inputs on the grid; an observed range stays where the layer is frozen."""
        return utils.smart_cond(
            training if self.trainable else False,
            lambda: self.quantizer(inputs, True, self.quantizer_vars),
            lambda: self.quantizer(inputs, False, self.quantizer_vars),
        )

    def grid(self) -> QuantizationParameters | None:
        """The grid of input and output."""
        return self.quantizer.grid(self.quantizer_vars)

    def get_config(self):
        """The arguments, serialized."""
        return super().get_config() | {"quantizer": quantize_config.to_config(self.quantizer)}


@keras.saving.register_keras_serializable("wrpn_tf")
class QuantizedAveragePooling2D(OneGridLayer):
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
        super().__init__(quantizer, **kwargs)
        self.pool_size = tuple(pool_size)
        self.strides = tuple(strides)
        self.padding = padding

    def _compute(self, inputs, training):
        """Quantizes, averages and rounds."""
        quantized = self._quantize(inputs, training)
        mean = self._pool(quantized)
        if self.quantizer.observer is not None:
            return mean
        scale, zero_point = self.quantizer.scale_and_zero_point(self.quantizer_vars)
        dtype, resolution = _FEW if np.prod(self.pool_size) < _FEW_CODES else _MANY
        code = self._pool(tf.cast(quantizers.round_half_up(quantized / scale), dtype))
        zero_point = tf.cast(zero_point, dtype)
        # The codes' sum is exact, their mean may land beside a tie; a mean of n codes is either a
        # tie or at least 1 / (2 n) away from it, which is more than half of the resolution.
        code = tf.round(code * resolution) / resolution + zero_point
        code = tf.sign(code) * tf.floor(tf.abs(code) + 0.5) - zero_point
        return quantizers.straight_through(mean, tf.cast(code, mean.dtype) * scale)

    def _pool(self, x):
        return tf.nn.avg_pool2d(x, self.pool_size, self.strides, self.padding.upper())

    def compute_output_shape(self, input_shape):
        """That of average pooling."""
        pool = keras.layers.AveragePooling2D(self.pool_size, self.strides, self.padding)
        return pool.compute_output_shape(input_shape)

    def get_config(self):
        """The arguments, serialized."""
        return super().get_config() | {
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable("wrpn_tf")
class QuantizedUpSampling2D(OneGridLayer):
    """Bilinear upsampling with one grid on both sides, as TFLite's RESIZE_BILINEAR demands.

    The input is quantized, its codes are interpolated between the centers of pixels, and the result
    is rounded to a code, half-way cases up, which is XNNPACK's rule; the built-in kernels' is half
    away from zero in the int8 domain, the same for activations of up to 7 bits. The gradient is
    straight through.

    Args:
      quantizer: an output quantizer of this package; its grid is that of input and output.
      size: factors on height and width, powers of two: only then is the interpolation exact.
    """

    def __init__(self, quantizer, size, **kwargs):
        super().__init__(quantizer, **kwargs)
        self.size = tuple(size)

    def _compute(self, inputs, training):
        """Quantizes, interpolates and rounds."""
        quantized = self._quantize(inputs, training)
        resized = self._resize(quantized)
        if self.quantizer.observer is not None:
            return resized
        scale, _ = self.quantizer.scale_and_zero_point(self.quantizer_vars)
        code = quantizers.round_half_up(self._resize(quantizers.round_half_up(quantized / scale)))
        return quantizers.straight_through(resized, code * scale)

    def _resize(self, x):
        return keras.layers.UpSampling2D(self.size, interpolation="bilinear")(x)

    def compute_output_shape(self, input_shape):
        """That of upsampling."""
        return keras.layers.UpSampling2D(self.size).compute_output_shape(input_shape)

    def get_config(self):
        """The arguments, serialized."""
        return super().get_config() | {"size": self.size}
