"""What each Keras layer means to quantization."""

from __future__ import annotations

import enum
import inspect
from typing import Any

import numpy as np

from wrpn_tf.arithmetic.quantizer_state import ActivationState

Layer = Any
"""A layer of a Keras: its class says which."""


class Kind(enum.Enum):
    """The role of a layer in an integer network."""

    INPUT = enum.auto()
    KERNEL = enum.auto()  # convolution or dense: accumulates
    AFFINE = enum.auto()  # a gain and an offset for each channel
    RELU = enum.auto()
    SIGMOID = enum.auto()
    SOFTMAX = enum.auto()
    ADD = enum.auto()  # a sum or a difference
    MULTIPLY = enum.auto()
    CONCATENATE = enum.auto()  # or the larger or smaller of two: one grid for all
    AVERAGE = enum.auto()  # or bilinear upsampling
    PASS = enum.auto()  # moves or selects values: they stay on their grid
    USE = enum.auto()  # what one use of a layer has for itself: an offset that settling moves


_KINDS: dict[str, Kind] = {
    "InputLayer": Kind.INPUT,
    "Conv2D": Kind.KERNEL,
    "DepthwiseConv2D": Kind.KERNEL,
    "SeparableConv2D": Kind.KERNEL,
    "Conv2DTranspose": Kind.KERNEL,
    "Conv1D": Kind.KERNEL,
    "DepthwiseConv1D": Kind.KERNEL,
    "SeparableConv1D": Kind.KERNEL,
    "Conv1DTranspose": Kind.KERNEL,
    "Dense": Kind.KERNEL,
    "BatchNormalization": Kind.AFFINE,
    "Rescaling": Kind.AFFINE,
    "ReLU": Kind.RELU,
    "Softmax": Kind.SOFTMAX,
    "Add": Kind.ADD,
    "Subtract": Kind.ADD,
    "Average": Kind.ADD,
    "CustomScaleLayer": Kind.ADD,  # Of InceptionResNetV2: one and a multiple of the other.
    "Multiply": Kind.MULTIPLY,
    "Concatenate": Kind.CONCATENATE,
    "Maximum": Kind.CONCATENATE,
    "Minimum": Kind.CONCATENATE,
    "LeakyReLU": Kind.CONCATENATE,  # The larger of a value and a multiple of it.
    "PReLU": Kind.CONCATENATE,
    "Ramp": Kind.CONCATENATE,
    "Stack": Kind.CONCATENATE,
    "Slopes": Kind.AFFINE,
    "Clip": Kind.AFFINE,  # A ReLU between two offsets.
    "AveragePooling2D": Kind.AVERAGE,
    "AveragePooling1D": Kind.AVERAGE,
    "GlobalAveragePooling2D": Kind.AVERAGE,
    "GlobalAveragePooling1D": Kind.AVERAGE,
    "QuantizedAveragePooling2D": Kind.AVERAGE,
    "QuantizedUpSampling2D": Kind.AVERAGE,
    "Use": Kind.USE,
    "Element": Kind.PASS,
    "MaxPooling2D": Kind.PASS,
    "MaxPooling1D": Kind.PASS,
    "GlobalMaxPooling2D": Kind.PASS,
    "GlobalMaxPooling1D": Kind.PASS,
    "ZeroPadding2D": Kind.PASS,
    "ZeroPadding1D": Kind.PASS,
    "LowestPadding2D": Kind.PASS,
    "Cropping2D": Kind.PASS,
    "Cropping1D": Kind.PASS,
    "CenterCrop": Kind.PASS,
    "Slice": Kind.PASS,
    "UpSampling2D": Kind.PASS,
    "UpSampling1D": Kind.PASS,
    "Resizing": Kind.PASS,
    "DepthToSpace": Kind.PASS,
    "SpaceToDepth": Kind.PASS,
    "Permute": Kind.PASS,
    "Flatten": Kind.PASS,
    "Reshape": Kind.PASS,
    "Dropout": Kind.PASS,
    "SpatialDropout2D": Kind.PASS,
    "SpatialDropout1D": Kind.PASS,
    "GaussianDropout": Kind.PASS,
    "GaussianNoise": Kind.PASS,
    "Identity": Kind.PASS,
    "ActivityRegularization": Kind.PASS,
    "RandomFlip": Kind.PASS,
    "RandomTranslation": Kind.PASS,
    "RandomRotation": Kind.PASS,
    "RandomZoom": Kind.PASS,
    "RandomContrast": Kind.PASS,
    "RandomBrightness": Kind.PASS,
}

_ACTIVATIONS: dict[str, Kind] = {
    "linear": Kind.PASS,
    "relu": Kind.RELU,
    "relu6": Kind.RELU,
    "sigmoid": Kind.SIGMOID,
    "tanh": Kind.AFFINE,  # A line of a sigmoid.
    "softmax": Kind.SOFTMAX,
    "leaky_relu": Kind.CONCATENATE,  # The larger of a value and a multiple of it.
    # What decomposition splits: a product with a sigmoid, a ReLU of a line, and a product with one.
    "swish": Kind.MULTIPLY,
    "silu": Kind.MULTIPLY,
    "hard_sigmoid": Kind.RELU,
    "hard_silu": Kind.MULTIPLY,
    "hard_swish": Kind.MULTIPLY,
}


# What decomposition makes of other layers, but for those with kernels.
_MADE_OF_OTHERS = frozenset(
    {
        *("Activation", "LeakyReLU", "PReLU", "Clip"),
        *("Average", "CustomScaleLayer", "Stack", "CenterCrop", "Resizing"),
    }
)

# Layers that may be the activation of another.
_ACTIVATION_LAYERS = ("ReLU", "LeakyReLU", "Softmax")

SAME_SCALE = frozenset({Kind.PASS, Kind.CONCATENATE, Kind.AVERAGE})
"""Roles of layers whose output has the quantization parameters of their inputs."""

# Functions of one name that differ between Keras 2 and Keras 3.
_DIFFERING = ("hard_sigmoid",)
_PACKAGES = ("tf_keras", "keras", "wrpn_tf")
_OPERATIONS = ("keras.src.ops.", "keras.src.activations.")


def class_name(layer: Layer) -> str:
    """Name of a layer's class; '' for a class that is neither Keras's nor ours, whatever its name.

    Layers are known by name, so that one table is right for every Keras.
    """
    known = _package(type(layer).__module__) in _PACKAGES and not operation_name(layer)
    return type(layer).__name__ if known else ""


def operation_name(layer: Layer) -> str:
    """Name of an operation of Keras 3 that is no layer, as 'nn.Relu'; '' for anything else.

    Some of them have the names of layers.
    """
    module = type(layer).__module__
    for package in _OPERATIONS:
        if module.startswith(package):
            return f"{module.removeprefix(package)}.{type(layer).__name__}"
    return ""


def activation_name(layer: Layer, attribute: str = "activation") -> str:
    """Name of the activation function of an Activation, Conv2D, Dense, ... layer.

    The class of a layer that is the activation of another. With the module of a function or class
    that is neither Keras's nor TensorFlow's, whatever its name.
    """
    activation = getattr(layer, attribute, None)
    if activation is None:
        return "linear"
    inner = activation_layer(layer, attribute)
    if inner is not None:
        return class_name(inner) or f"{type(inner).__module__}.{type(inner).__name__}"
    name = getattr(activation, "__name__", str(activation))
    if name == "<lambda>":
        return name
    if not inspect.isfunction(activation):
        return name if name not in _ACTIVATIONS else str(activation)
    own = _package(type(layer).__module__)
    homes = {"tensorflow", own} if name in _DIFFERING else {"tensorflow", own, *_PACKAGES}
    # A function may have taken over the name and the module of one that it wraps.
    for module in (activation.__globals__["__name__"], activation.__module__):
        if _package(module) not in homes:
            return f"{module}.{name}"
    return name


def _package(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def kind(layer: Layer) -> Kind | None:
    """The layer's role, or None for a class that is not supported. Subclasses do not count."""
    name = class_name(layer)
    if name == "Activation":
        inner = activation_layer(layer)
        return _ACTIVATIONS.get(activation_name(layer)) if inner is None else kind(inner)
    if name in ("UpSampling2D", "Resizing") and layer.interpolation == "bilinear":
        return Kind.AVERAGE
    if name == "ReLU" and layer.negative_slope:
        return Kind.CONCATENATE if layer.max_value is None else Kind.ADD
    return _KINDS.get(name)


def has_known_activation(layer: Layer) -> bool:
    """Whether the activation of the layer, fused or its own, has a role."""
    return activation_name(layer) in (*_ACTIVATIONS, *_ACTIVATION_LAYERS)


def activation_layer(layer: Layer, attribute: str = "activation") -> Layer | None:
    """The layer that another layer has as its activation, or None."""
    activation = getattr(layer, attribute, None)
    return activation if hasattr(activation, "compute_output_shape") else None


def l1_l2(regularizer: Any) -> tuple[float, float] | None:
    """The factors of a Keras's L1 and L2 regularizer, or None for another one."""
    if class_name(regularizer) not in ("L1", "L2", "L1L2"):
        return None
    return float(getattr(regularizer, "l1", 0.0)), float(getattr(regularizer, "l2", 0.0))


def has_penalty(layer: Layer) -> bool:
    """Whether the layer has an activity regularizer."""
    return getattr(layer, "activity_regularizer", None) is not None


def penalty_is_apart(layer: Layer) -> bool:
    """Whether another layer has the activity regularizer of a layer in a quantized network.

    It is so where several layers stand for one, or one that holds a quantizer of its own.
    """
    if not has_penalty(layer):
        return False
    role = kind(layer)
    if role is Kind.KERNEL:
        return activation_name(layer) != "linear"
    is_sloped = class_name(layer) == "ReLU" and role is not Kind.RELU
    return is_sloped or role is Kind.AVERAGE or class_name(layer) in _MADE_OF_OTHERS


def leaky_slope(layer: Layer) -> float:
    """By what a LeakyReLU or a ReLU multiplies negative values."""
    return float(layer.alpha if hasattr(layer, "alpha") else layer.negative_slope)


def hard_sigmoid_line(layer: Layer) -> tuple[float, float]:
    """Slope and offset of the line that a hard sigmoid clips to [0, 1]: Keras 3 has its own."""
    return (1 / 6, 0.5) if _package(type(layer).__module__) == "keras" else (0.2, 0.5)


def relu_maximum(layer: Layer) -> float | None:
    """The upper bound of a ReLU-like layer, or None."""
    if activation_name(layer) == "relu6":
        return 6.0
    maximum = getattr(layer, "max_value", None)
    return None if maximum is None else float(maximum)


def clips_within(layer: Layer, maximum: float | None) -> bool:
    """Whether clipping to ``[0, c]``, of a c of at most `maximum`, does all that the layer does.

    Args:
      layer: any.
      maximum: the bound on the clip, or None for a clip that may be any.
    """
    if class_name(layer) == "ReLU":
        if layer.negative_slope or layer.threshold:
            return False
    elif class_name(layer) != "Activation" or activation_name(layer) not in ("relu", "relu6"):
        return False
    own = relu_maximum(layer)
    return own is None or (maximum is not None and maximum <= own)


def is_replaced(layer: Layer, quantizer: Any) -> bool:
    """Whether the quantizer of a layer's output clips all that the layer would: a ReLU, mostly.

    Not so while an observer looks at what the layer gives.

    Args:
      layer: any.
      quantizer: of its output, of either front.
    """
    if not isinstance(quantizer, ActivationState) or quantizer.observer is not None:
        return False
    return clips_within(layer, quantizer.maximum)


def is_gain(layer: Layer) -> bool:
    """Whether the layer only multiplies everything by one positive number."""
    if class_name(layer) != "Rescaling":
        return False
    scale, offset = np.ravel(layer.scale), np.ravel(layer.offset)
    return scale.size == 1 and scale[0] > 0 and not offset.any()


def is_elementwise(layer: Layer) -> bool:
    """Whether the layer combines tensors of one shape element by element."""
    if class_name(layer) in ("Maximum", "Minimum"):
        return True
    return kind(layer) in (Kind.ADD, Kind.MULTIPLY)
