"""The pieces that the networks share: widths, and a convolution with its normalization."""

import math
from typing import Any

import tf_keras as keras

MIN_WIDTH = 0.25
_BN_MOMENTUM = 0.9  # He et al.'s; tf_keras's 0.99 lags behind in short trainings.
_BN_EPSILON = 1e-5


def widen_filters(filters: int, width: float) -> int:
    """Returns `filters * width`, rounded to the nearest integer (halves up), at least 1.

    Raises:
        ValueError: `width` is below 0.25 or not finite.
    """
    if not (math.isfinite(width) and width >= MIN_WIDTH):
        raise ValueError(f"width must be a number of at least {MIN_WIDTH}, not {width}")
    return max(1, math.floor(filters * width + 0.5))


def conv_bn(
    x: Any,
    filters: int,
    *,
    conv: str,
    bn: str,
    kernel_size: int = 3,
    strides: int = 1,
) -> Any:
    """A SAME convolution without bias (He-normal) and its batch normalization, with their names."""
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=conv,
    )(x)
    return batch_norm(x, bn)


def depthwise_bn(x: Any, *, conv: str, bn: str, strides: int = 1) -> Any:
    """A 3x3 SAME depthwise convolution without bias and its batch normalization."""
    x = keras.layers.DepthwiseConv2D(
        3,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=conv,
    )(x)
    return batch_norm(x, bn)


def batch_norm(x: Any, name: str) -> Any:
    """Batch normalization with this package's momentum (0.9) and epsilon (1e-5)."""
    return keras.layers.BatchNormalization(momentum=_BN_MOMENTUM, epsilon=_BN_EPSILON, name=name)(x)


def classifier(x: Any, num_classes: int) -> Any:
    """Global average pooling and a dense layer; returns logits [N, num_classes], no softmax."""
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.layers.Dense(num_classes, kernel_initializer="he_normal", name="logits")(x)
