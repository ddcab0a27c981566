"""The pieces that the networks share: widths, and convolutions with their normalization.

A convolution is named `conv...` or `..._conv...`; its batch normalization and its ReLU have the
same name with `bn` and `relu` in place of `conv`.
"""

import math
from fractions import Fraction
from typing import Any

from wrpn_tf.models.namespaces import keras_of

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
    return max(1, math.floor(filters * Fraction(str(float(width))) + Fraction(1, 2)))


def conv2d(
    x: Any,
    filters: int,
    kernel_size: int = 3,
    *,
    name: str,
    strides: int = 1,
    padding: str = "same",
) -> Any:
    """A convolution without bias (He-normal)."""
    return keras_of(x).layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def conv_bn(x: Any, filters: int, kernel_size: int = 3, *, name: str, **options: Any) -> Any:
    """A convolution (see `conv2d`) and its batch normalization."""
    return batch_norm(conv2d(x, filters, kernel_size, name=name, **options), _beside(name, "bn"))


def conv_bn_relu(x: Any, filters: int, kernel_size: int = 3, *, name: str, **options: Any) -> Any:
    """A convolution (see `conv2d`), its batch normalization and its ReLU."""
    x = conv2d(x, filters, kernel_size, name=name, **options)
    return bn_relu(x, bn=_beside(name, "bn"), relu=_beside(name, "relu"))


def depthwise_bn_relu(x: Any, *, name: str, strides: int = 1) -> Any:
    """A 3x3 SAME depthwise convolution without bias, its batch normalization and its ReLU."""
    x = keras_of(x).layers.DepthwiseConv2D(
        3,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=name,
    )(x)
    return bn_relu(x, bn=_beside(name, "bn"), relu=_beside(name, "relu"))


def batch_norm(x: Any, name: str) -> Any:
    """Batch normalization with this package's momentum (0.9) and epsilon (1e-5)."""
    return keras_of(x).layers.BatchNormalization(
        momentum=_BN_MOMENTUM, epsilon=_BN_EPSILON, name=name
    )(x)


def bn_relu(x: Any, *, bn: str, relu: str) -> Any:
    """Batch normalization and ReLU, with their names."""
    return keras_of(x).layers.ReLU(name=relu)(batch_norm(x, bn))


def max_pool(x: Any, name: str, padding: str = "same") -> Any:
    """3x3 max pooling of stride 2."""
    return keras_of(x).layers.MaxPooling2D(3, strides=2, padding=padding, name=name)(x)


def logits(x: Any, num_classes: int) -> Any:
    """The last dense layer, [N, features] to [N, num_classes], with bias and without softmax."""
    return keras_of(x).layers.Dense(num_classes, kernel_initializer="he_normal", name="logits")(x)


def classifier(x: Any, num_classes: int) -> Any:
    """Global average pooling and the last dense layer."""
    return logits(keras_of(x).layers.GlobalAveragePooling2D(name="pool")(x), num_classes)


def _beside(conv: str, role: str) -> str:
    """The name of a convolution's batch normalization or ReLU."""
    head, _, tail = conv.rpartition("conv")
    return f"{head}{role}{tail}"
