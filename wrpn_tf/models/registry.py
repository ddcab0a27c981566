"""The networks by name."""

from collections.abc import Callable

import tf_keras as keras

from wrpn_tf.models.digits import digits_cnn
from wrpn_tf.models.resnet_cifar import resnet8, resnet14, resnet20, resnet32, resnet56

ARCHITECTURES: dict[str, Callable[..., keras.Model]] = {
    "digits_cnn": digits_cnn,
    "resnet8": resnet8,
    "resnet14": resnet14,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet56": resnet56,
}


def build(
    arch: str, *, width: float = 1.0, num_classes: int, input_shape: tuple[int, int, int]
) -> keras.Model:
    """Builds an untrained float network that returns logits.

    Args:
        arch: A key of `ARCHITECTURES`.
        width: WRPN's widening factor on the filters of every convolution, at least 0.25.
        num_classes: Size of the logits.
        input_shape: (height, width, channels) of the images.

    Raises:
        ValueError: The architecture is unknown or the width out of range.
    """
    if arch not in ARCHITECTURES:
        raise ValueError(f"unknown arch {arch!r}; known: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch](width=width, num_classes=num_classes, input_shape=input_shape)
