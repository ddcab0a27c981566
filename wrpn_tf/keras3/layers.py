"""Layers that hold quantizers: real Keras layers, registered, whose state is in their variables."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
from keras import ops

from wrpn_tf.arithmetic import portable
from wrpn_tf.graph.placement import KBit, Range
from wrpn_tf.graph.plan import KernelPlan, LayerPlan
from wrpn_tf.graph.roles import class_name, is_replaced
from wrpn_tf.keras3.output_quantizers import ActivationQuantizer, OutputQuantizer, RangeQuantizer
from wrpn_tf.keras3.weight_quantizer import WeightQuantizer

# How finely means of few and of many codes are told apart, and with which floats they are computed.
_FEW_CODES = 2048
_FEW = ("float32", 4096.0)
_MANY = ("float64", 2.0**32)

_QUANTIZERS: dict[str, type] = {
    cls.__name__: cls for cls in (WeightQuantizer, ActivationQuantizer, RangeQuantizer)
}


def output_quantizer(place: KBit | Range | None) -> ActivationQuantizer | RangeQuantizer | None:
    """The quantizer for what was placed."""
    match place:
        case KBit():
            return ActivationQuantizer(place.bits, place.method, place.maximum)
        case Range():
            return RangeQuantizer(place.fixed)
    return None


def weight_quantizer(plan: KernelPlan | None) -> WeightQuantizer | None:
    """The quantizer that is planned for a kernel."""
    if plan is None:
        return None
    return WeightQuantizer(plan.bits, plan.method, plan.per_channel)


def _to_config(quantizer: Any) -> dict[str, Any] | None:
    if quantizer is None:
        return None
    return {"quantizer": type(quantizer).__name__, **quantizer.get_config()}


def _from_config(config: Any) -> Any:
    """A quantizer of its configuration, or the quantizer itself."""
    if not isinstance(config, dict):
        return config
    arguments = dict(config)
    return _QUANTIZERS[arguments.pop("quantizer")](**arguments)


def _hold(layer: keras.layers.Layer, *quantizers: Any) -> None:
    """Makes quantizers' variables attributes of a layer: `tf.train.Checkpoint` finds no others."""
    for quantizer in filter(None, quantizers):
        for variable in quantizer.variables.values():
            setattr(layer, variable.name, variable)


@keras.saving.register_keras_serializable("wrpn_tf")
class QuantizedLayer(keras.layers.Layer):
    """A layer whose kernel, output or both are quantized.

    The layer's weights stay float; the quantized kernel stands in for the kernel during a call
    only. A frozen layer trains no scales, and its observed range stays. Regularizers of weights see
    the float weights, those of activities the quantized output.

    Args:
      layer: the float layer.
      weight: quantizer of its kernel, or None.
      output: quantizer of its output, or None.
    """

    def __init__(self, layer: Any, weight: Any = None, output: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        if isinstance(layer, dict):
            layer = keras.saving.deserialize_keras_object(layer)
        self.layer = layer
        self.weight_quantizer: WeightQuantizer | None = _from_config(weight)
        self.output_quantizer: OutputQuantizer | None = _from_config(output)
        self.activity_regularizer = layer.activity_regularizer
        self.supports_masking = layer.supports_masking
        self._takes_training = "training" in inspect.signature(layer.call).parameters

    def build(self, input_shape: Any) -> None:
        """Builds the layer and its quantizers."""
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True
        if self.weight_quantizer is not None:
            self.weight_quantizer.build(self, self.layer.kernel, class_name(self.layer))
        if self.output_quantizer is not None:
            self.output_quantizer.build(self, self.compute_output_shape(input_shape))
        _hold(self, self.weight_quantizer, self.output_quantizer)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The layer's output with quantizers in place.

        A ReLU is not computed whose quantizer clips all that it would.
        """
        observes = bool(training) and self.trainable
        quantizer = self.output_quantizer
        if quantizer is not None and is_replaced(self.layer, quantizer):
            return quantizer(inputs, observes)
        arguments = {"training": training} if self._takes_training else {}
        if self.weight_quantizer is None:
            outputs = self.layer.call(inputs, **arguments)
        else:
            kernel = self.layer.kernel
            values = {id(variable): variable.value for variable in self.layer.variables}
            values[id(kernel)] = self.weight_quantizer(kernel.value)
            mapping = [(variable, values[id(variable)]) for variable in self.layer.variables]
            with keras.StatelessScope(mapping, initialize_variables=False):
                outputs = self.layer.call(inputs, **arguments)
        return outputs if quantizer is None else quantizer(outputs, observes)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The layer's."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        return super().get_config() | {
            "layer": keras.saving.serialize_keras_object(self.layer),
            "weight": _to_config(self.weight_quantizer),
            "output": _to_config(self.output_quantizer),
        }


@keras.saving.register_keras_serializable("wrpn_tf")
class AnnotatedLayer(keras.layers.Layer):
    """A layer that is marked for `wrpn_tf.quantize_apply`, and computes as without the mark.

    Args:
      layer: the layer.
      weight: arguments of a `KernelPlan`, or None.
      output: arguments of a `KBit`, or None.
    """

    def __init__(self, layer: Any, weight: Any = None, output: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        if isinstance(layer, dict):
            layer = keras.saving.deserialize_keras_object(layer)
        self.layer = layer
        self.weight, self.output_wanted = weight, output
        self.activity_regularizer = layer.activity_regularizer
        self._takes_training = "training" in inspect.signature(layer.call).parameters

    @property
    def plan(self) -> LayerPlan:
        """What the layer is asked to have."""
        return LayerPlan(
            weight=self.weight and KernelPlan(**self.weight),
            output=self.output_wanted and KBit(**self.output_wanted),
        )

    def build(self, input_shape: Any) -> None:
        """Builds the layer."""
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The layer's output."""
        arguments = {"training": training} if self._takes_training else {}
        return self.layer.call(inputs, **arguments)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The layer's."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        return super().get_config() | {
            "layer": keras.saving.serialize_keras_object(self.layer),
            "weight": self.weight and dict(self.weight),
            "output": self.output_wanted and dict(self.output_wanted),
        }


class _OutputLayer(keras.layers.Layer):
    """A layer with an output quantizer of its own.

    Args:
      quantizer: an output quantizer of this package.
    """

    def __init__(self, quantizer: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.output_quantizer: Any = _from_config(quantizer)

    def build(self, input_shape: Any) -> None:
        """Adds the quantizer's variables."""
        self.output_quantizer.build(self, input_shape)
        _hold(self, self.output_quantizer)
        self.built = True

    def _quantize(self, inputs: Any, training: bool | None) -> Any:
        """The inputs on the grid; an observed range stays where the layer is frozen."""
        return self.output_quantizer(inputs, bool(training) and self.trainable)

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        return super().get_config() | {"quantizer": _to_config(self.output_quantizer)}


@keras.saving.register_keras_serializable("wrpn_tf")
class QuantizedInput(_OutputLayer):
    """The quantizer of an input of a model.

    Args:
      quantizer: an output quantizer of this package.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The inputs on the grid."""
        return self._quantize(inputs, training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape


@keras.saving.register_keras_serializable("wrpn_tf")
class QuantizedAveragePooling2D(_OutputLayer):
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

    def __init__(self, quantizer: Any, pool_size: Any, strides: Any, padding: str = "valid", **kw):
        super().__init__(quantizer, **kw)
        self.pool_size = tuple(pool_size)
        self.strides = tuple(strides)
        self.padding = padding

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Quantizes, averages and rounds."""
        quantized = self._quantize(inputs, training)
        mean = self._pool(quantized)
        if self.output_quantizer.observer is not None:
            return mean
        scale, zero_point = self.output_quantizer.scale_and_zero_point()
        codes = ops.stop_gradient(portable.round_half_up(quantized / scale))
        dtype, resolution = _FEW if np.prod(self.pool_size) < _FEW_CODES else _MANY
        with portable.float64():
            code = self._pool(ops.cast(codes, dtype))
            zero_point = ops.cast(zero_point, dtype)
            # The codes' sum is exact, their mean may land beside a tie; a mean of n codes is either
            # a tie or at least 1 / (2 n) away from it, which is more than half of the resolution.
            code = ops.round(code * resolution) / resolution + zero_point
            code = ops.sign(code) * ops.floor(ops.abs(code) + 0.5) - zero_point
            code = ops.cast(code, "float32")
        return portable.straight_through(mean, code * scale)

    def _pool(self, x: Any) -> Any:
        return ops.average_pool(
            x, self.pool_size, self.strides, self.padding, data_format="channels_last"
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of average pooling."""
        pool = keras.layers.AveragePooling2D(
            self.pool_size, self.strides, self.padding, data_format="channels_last"
        )
        return pool.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        return super().get_config() | {
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable("wrpn_tf")
class QuantizedUpSampling2D(_OutputLayer):
    """Bilinear upsampling with one grid on both sides, as TFLite's RESIZE_BILINEAR demands.

    The input is quantized, its codes are interpolated between the centers of pixels, and the result
    is rounded to a code, half-way cases up, which is XNNPACK's rule; the built-in kernels' is half
    away from zero in the int8 domain, the same for activations of up to 7 bits. The gradient is
    straight through.

    Args:
      quantizer: an output quantizer of this package; its grid is that of input and output.
      size: factors on height and width, powers of two: only then is the interpolation exact.
    """

    def __init__(self, quantizer: Any, size: Any, **kwargs: Any):
        super().__init__(quantizer, **kwargs)
        self.size = tuple(size)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Quantizes, interpolates and rounds."""
        quantized = self._quantize(inputs, training)
        resized = self._resize(quantized)
        if self.output_quantizer.observer is not None:
            return resized
        scale, _ = self.output_quantizer.scale_and_zero_point()
        codes = ops.stop_gradient(portable.round_half_up(quantized / scale))
        code = portable.round_half_up(self._resize(codes))
        return portable.straight_through(resized, code * scale)

    def _resize(self, x: Any) -> Any:
        sizes = zip(x.shape[1:3], self.size, strict=True)
        height, width = (int(size) * factor for size, factor in sizes)
        return ops.image.resize(
            x, (height, width), interpolation="bilinear", data_format="channels_last"
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of upsampling."""
        batch, height, width, channels = input_shape
        return (batch, height * self.size[0], width * self.size[1], channels)

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        return super().get_config() | {"size": self.size}
