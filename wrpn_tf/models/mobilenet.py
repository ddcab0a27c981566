"""MobileNets: depthwise-separable convolutions, plain and as inverted residuals."""

from typing import Any

from wrpn_tf.models.layers import (
    classifier,
    conv_bn,
    conv_bn_relu,
    depthwise_bn_relu,
    widen_filters,
)
from wrpn_tf.models.namespaces import Front, Model, keras_named, keras_of

_V1_BLOCKS = (  # Filters and stride.
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)
_V2_STAGES = (  # Expansion, filters, blocks and the first block's stride: table 2 of the paper.
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v1(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    front: Front = "keras",
) -> Model:
    """MobileNetV1 (Howard et al. 2017, arXiv 1704.04861, table 1).

    4,231,976 trainable parameters and 0.57 G multiply-adds per 224x224x3 image at width 1. `width`
    is the paper's width multiplier, with WRPN's values above 1. Logits, no softmax.

    Differences from the source: none (Keras's has ReLU6 and a 1x1 convolution as its last layer).

    Args:
        width: Factor on the filters of every convolution, at least 0.25.
        num_classes: Size of the logits.
        input_shape: (height, width, channels) of the images.
        front: The Keras: 'keras' (Keras 3) or 'tf_keras'.

    Returns:
        An untrained functional model, float32 [N, *input_shape] to float32 [N, num_classes].

    Raises:
        ValueError: Width is out of range.
    """
    keras = keras_named(front)
    inputs = keras.Input(input_shape, name="image")
    x = conv_bn_relu(inputs, widen_filters(32, width), name="conv1", strides=2)
    for block, (filters, strides) in enumerate(_V1_BLOCKS, start=1):
        x = depthwise_bn_relu(x, name=f"block{block}_conv_depthwise", strides=strides)
        filters = widen_filters(filters, width)
        x = conv_bn_relu(x, filters, 1, name=f"block{block}_conv_pointwise")
    return keras.Model(inputs, classifier(x, num_classes), name="mobilenet_v1")


def mobilenet_v2(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    front: Front = "keras",
) -> Model:
    """MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381, table 2).

    3,504,872 trainable parameters and 0.30 G multiply-adds per 224x224x3 image at width 1. Logits,
    no softmax.

    Differences from the source: ReLU in place of ReLU6 (quantization clips by itself); `width` also
    scales the last convolution when it is below 1, and filters are not rounded to multiples of 8.

    Args:
        width: Factor on the filters of every convolution, at least 0.25.
        num_classes: Size of the logits.
        input_shape: (height, width, channels) of the images.
        front: The Keras: 'keras' (Keras 3) or 'tf_keras'.

    Returns:
        An untrained functional model, float32 [N, *input_shape] to float32 [N, num_classes].

    Raises:
        ValueError: Width is out of range.
    """
    keras = keras_named(front)
    inputs = keras.Input(input_shape, name="image")
    x = conv_bn_relu(inputs, widen_filters(32, width), name="conv1", strides=2)
    for stage, (expansion, filters, blocks, strides) in enumerate(_V2_STAGES, start=1):
        filters = widen_filters(filters, width)
        for block in range(1, blocks + 1):
            name = f"stage{stage}_block{block}"
            x = _inverted_residual(x, expansion, filters, strides if block == 1 else 1, name)
    x = conv_bn_relu(x, widen_filters(1280, width), 1, name="conv_last")
    return keras.Model(inputs, classifier(x, num_classes), name="mobilenet_v2")


def _inverted_residual(x: Any, expansion: int, filters: int, strides: int, name: str) -> Any:
    """1x1 expansion, 3x3 depthwise, linear 1x1; added to its input where shapes agree."""
    shortcut = x
    if expansion > 1:
        x = conv_bn_relu(x, expansion * int(x.shape[-1]), 1, name=f"{name}_conv_expand")
    x = depthwise_bn_relu(x, name=f"{name}_conv_depthwise", strides=strides)
    x = conv_bn(x, filters, 1, name=f"{name}_conv_project")
    if strides == 1 and shortcut.shape[-1] == filters:
        x = keras_of(x).layers.Add(name=f"{name}_add")([x, shortcut])
    return x
