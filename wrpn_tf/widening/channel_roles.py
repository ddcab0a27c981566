"""What each Keras layer does to the channels (the last axis) of the tensors that it reads."""

from __future__ import annotations

import enum

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

# Not exported by tf_keras.applications.convnext; the layers of ConvNeXt are instances of it.
from tf_keras.src.applications.convnext import LayerScale
from tf_keras.src.layers.core.tf_op_layer import TFOpLambda

from wrpn_tf.graph.roles import activation_layer, activation_name
from wrpn_tf.tfmot.moving_layers import Clip, DepthToSpace, Slice, SpaceToDepth
from wrpn_tf.tfmot.operations import layer_of


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


_ROLES: dict[Role, tuple[type, ...]] = {
    Role.CHOOSE: (
        layers.Conv1D,
        layers.Conv2D,
        layers.Conv3D,
        layers.Conv1DTranspose,
        layers.Conv2DTranspose,
        layers.Conv3DTranspose,
        layers.SeparableConv1D,
        layers.SeparableConv2D,
        layers.Dense,
    ),
    Role.DEPTHWISE: (layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    Role.FOLLOW: (
        layers.BatchNormalization,
        layers.LayerNormalization,
        layers.GroupNormalization,
        layers.PReLU,
        LayerScale,
    ),
    Role.PASS: (
        layers.Activation,
        layers.ReLU,
        layers.LeakyReLU,
        layers.ELU,
        layers.ThresholdedReLU,
        layers.Softmax,
        layers.UnitNormalization,
        layers.Identity,
        layers.ActivityRegularization,
        layers.Dropout,
        layers.SpatialDropout1D,
        layers.SpatialDropout2D,
        layers.SpatialDropout3D,
        layers.AlphaDropout,
        layers.GaussianDropout,
        layers.GaussianNoise,
        layers.AveragePooling1D,
        layers.AveragePooling2D,
        layers.AveragePooling3D,
        layers.MaxPooling1D,
        layers.MaxPooling2D,
        layers.MaxPooling3D,
        layers.GlobalAveragePooling1D,
        layers.GlobalAveragePooling2D,
        layers.GlobalAveragePooling3D,
        layers.GlobalMaxPooling1D,
        layers.GlobalMaxPooling2D,
        layers.GlobalMaxPooling3D,
        layers.ZeroPadding1D,
        layers.ZeroPadding2D,
        layers.ZeroPadding3D,
        layers.Cropping1D,
        layers.Cropping2D,
        layers.Cropping3D,
        Clip,
        layers.UpSampling1D,
        layers.UpSampling2D,
        layers.UpSampling3D,
        layers.Permute,
        layers.RepeatVector,
        layers.Resizing,
        layers.CenterCrop,
        layers.RandomCrop,
        layers.RandomFlip,
        layers.RandomRotation,
        layers.RandomTranslation,
        layers.RandomZoom,
        layers.RandomContrast,
        layers.RandomBrightness,
    ),
    Role.MERGE: (
        layers.Add,
        layers.Subtract,
        layers.Multiply,
        layers.Average,
        layers.Maximum,
        layers.Minimum,
    ),
    Role.CONCATENATE: (layers.Concatenate,),
    Role.RESHAPE: (layers.Flatten, layers.Reshape),
    Role.BLOCKS_TO_CHANNELS: (SpaceToDepth,),
    Role.CHANNELS_TO_BLOCKS: (DepthToSpace,),
    Role.FIX: (layers.Rescaling, layers.Normalization, Slice),
}

_ROLE_OF = {layer_class: role for role, classes in _ROLES.items() for layer_class in classes}

TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)

_ELEMENTWISE_ACTIVATIONS = frozenset(
    "linear relu relu6 leaky_relu elu selu gelu swish silu mish sigmoid hard_sigmoid hard_swish "
    "tanh softplus softsign exponential".split()
)
_SOFTMAX_ACTIVATIONS = frozenset(["softmax", "log_softmax"])

# Names in tf, of functions called on the tensors of a functional model (`x + y`, `tf.nn.relu(x)`).
_ELEMENTWISE_FUNCTIONS = frozenset(
    "__operators__.add math.add math.add_n math.subtract math.multiply math.divide math.truediv "
    "math.maximum math.minimum math.pow math.negative math.abs math.square math.sqrt math.exp "
    "math.sigmoid math.tanh math.softplus nn.relu nn.relu6 nn.leaky_relu nn.elu nn.gelu nn.silu "
    "clip_by_value cast identity stop_gradient".split()
)


def role(layer: keras.layers.Layer) -> Role | None:
    """The layer's role, or None for a class that is not known. Subclasses do not count."""
    if isinstance(layer, TFOpLambda):
        known = layer.get_config()["function"] in _ELEMENTWISE_FUNCTIONS
        return Role.MERGE if known else None
    if type(layer) is layers.Rescaling and np.ndim(layer.scale) == np.ndim(layer.offset) == 0:
        return Role.PASS
    if type(layer) is Slice and layer.slices[-1] == (None, None, None):
        return Role.PASS
    if getattr(layer, "groups", 1) > 1 and is_depthwise(layer):
        return Role.DEPTHWISE
    return _ROLE_OF.get(type(layer))


def standing_for(node) -> keras.layers.Layer:
    """The layer of Keras's node, or the layer that stands for an operation with other constants."""
    layer = node.layer
    if role(layer) is Role.MERGE and not _has_constant_for_each_channel(node):
        return layer
    return layer_of(node) if isinstance(layer, TFOpLambda) else layer


def is_depthwise(layer: keras.layers.Layer) -> bool:
    """Whether a grouped convolution has one input channel in each group."""
    return hasattr(layer, "kernel") and layer.kernel.shape[-2] == 1


def softmax_over_channels(layer: keras.layers.Layer, rank: int) -> bool:
    """Whether the layer shares a sum out among the channels of a tensor of this rank."""
    if type(layer) in (layers.Softmax, layers.UnitNormalization):
        axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
        return any(axis in (-1, rank - 1) for axis in axes)
    if (inner := activation_layer(layer)) is not None:
        return softmax_over_channels(inner, rank)
    return activation_name(layer) in _SOFTMAX_ACTIVATIONS


def problem(node, layer: keras.layers.Layer, shuffles: bool) -> str | None:
    """Why the call that Keras's node stands for cannot be widened, or None.

    Args:
      node: the call.
      layer: from `standing_for`.
      shuffles: whether it is a part of a channel shuffle (`wrpn_tf.widening.shuffles`).
    """
    if role(layer) is None:
        if isinstance(layer, TFOpLambda):
            return (
                f"the function tf.{layer.get_config()['function']} is not known to be elementwise"
            )
        return "the class is not known"
    if getattr(layer, "data_format", "channels_last") not in ("channels_last", None):
        return "data_format must be channels_last"
    inner = activation_layer(layer)
    known = activation_name(layer) in _ELEMENTWISE_ACTIVATIONS | _SOFTMAX_ACTIVATIONS
    if not known if inner is None else role(inner) is not Role.PASS:
        name = activation_name(layer).rpartition(".")[2]
        return f"activation {name!r} is not known to be elementwise"
    shape = node.output_shapes
    rank = len(shape)
    if type(layer) in (layers.BatchNormalization, layers.LayerNormalization) and (
        list(layer.axis) != [rank - 1]
    ):
        return "it must normalize over the last axis alone"
    if type(layer) is layers.GroupNormalization and layer.axis not in (-1, rank - 1):
        return "it must group the last axis"
    if type(layer) is layers.Permute and layer.dims[-1] != rank - 1 and not shuffles:
        return "it moves the channels to another axis"
    if isinstance(layer, TFOpLambda) and _has_constant_for_each_channel(node):
        return "one of its arguments is a constant for each channel"
    if role(layer) is Role.RESHAPE and None in (*node.input_shapes[1:], *shape[1:]):
        return "the size of its input is not known"
    return None


def _has_constant_for_each_channel(node) -> bool:
    tensors = {id(tensor) for tensor in node.keras_inputs}
    for argument in (*node.call_args, *node.call_kwargs.values()):
        if isinstance(argument, list | tuple):
            if len(argument) > 1 and not any(id(item) in tensors for item in argument):
                return True
        elif isinstance(argument, np.ndarray | tf.Tensor) and np.size(argument) > 1:
            return True
    return False
