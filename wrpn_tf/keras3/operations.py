"""Operations in functional graphs (``x * 2``, ``keras.ops.relu(x)``) as Keras layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from wrpn_tf.graph.canonical import rescaling
from wrpn_tf.graph.roles import operation_name

_ADD = ("numpy.Add",)
_SUBTRACT = ("numpy.Subtract",)
_MULTIPLY = ("numpy.Multiply",)
_DIVIDE = ("numpy.Divide", "numpy.TrueDivide")
_NEGATE = ("numpy.Negative",)
_UNARY: dict[str, Callable[[Any], keras.layers.Layer]] = {
    "nn.Relu": lambda o: layers.ReLU(name=o.name),
    "nn.Relu6": lambda o: layers.ReLU(6.0, name=o.name),
    "nn.Sigmoid": lambda o: layers.Activation("sigmoid", name=o.name),
    "nn.Silu": lambda o: layers.Activation("silu", name=o.name),
    "nn.HardSigmoid": lambda o: layers.Activation("hard_sigmoid", name=o.name),
    "nn.HardSilu": lambda o: layers.Activation("hard_silu", name=o.name),
    "nn.LeakyRelu": lambda o: layers.LeakyReLU(o.negative_slope, name=o.name),
    "nn.Softmax": lambda o: layers.Softmax(o.axis, name=o.name),
}
_BINARY: dict[str, type[keras.layers.Layer]] = {
    **dict.fromkeys(_ADD, layers.Add),
    **dict.fromkeys(_SUBTRACT, layers.Subtract),
    **dict.fromkeys(_MULTIPLY, layers.Multiply),
    "numpy.Maximum": layers.Maximum,
    "numpy.Minimum": layers.Minimum,
}


def layer_of(node: Any) -> Any:
    """The layer of a node of a Keras graph, or one of fewer kinds that computes the same.

    Normalization over the last axis becomes a Rescaling layer. Of `keras.ops`, sums, differences,
    products, maxima and minima of tensors, arithmetic with one constant for all or for each
    channel, ReLU, ReLU6, leaky ReLU, sigmoid, swish, their hard forms, softmax and concatenation
    become layers; others stay.
    """
    operation = node.operation
    if type(operation) is layers.Normalization:
        return _fixed_normalization(operation)
    if isinstance(operation, layers.Layer):
        return operation
    name = operation_name(operation)
    operands = [*node.arguments.args, *node.arguments.kwargs.values()]
    if name in _UNARY and len(operands) == 1:
        return _UNARY[name](operation)
    if name == "numpy.Concatenate" and len(operands) == 1:
        return layers.Concatenate(axis=operation.axis, name=operation.name)
    if all(map(_is_symbolic, operands)) and len(operands) == 2:
        return _BINARY[name](name=operation.name) if name in _BINARY else operation
    affine = _affine(name, operands)
    return operation if affine is None else rescaling(layers, *affine, name=operation.name)


def _fixed_normalization(layer: layers.Normalization) -> keras.layers.Layer:
    """The layer with its adapted statistics as constants, where they belong to the last axis."""
    statistics = [getattr(layer, "mean", None), getattr(layer, "variance", None)]
    if any(value is None for value in statistics):
        return layer
    mean, variance = (
        np.asarray(keras.ops.convert_to_numpy(value), np.float64) for value in statistics
    )
    if max(mean.size, variance.size) not in (1, mean.shape[-1] if mean.ndim else 1):
        return layer
    mean, variance = mean.reshape(-1), variance.reshape(-1)
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    if layer.invert:
        return rescaling(layers, deviation, mean, layer.name)
    return rescaling(layers, 1.0 / deviation, -mean / deviation, layer.name)


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _affine(name: str, operands: list[Any]) -> tuple[Any, Any] | None:
    """Scale and offset of an operation on one tensor and a constant, or None."""
    if name in _NEGATE and len(operands) == 1:
        return -1.0, 0.0
    if len(operands) != 2 or _is_symbolic(operands[0]) == _is_symbolic(operands[1]):
        return None
    tensor, constant = operands if _is_symbolic(operands[0]) else operands[::-1]
    value = _per_channel(constant, tensor.shape[-1])
    if value is None:
        return None
    first = tensor is operands[0]
    if name in _ADD:
        return 1.0, value
    if name in _SUBTRACT:
        return (1.0, -value) if first else (-1.0, value)
    if name in _MULTIPLY:
        return value, 0.0
    if name in _DIVIDE and first:
        return 1.0 / value, 0.0
    return None


def _per_channel(constant: Any, channels: int | None) -> np.ndarray | None:
    """A constant as a number or one for each channel; None where it is neither."""
    try:
        value = np.asarray(keras.ops.convert_to_numpy(constant), np.float32)
    except (TypeError, ValueError):
        return None
    if value.size == 1:
        return value.reshape(())
    return value.reshape(-1) if value.size == channels == value.shape[-1] else None
