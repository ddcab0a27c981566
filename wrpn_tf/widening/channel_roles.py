"""What each Keras layer does to the channels (the last axis) of the tensors that it reads."""

from __future__ import annotations

import enum

import numpy as np

from wrpn_tf.graph.calls import LayerCall
from wrpn_tf.graph.roles import (
    Layer,
    activation_layer,
    activation_name,
    class_name,
    operation_name,
)


class Role(enum.Enum):
    """The part that a layer has in the choice of channels."""

    CHOOSE = enum.auto()  # its outputs are channels of its own: convolutions, dense layers
    DEPTHWISE = enum.auto()  # one or more outputs for each channel, each from that channel alone
    FOLLOW = enum.auto()  # weights for each channel
    PASS = enum.auto()  # treats all channels alike
    MERGE = enum.auto()  # elementwise over several tensors
    CONCATENATE = enum.auto()
    RESHAPE = enum.auto()
    BLOCKS_TO_CHANNELS = enum.auto()  # each channel once for every pixel of a block
    CHANNELS_TO_BLOCKS = enum.auto()  # and back
    FIX = enum.auto()  # its configuration or its state lists the channels


_ROLES: dict[Role, tuple[str, ...]] = {
    Role.CHOOSE: (
        "Conv1D",
        "Conv2D",
        "Conv3D",
        "Conv1DTranspose",
        "Conv2DTranspose",
        "Conv3DTranspose",
        "SeparableConv1D",
        "SeparableConv2D",
        "Dense",
    ),
    Role.DEPTHWISE: ("DepthwiseConv1D", "DepthwiseConv2D"),
    Role.FOLLOW: (
        "BatchNormalization",
        "LayerNormalization",
        "GroupNormalization",
        "PReLU",
        "LayerScale",
    ),
    Role.PASS: (
        "Activation",
        "ReLU",
        "LeakyReLU",
        "ELU",
        "ThresholdedReLU",
        "Softmax",
        "UnitNormalization",
        "Identity",
        "ActivityRegularization",
        "Dropout",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "AlphaDropout",
        "GaussianDropout",
        "GaussianNoise",
        "AveragePooling1D",
        "AveragePooling2D",
        "AveragePooling3D",
        "MaxPooling1D",
        "MaxPooling2D",
        "MaxPooling3D",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "GlobalAveragePooling3D",
        "GlobalMaxPooling1D",
        "GlobalMaxPooling2D",
        "GlobalMaxPooling3D",
        "ZeroPadding1D",
        "ZeroPadding2D",
        "ZeroPadding3D",
        "LowestPadding2D",
        "Cropping1D",
        "Cropping2D",
        "Cropping3D",
        "Clip",
        "UpSampling1D",
        "UpSampling2D",
        "UpSampling3D",
        "Permute",
        "RepeatVector",
        "Resizing",
        "CenterCrop",
        "RandomCrop",
        "RandomFlip",
        "RandomRotation",
        "RandomTranslation",
        "RandomZoom",
        "RandomContrast",
        "RandomBrightness",
    ),
    Role.MERGE: (
        "Add",
        "Subtract",
        "Multiply",
        "Average",
        "CustomScaleLayer",
        "Maximum",
        "Minimum",
    ),
    Role.CONCATENATE: ("Concatenate",),
    Role.RESHAPE: ("Flatten", "Reshape"),
    Role.BLOCKS_TO_CHANNELS: ("SpaceToDepth",),
    Role.CHANNELS_TO_BLOCKS: ("DepthToSpace",),
    Role.FIX: ("Rescaling", "Normalization", "Slice", "Stack"),
}

_ROLE_OF = {name: role for role, classes in _ROLES.items() for name in classes}

TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
SEPARABLE = ("SeparableConv1D", "SeparableConv2D")

_ELEMENTWISE_ACTIVATIONS = frozenset(
    "linear relu relu6 leaky_relu elu celu selu gelu swish silu mish sigmoid log_sigmoid "
    "hard_sigmoid hard_swish hard_silu hard_tanh tanh softplus softsign exponential".split()
)
_SOFTMAX_ACTIVATIONS = frozenset(["softmax", "log_softmax"])

# Names in tf, of functions called on the tensors of a functional model (`x + y`, `tf.nn.relu(x)`).
_ELEMENTWISE_FUNCTIONS = frozenset(
    "__operators__.add math.add math.add_n math.subtract math.multiply math.divide math.truediv "
    "math.maximum math.minimum math.pow math.negative math.abs math.square math.sqrt math.exp "
    "math.sigmoid math.tanh math.softplus nn.relu nn.relu6 nn.leaky_relu nn.elu nn.gelu nn.silu "
    "clip_by_value cast identity stop_gradient".split()
)
# Operations of keras.ops, likewise.
_ELEMENTWISE_OPERATIONS = frozenset(
    "numpy.Add numpy.Subtract numpy.Multiply numpy.Divide numpy.TrueDivide numpy.Maximum "
    "numpy.Minimum numpy.Power numpy.Negative numpy.Absolute numpy.Abs numpy.Square numpy.Sqrt "
    "numpy.Exp numpy.Tanh numpy.Clip nn.Sigmoid nn.Softplus nn.Relu nn.Relu6 nn.LeakyRelu nn.Elu "
    "nn.Gelu nn.Silu nn.HardSigmoid nn.HardSilu core.Cast core.StopGradient".split()
)


def role(layer: Layer) -> Role | None:
    """The layer's role, or None for a class that is not known. Subclasses do not count."""
    if function := _function(layer):
        known = function in _ELEMENTWISE_FUNCTIONS | _ELEMENTWISE_OPERATIONS
        return Role.MERGE if known else None
    name = class_name(layer)
    if name == "Rescaling" and np.ndim(layer.scale) == np.ndim(layer.offset) == 0:
        return Role.PASS
    if name == "Slice" and layer.slices[-1] == (None, None, None):
        return Role.PASS
    if getattr(layer, "groups", 1) > 1 and is_depthwise(layer):
        return Role.DEPTHWISE
    return _ROLE_OF.get(name)


def fits_one_width(layer: Layer) -> bool:
    """Whether the layer's weights or its configuration fit a number of channels."""
    sized = class_name(layer) == "Reshape" and layer.target_shape[-1] != -1
    return sized or role(layer) in (Role.CHOOSE, Role.DEPTHWISE, Role.FOLLOW)


def standing_for(call: LayerCall) -> Layer:
    """The layer that is called, or the layer that stands for an operation with other constants."""
    plain = role(call.called) is Role.MERGE and not call.has_vectors
    return call.called if plain else call.layer


def _function(layer: Layer) -> str:
    """Name of the function of an operation, in `tf` or `keras.ops`; '' for a layer."""
    if class_name(layer) == "TFOpLambda":
        return layer.get_config()["function"]
    return operation_name(layer)


def is_depthwise(layer: Layer) -> bool:
    """Whether a grouped convolution has one input channel in each group."""
    return hasattr(layer, "kernel") and layer.kernel.shape[-2] == 1


def softmax_over_channels(layer: Layer, rank: int) -> bool:
    """Whether the layer shares a sum out among the channels of a tensor of this rank."""
    if class_name(layer) in ("Softmax", "UnitNormalization"):
        axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
        return any(axis in (-1, rank - 1) for axis in axes)
    if (inner := activation_layer(layer)) is not None:
        return softmax_over_channels(inner, rank)
    return activation_name(layer) in _SOFTMAX_ACTIVATIONS


def problem(call: LayerCall, layer: Layer, shuffles: bool) -> str | None:
    """Why a call cannot be widened, or None.

    Args:
      call: the call.
      layer: from `standing_for`.
      shuffles: whether it is a part of a channel shuffle (`wrpn_tf.widening.shuffles`).
    """
    function, name = _function(layer), class_name(layer)
    if role(layer) is None:
        if function:
            library = "keras.ops" if operation_name(layer) else "tf"
            return f"the function {library}.{function} is not known to be elementwise"
        return "the class is not known"
    if getattr(layer, "data_format", "channels_last") not in ("channels_last", None):
        return "data_format must be channels_last"
    inner = activation_layer(layer)
    known = activation_name(layer) in _ELEMENTWISE_ACTIVATIONS | _SOFTMAX_ACTIVATIONS
    if not known if inner is None else role(inner) is not Role.PASS:
        activation = activation_name(layer).rpartition(".")[2]
        return f"activation {activation!r} is not known to be elementwise"
    shape = call.output_shape
    rank = len(shape)
    last = {"BatchNormalization", "LayerNormalization"}
    if name in last and [axis % rank for axis in np.ravel(layer.axis)] != [rank - 1]:
        return "it must normalize over the last axis alone"
    if name == "GroupNormalization" and layer.axis not in (-1, rank - 1):
        return "it must group the last axis"
    if name == "Permute" and layer.dims[-1] != rank - 1 and not shuffles:
        return "it moves the channels to another axis"
    if function and call.has_vectors:
        return "one of its arguments is a constant for each channel"
    if role(layer) is Role.RESHAPE and None in (*call.input_shape[1:], *shape[1:]):
        return "the size of its input is not known"
    return None
