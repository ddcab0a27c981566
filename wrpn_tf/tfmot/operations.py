"""TensorFlow operations in functional graphs (``x * 2``, ``tf.nn.relu(x)``) as Keras layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers
from tf_keras.src.layers.core.tf_op_layer import TFOpLambda

from wrpn_tf.graph.canonical import rescaling

_ADD = ("__operators__.add", "math.add")
_SUBTRACT = ("math.subtract",)
_MULTIPLY = ("math.multiply",)
_DIVIDE = ("math.truediv", "math.divide")
_NEGATE = ("math.negative",)
_LEAKY_SLOPE = 0.2  # tf.nn.leaky_relu's.
_KEYWORDS = {"nn.leaky_relu": ("alpha",), "concat": ("axis",)}  # Beside operands and names.
_UNARY: dict[str, Callable[[str], keras.layers.Layer]] = {
    "nn.relu": lambda name: layers.ReLU(name=name),
    "nn.relu6": lambda name: layers.ReLU(6.0, name=name),
    "math.sigmoid": lambda name: layers.Activation("sigmoid", name=name),
    "nn.silu": lambda name: layers.Activation("swish", name=name),
    "nn.softmax": lambda name: layers.Softmax(name=name),
}


_BINARY: dict[str, type[keras.layers.Layer]] = {
    **dict.fromkeys(_ADD, layers.Add),
    **dict.fromkeys(_SUBTRACT, layers.Subtract),
    **dict.fromkeys(_MULTIPLY, layers.Multiply),
    "math.maximum": layers.Maximum,
    "math.minimum": layers.Minimum,
}


def layer_of(node: Any) -> keras.layers.Layer:
    """The layer of a node of a Keras graph, or one of fewer kinds that computes the same.

    Normalization over the last axis becomes a Rescaling layer. Of TensorFlow's operations, sums,
    differences, products, maxima and minima of tensors, arithmetic with one constant for all or for
    each channel, ReLU, ReLU6, leaky ReLU, sigmoid, swish, softmax over the last axis and
    concatenation become layers; others stay.
    """
    layer = node.layer
    if type(layer) is layers.Normalization:
        return _fixed_normalization(layer)
    if type(layer) is not TFOpLambda:
        return layer
    function = layer.get_config()["function"]
    understood = {"name", "y", *_KEYWORDS.get(function, ())}
    if any(value is not None for key, value in node.call_kwargs.items() if key not in understood):
        return layer
    operands = [*node.call_args, *(node.call_kwargs[k] for k in ("y",) if k in node.call_kwargs)]
    if function in _UNARY and len(operands) == 1:
        return _UNARY[function](layer.name)
    if function == "nn.leaky_relu":
        slope = operands[1] if len(operands) > 1 else node.call_kwargs.get("alpha", _LEAKY_SLOPE)
        return layers.LeakyReLU(slope, name=layer.name)
    if function == "concat" and isinstance(operands[0], list | tuple):
        axis = operands[1] if len(operands) > 1 else node.call_kwargs.get("axis")
        return layers.Concatenate(axis=axis, name=layer.name)
    if all(map(_is_symbolic, operands)) and len(operands) == 2:
        return _BINARY[function](name=layer.name) if function in _BINARY else layer
    affine = _affine(function, operands)
    return layer if affine is None else rescaling(layers, *affine, name=layer.name)


def _fixed_normalization(layer: layers.Normalization) -> keras.layers.Layer:
    """The layer with its adapted statistics as constants, where they belong to the last axis."""
    statistics = [
        _value(layer.mean, layer.input_mean),
        _value(layer.variance, layer.input_variance),
    ]
    if any(value is None for value in statistics):
        return layer
    mean, variance = (np.asarray(value, np.float64) for value in statistics)
    if max(mean.size, variance.size) not in (1, mean.shape[-1] if mean.ndim else 1):
        return layer
    mean, variance = mean.reshape(-1), variance.reshape(-1)
    deviation = np.maximum(np.sqrt(variance), keras.backend.epsilon())
    if layer.invert:
        return rescaling(layers, deviation, mean, layer.name)
    return rescaling(layers, 1.0 / deviation, -mean / deviation, layer.name)


def _value(constant: Any, given: Any = None) -> Any:
    """A constant's value where it is a tensor.

    In a `tf.Graph`, where it may not have one, it is what was `given` for the tensor, or None.
    """
    if isinstance(constant, tf.Variable):
        return constant.numpy() if tf.executing_eagerly() else None
    if not isinstance(constant, tf.Tensor):
        return constant
    value = tf.get_static_value(constant)
    if value is None and given is not None:
        return np.broadcast_to(np.asarray(given, np.float32), constant.shape)
    return value


def _is_symbolic(value: Any) -> bool:
    return hasattr(value, "_keras_history")


def _affine(function: str, operands: list[Any]) -> tuple[Any, Any] | None:
    """Scale and offset of an operation on one tensor and a constant, or None."""
    if function in _NEGATE and len(operands) == 1:
        return -1.0, 0.0
    if len(operands) != 2 or _is_symbolic(operands[0]) == _is_symbolic(operands[1]):
        return None
    tensor, constant = operands if _is_symbolic(operands[0]) else operands[::-1]
    value = _per_channel(constant, tensor.shape[-1])
    if value is None:
        return None
    first = tensor is operands[0]
    if function in _ADD:
        return 1.0, value
    if function in _SUBTRACT:
        return (1.0, -value) if first else (-1.0, value)
    if function in _MULTIPLY:
        return value, 0.0
    if function in _DIVIDE and first:
        return 1.0 / value, 0.0
    return None


def _per_channel(constant: Any, channels: int | None) -> np.ndarray | None:
    """A constant as a number or one for each channel; None where it is neither."""
    try:
        value = np.asarray(_value(constant), np.float32)
    except (TypeError, ValueError):
        return None
    if value.size == 1:
        return value.reshape(())
    return value.reshape(-1) if value.size == channels == value.shape[-1] else None
