"""What each Keras layer means to quantization, and which layers are supported."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import numpy as np

from wrpn_tf.graph.nodes import Layer, Node


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
    AVERAGE = enum.auto()
    PASS = enum.auto()  # moves or selects values: they stay on their grid


_KINDS: dict[str, Kind] = {
    "InputLayer": Kind.INPUT,
    "Conv2D": Kind.KERNEL,
    "DepthwiseConv2D": Kind.KERNEL,
    "SeparableConv2D": Kind.KERNEL,
    "Conv2DTranspose": Kind.KERNEL,
    "Dense": Kind.KERNEL,
    "BatchNormalization": Kind.AFFINE,
    "Rescaling": Kind.AFFINE,
    "ReLU": Kind.RELU,
    "Softmax": Kind.SOFTMAX,
    "Add": Kind.ADD,
    "Subtract": Kind.ADD,
    "Multiply": Kind.MULTIPLY,
    "Concatenate": Kind.CONCATENATE,
    "Maximum": Kind.CONCATENATE,
    "Minimum": Kind.CONCATENATE,
    "AveragePooling2D": Kind.AVERAGE,
    "GlobalAveragePooling2D": Kind.AVERAGE,
    "QuantizedAveragePooling2D": Kind.AVERAGE,
    "QuantizedUpSampling2D": Kind.AVERAGE,
    "MaxPooling2D": Kind.PASS,
    "GlobalMaxPooling2D": Kind.PASS,
    "ZeroPadding2D": Kind.PASS,
    "Cropping2D": Kind.PASS,
    "UpSampling2D": Kind.PASS,
    "Flatten": Kind.PASS,
    "Reshape": Kind.PASS,
    "Dropout": Kind.PASS,
    "SpatialDropout2D": Kind.PASS,
    "GaussianDropout": Kind.PASS,
    "GaussianNoise": Kind.PASS,
    "Identity": Kind.PASS,
    "RandomFlip": Kind.PASS,
    "RandomTranslation": Kind.PASS,
    "RandomRotation": Kind.PASS,
    "RandomZoom": Kind.PASS,
    "RandomContrast": Kind.PASS,
}

_ACTIVATIONS: dict[str, Kind] = {
    "linear": Kind.PASS,
    "relu": Kind.RELU,
    "relu6": Kind.RELU,
    "sigmoid": Kind.SIGMOID,
    "softmax": Kind.SOFTMAX,
    # What the layout transform splits: a product with a sigmoid, and a ReLU of 0.2 x + 0.5.
    "swish": Kind.MULTIPLY,
    "silu": Kind.MULTIPLY,
    "hard_sigmoid": Kind.RELU,
}


# Others do not fit the fixed-point positions of TFLite's kernels.
_BILINEAR_FACTORS = frozenset(2**power for power in range(7))


_PACKAGES = ("tf_keras", "keras", "wrpn_tf")


def class_name(layer: Layer) -> str:
    """Name of a layer's class; '' for a class that is neither Keras's nor ours, whatever its name.

    Layers are known by name, so that one table is right for every Keras.
    """
    package = type(layer).__module__.split(".", maxsplit=1)[0]
    return type(layer).__name__ if package in _PACKAGES else ""


def activation_name(layer: Layer) -> str:
    """Name of the activation function of an Activation, Conv2D, Dense, ... layer."""
    activation = getattr(layer, "activation", None)
    return "linear" if activation is None else getattr(activation, "__name__", str(activation))


def kind(layer: Layer) -> Kind | None:
    """The layer's role, or None for a class that is not supported. Subclasses do not count."""
    if class_name(layer) == "Activation":
        return _ACTIVATIONS.get(activation_name(layer))
    if class_name(layer) == "UpSampling2D" and layer.interpolation == "bilinear":
        return Kind.AVERAGE
    return _KINDS.get(class_name(layer))


def relu_maximum(layer: Layer) -> float | None:
    """The upper bound of a ReLU-like layer, or None."""
    if activation_name(layer) == "relu6":
        return 6.0
    maximum = getattr(layer, "max_value", None)
    return None if maximum is None else float(maximum)


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


def _problem(layer: Layer) -> str | None:
    """Why a layer is not supported anywhere, or None."""
    if kind(layer) is None:
        if class_name(layer) == "Activation":
            return f"activation {activation_name(layer)!r}"
        if class_name(layer) == "TFOpLambda":
            return f"operation {layer.get_config()['function']!r}"
        return "class"
    if kind(layer) is Kind.KERNEL and activation_name(layer) not in _ACTIVATIONS:
        return f"activation {activation_name(layer)!r}"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "data_format must be channels_last"
    if class_name(layer) == "ReLU" and (layer.negative_slope or layer.threshold):
        return "negative_slope and threshold must be 0"
    if class_name(layer) == "Conv2DTranspose":
        if layer.output_padding is not None:
            return "output_padding must be None"
        if tuple(layer.dilation_rate) != (1, 1):
            return "dilation_rate must be 1"
    if class_name(layer) == "UpSampling2D" and layer.interpolation != "nearest":
        if layer.interpolation != "bilinear":
            return f"interpolation {layer.interpolation!r}; use 'nearest' or 'bilinear'"
        if not _BILINEAR_FACTORS.issuperset(layer.size):
            return f"bilinear factors {layer.size}; TFLite is exact for powers of 2 up to 64 only"
    return None


def _shape_problem(layer: Layer) -> str | None:
    """Why a layer is not supported where it stands in its graph, or None."""
    if not layer.inbound_nodes:  # A layer that stands for an operation, not called yet.
        return None
    shape = layer.get_output_shape_at(0)
    rank = len(shape) if not isinstance(shape, list) else 0
    if class_name(layer) == "Dense" and rank != 2:
        return "Dense needs a flat input; add a Flatten"
    if class_name(layer) == "Softmax" and layer.axis not in (-1, rank - 1):
        return "softmax must be over the last axis"
    if class_name(layer) == "BatchNormalization" and list(layer.axis) != [rank - 1]:
        return "batch normalization must be over the last axis"
    return None


def _operands_problem(layer: Layer) -> str | None:
    """Why the operands of a layer that computes element by element do not go together, or None."""
    shapes = layer.get_input_shape_at(0)
    if not is_elementwise(layer) or not isinstance(shapes, list):
        return None
    if len(shapes) != 2:
        return "needs two operands; chain several layers"
    if shapes[0] == shapes[1]:
        return None
    gates = [shape for shape in shapes if tuple(shape[1:-1]) == (1, 1)]
    if kind(layer) is Kind.MULTIPLY and gates and shapes[0][-1] == shapes[1][-1]:
        return None
    return f"operands of shapes {shapes[0]} and {shapes[1]}"


def check_supported(nodes: Iterable[Node]) -> None:
    """Raises one ValueError that lists every layer that cannot be quantized, and why.

    Sums and products are looked at where the nodes name their inputs: in rewritten graphs, where
    they have two operands.
    """
    problems = {
        f"{node.name} ({type(node.layer).__name__}: {problem})": None
        for node in nodes
        if (
            problem := _problem(node.layer)
            or _shape_problem(node.layer)
            or (node.inputs and _operands_problem(node.layer))
        )
    }
    if problems:
        raise ValueError(
            f"Layers that cannot be quantized: {'; '.join(problems)}. Replace them, or annotate "
            "the other layers with wrpn_tf.quantize_annotate."
        )
