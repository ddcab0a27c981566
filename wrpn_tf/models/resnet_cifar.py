"""Residual networks for 32x32 images (He et al. 2015, arXiv 1512.03385, section 4.2)."""

from typing import Any

import tf_keras as keras

from wrpn_tf.models.layers import classifier, conv_bn, widen_filters

_STAGE_FILTERS = (16, 32, 64)


def resnet_cifar(
    depth: int,
    *,
    width: float = 1.0,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
) -> keras.Model:
    """A post-activation ResNet of 6n + 2 layers: three stages of n blocks of two 3x3 convolutions.

    The stages have 16, 32 and 64 filters, times `width` (see `layers.widen_filters`); the second
    and third begin with stride 2. Where a block changes the shape, its shortcut is a 1x1
    convolution with batch normalization; the original pads with zeros (its option A, no
    parameters), which has no integer operator of its own. Logits, no softmax.

    Args:
        depth: 8, 14, 20, ...: 6n + 2.
        width: Factor on the filters of every convolution, at least 0.25.
        num_classes: Size of the logits.
        input_shape: (height, width, channels) of the images.

    Returns:
        An untrained functional model, float32 [N, *input_shape] to float32 [N, num_classes].

    Raises:
        ValueError: Depth or width is out of range.
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth must be 6n + 2 (8, 14, 20, ...), not {depth}")
    filters = [widen_filters(base, width) for base in _STAGE_FILTERS]
    inputs = keras.Input(input_shape, name="image")
    x = conv_bn(inputs, filters[0], conv="conv1", bn="bn1")
    x = keras.layers.ReLU(name="relu1")(x)
    for stage, stage_filters in enumerate(filters, start=1):
        for block in range(1, depth // 6 + 1):
            downsample = stage > 1 and block == 1
            x = _block(x, stage_filters, downsample, f"stage{stage}_block{block}")
    return keras.Model(inputs, classifier(x, num_classes), name=f"resnet{depth}")


def _block(x: Any, filters: int, downsample: bool, name: str) -> Any:
    """Two 3x3 convolutions beside the identity, or a 1x1 convolution where the shape changes."""
    strides = 2 if downsample else 1
    shortcut = x
    if downsample:
        shortcut = conv_bn(
            x,
            filters,
            conv=f"{name}_shortcut_conv",
            bn=f"{name}_shortcut_bn",
            kernel_size=1,
            strides=strides,
        )
    x = conv_bn(x, filters, conv=f"{name}_conv1", bn=f"{name}_bn1", strides=strides)
    x = keras.layers.ReLU(name=f"{name}_relu1")(x)
    x = conv_bn(x, filters, conv=f"{name}_conv2", bn=f"{name}_bn2")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu2")(x)


def resnet8(
    width: float = 1.0,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
) -> keras.Model:
    """ResNet-8: 78,714 parameters, 12.5 M multiply-adds per 32x32x3 image, width 1."""
    return resnet_cifar(8, width=width, num_classes=num_classes, input_shape=input_shape)


def resnet14(
    width: float = 1.0,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
) -> keras.Model:
    """ResNet-14: 176,378 parameters, 26.7 M multiply-adds per 32x32x3 image, width 1."""
    return resnet_cifar(14, width=width, num_classes=num_classes, input_shape=input_shape)


def resnet20(
    width: float = 1.0,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
) -> keras.Model:
    """ResNet-20: 274,042 parameters, 40.8 M multiply-adds per 32x32x3 image, width 1."""
    return resnet_cifar(20, width=width, num_classes=num_classes, input_shape=input_shape)


def resnet32(
    width: float = 1.0,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
) -> keras.Model:
    """ResNet-32: 469,370 parameters, 69.1 M multiply-adds per 32x32x3 image, width 1."""
    return resnet_cifar(32, width=width, num_classes=num_classes, input_shape=input_shape)


def resnet56(
    width: float = 1.0,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
) -> keras.Model:
    """ResNet-56: 860,026 parameters, 125.7 M multiply-adds per 32x32x3 image, width 1."""
    return resnet_cifar(56, width=width, num_classes=num_classes, input_shape=input_shape)
