"""What each Keras layer means to quantization, and which layers are supported."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import tf_keras as keras
from tf_keras import layers

from wrpn_tf.pooling import QuantizedAveragePooling2D
from wrpn_tf.surgery import Node


class Kind(enum.Enum):
    """The role of a layer in an integer network."""

    INPUT = enum.auto()
    KERNEL = enum.auto()  # convolution or dense: accumulates
    AFFINE = enum.auto()  # batch normalization
    RELU = enum.auto()
    SOFTMAX = enum.auto()
    ADD = enum.auto()
    CONCATENATE = enum.auto()
    AVERAGE = enum.auto()
    PASS = enum.auto()  # moves or selects values: they stay on their grid


_KINDS: dict[type, Kind] = {
    layers.InputLayer: Kind.INPUT,
    layers.Conv2D: Kind.KERNEL,
    layers.DepthwiseConv2D: Kind.KERNEL,
    layers.SeparableConv2D: Kind.KERNEL,
    layers.Dense: Kind.KERNEL,
    layers.BatchNormalization: Kind.AFFINE,
    layers.ReLU: Kind.RELU,
    layers.Softmax: Kind.SOFTMAX,
    layers.Add: Kind.ADD,
    layers.Concatenate: Kind.CONCATENATE,
    layers.AveragePooling2D: Kind.AVERAGE,
    layers.GlobalAveragePooling2D: Kind.AVERAGE,
    QuantizedAveragePooling2D: Kind.AVERAGE,
    layers.MaxPooling2D: Kind.PASS,
    layers.GlobalMaxPooling2D: Kind.PASS,
    layers.ZeroPadding2D: Kind.PASS,
    layers.Flatten: Kind.PASS,
    layers.Reshape: Kind.PASS,
    layers.Dropout: Kind.PASS,
}

_ACTIVATIONS: dict[str, Kind] = {
    "linear": Kind.PASS,
    "relu": Kind.RELU,
    "relu6": Kind.RELU,
    "softmax": Kind.SOFTMAX,
}


def activation_name(layer: keras.layers.Layer) -> str:
    """Name of the activation function of an Activation, Conv2D, Dense, ... layer."""
    activation = getattr(layer, "activation", None)
    return "linear" if activation is None else getattr(activation, "__name__", str(activation))


def kind(layer: keras.layers.Layer) -> Kind | None:
    """The layer's role, or None for a class that is not supported. Subclasses do not count."""
    if type(layer) is layers.Activation:
        return _ACTIVATIONS.get(activation_name(layer))
    return _KINDS.get(type(layer))


def relu_maximum(layer: keras.layers.Layer) -> float | None:
    """The upper bound of a ReLU-like layer, or None."""
    if activation_name(layer) == "relu6":
        return 6.0
    maximum = getattr(layer, "max_value", None)
    return None if maximum is None else float(maximum)


def _problem(layer: keras.layers.Layer) -> str | None:
    """Why a layer is not supported, or None."""
    if kind(layer) is None:
        if type(layer) is layers.Activation:
            return f"activation {activation_name(layer)!r}"
        return "class"
    if kind(layer) is Kind.KERNEL and activation_name(layer) not in _ACTIVATIONS:
        return f"activation {activation_name(layer)!r}"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "data_format must be channels_last"
    if getattr(layer, "groups", 1) != 1:
        return "grouped convolution"
    if getattr(layer, "keepdims", False):
        return "keepdims"
    if type(layer) is layers.ReLU and (layer.negative_slope or layer.threshold):
        return "negative_slope and threshold must be 0"
    shape = layer.get_output_shape_at(0)
    rank = len(shape) if not isinstance(shape, list) else 0
    if type(layer) is layers.Dense and rank != 2:
        return "Dense needs a flat input; add a Flatten"
    if type(layer) is layers.Softmax and layer.axis not in (-1, rank - 1):
        return "softmax must be over the last axis"
    if type(layer) is layers.BatchNormalization and list(layer.axis) != [rank - 1]:
        return "batch normalization must be over the last axis"
    return None


def check_supported(nodes: Iterable[Node]) -> None:
    """Raises one ValueError that lists every layer that cannot be quantized, and why."""
    problems = {
        f"{node.name} ({type(node.layer).__name__}: {problem})": None
        for node in nodes
        if (problem := _problem(node.layer))
    }
    if problems:
        raise ValueError(
            f"Layers that cannot be quantized: {'; '.join(problems)}. Replace them, or annotate "
            "the other layers with wrpn_tf.quantize_annotate."
        )
