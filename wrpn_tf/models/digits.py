"""A small network for 8x8 digits that has one of each: plain, separable, residual."""

import tf_keras as keras

from wrpn_tf.models.layers import classifier, conv_bn, depthwise_bn, widen_filters


def digits_cnn(
    width: float = 1.0,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (8, 8, 1),
) -> keras.Model:
    """A 3x3 convolution, a depthwise-separable one of stride 2, and a residual 3x3 one.

    10,730 parameters and 0.17 M multiply-adds per 8x8x1 image at width 1. Logits, no softmax.

    Args:
        width: Factor on the filters (16 and 32 at width 1), at least 0.25.
        num_classes: Size of the logits.
        input_shape: (height, width, channels) of the images.

    Returns:
        An untrained functional model, float32 [N, *input_shape] to float32 [N, num_classes].

    Raises:
        ValueError: Width is out of range.
    """
    inputs = keras.Input(input_shape, name="image")
    x = conv_bn(inputs, widen_filters(16, width), conv="conv1", bn="bn1")
    x = keras.layers.ReLU(name="relu1")(x)

    x = depthwise_bn(x, conv="conv2_depthwise", bn="bn2_depthwise", strides=2)
    x = keras.layers.ReLU(name="relu2_depthwise")(x)
    x = conv_bn(x, widen_filters(32, width), conv="conv2_pointwise", bn="bn2", kernel_size=1)
    x = shortcut = keras.layers.ReLU(name="relu2")(x)

    x = conv_bn(x, widen_filters(32, width), conv="conv3", bn="bn3")
    x = keras.layers.Add(name="add3")([x, shortcut])
    x = keras.layers.ReLU(name="relu3")(x)
    return keras.Model(inputs, classifier(x, num_classes), name="digits_cnn")
