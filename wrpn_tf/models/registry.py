"""The networks by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wrpn_tf.models.namespaces import Front, Model

_CIFAR_DEPTHS = (8, 14, 20, 32, 56)
_IMAGENET_DEPTHS = (18, 34, 50, 101)


class _Builder:
    """A function of `wrpn_tf.models` with some of its arguments, imported when it is called."""

    def __init__(self, name: str, *arguments: Any, **options: Any) -> None:
        self._name, self._arguments, self._options = name, arguments, options

    @property
    def func(self) -> Callable[..., Model]:
        """The function, as `functools.partial` has it."""
        from wrpn_tf import models

        return getattr(models, self._name)

    def __call__(self, **options: Any) -> Model:
        return self.func(*self._arguments, **self._options, **options)


# Names without a suffix are the form that their source reports: He et al.'s post-activation for
# CIFAR-10, WRPN's pre-activation for ImageNet.
ARCHITECTURES: dict[str, Callable[..., Model]] = {
    "digits_cnn": _Builder("digits_cnn"),
    **{f"resnet{depth}": _Builder("resnet_cifar", depth) for depth in _CIFAR_DEPTHS},
    **{
        f"resnet{depth}_pre": _Builder("resnet_cifar", depth, preactivation=True)
        for depth in _CIFAR_DEPTHS
    },
    **{
        f"resnet{depth}_slim": _Builder("resnet_cifar", depth, slim=True) for depth in _CIFAR_DEPTHS
    },
    "vgg_small": _Builder("vgg_small"),
    "alexnet": _Builder("alexnet"),
    "bn_inception": _Builder("bn_inception"),
    **{f"resnet{depth}": _Builder("resnet", depth) for depth in _IMAGENET_DEPTHS},
    **{
        f"resnet{depth}_post": _Builder("resnet", depth, preactivation=False)
        for depth in _IMAGENET_DEPTHS
    },
    "mobilenet_v1": _Builder("mobilenet_v1"),
    "mobilenet_v2": _Builder("mobilenet_v2"),
}


def build(
    arch: str,
    *,
    width: float = 1.0,
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    front: Front = "keras",
) -> Model:
    """Builds an untrained float network that returns logits.

    Args:
        arch: A key of `ARCHITECTURES`.
        width: WRPN's widening factor on the filters, at least 0.25; which layers it widens is said
            by each network.
        num_classes: Size of the logits; None for that of the network's own data set.
        input_shape: (height, width, channels) of the images; None for that of the network's own
            data set (ImageNet's are 224x224x3).
        front: The Keras: 'keras' (Keras 3) or 'tf_keras'.

    Raises:
        ValueError: The architecture or the front is unknown, or the width, the classes or the image
            size out of range.
    """
    if arch not in ARCHITECTURES:
        raise ValueError(f"unknown arch {arch!r}; known: {', '.join(ARCHITECTURES)}")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, not {num_classes}")
    given = {"num_classes": num_classes, "input_shape": input_shape}
    own = {name: value for name, value in given.items() if value is not None}
    return ARCHITECTURES[arch](width=width, front=front, **own)


def skeleton(arch: str, **options: Any) -> Model:
    """A network of layers and shapes without the weights' values: for measuring, not for running.

    It takes no memory for weights, and seconds for any network. It is a model of tf_keras.

    Args:
        arch: See `build`.
        **options: See `build`.
    """
    import tensorflow as tf
    from tensorflow.python.ops.resource_variable_ops import UninitializedVariable

    def without_value(next_creator: Any, **given: Any) -> Any:
        if not callable(given["initial_value"]) or given["shape"] is None:
            return next_creator(**given)
        kept = ("name", "shape", "dtype", "trainable", "synchronization", "aggregation")
        return UninitializedVariable(**{key: given[key] for key in kept})

    # Not in a graph of TensorFlow 1: tf_keras would make layers of the process unusable for it.
    with tf.variable_creator_scope(without_value):
        return build(arch, front="tf_keras", **options)
