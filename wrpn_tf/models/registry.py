"""The networks by name."""

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf
import tf_keras as keras

from wrpn_tf.models.alexnet import alexnet
from wrpn_tf.models.bn_inception import bn_inception
from wrpn_tf.models.digits import digits_cnn
from wrpn_tf.models.mobilenet import mobilenet_v1, mobilenet_v2
from wrpn_tf.models.resnet import resnet
from wrpn_tf.models.resnet_cifar import resnet_cifar
from wrpn_tf.models.vgg_small import vgg_small

_CIFAR_DEPTHS = (8, 14, 20, 32, 56)
_IMAGENET_DEPTHS = (18, 34, 50, 101)

# Names without a suffix are the form that their source reports: He et al.'s post-activation for
# CIFAR-10, WRPN's pre-activation for ImageNet.
ARCHITECTURES: dict[str, Callable[..., keras.Model]] = {
    "digits_cnn": digits_cnn,
    **{f"resnet{depth}": partial(resnet_cifar, depth) for depth in _CIFAR_DEPTHS},
    **{
        f"resnet{depth}_pre": partial(resnet_cifar, depth, preactivation=True)
        for depth in _CIFAR_DEPTHS
    },
    **{f"resnet{depth}_slim": partial(resnet_cifar, depth, slim=True) for depth in _CIFAR_DEPTHS},
    "vgg_small": vgg_small,
    "alexnet": alexnet,
    "bn_inception": bn_inception,
    **{f"resnet{depth}": partial(resnet, depth) for depth in _IMAGENET_DEPTHS},
    **{
        f"resnet{depth}_post": partial(resnet, depth, preactivation=False)
        for depth in _IMAGENET_DEPTHS
    },
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
}


def build(
    arch: str,
    *,
    width: float = 1.0,
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
) -> keras.Model:
    """Builds an untrained float network that returns logits.

    Args:
        arch: A key of `ARCHITECTURES`.
        width: WRPN's widening factor on the filters, at least 0.25; which layers it widens is said
            by each network.
        num_classes: Size of the logits; None for that of the network's own data set.
        input_shape: (height, width, channels) of the images; None for that of the network's own
            data set (ImageNet's are 224x224x3).

    Raises:
        ValueError: The architecture is unknown, or the width or the image size out of range.
    """
    if arch not in ARCHITECTURES:
        raise ValueError(f"unknown arch {arch!r}; known: {', '.join(ARCHITECTURES)}")
    given = {"num_classes": num_classes, "input_shape": input_shape}
    own = {name: value for name, value in given.items() if value is not None}
    return ARCHITECTURES[arch](width=width, **own)


def skeleton(arch: str, **options: Any) -> keras.Model:
    """A network of layers and shapes without the weights' values: for measuring, not for running.

    It takes no memory for weights, and seconds for any network.

    Args:
        arch: See `build`.
        **options: See `build`.
    """
    with tf.Graph().as_default():
        return build(arch, **options)
