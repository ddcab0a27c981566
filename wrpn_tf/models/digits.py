"""A small network for 8x8 digits that has one of each: plain, separable, residual."""

from wrpn_tf.models.layers import (
    classifier,
    conv_bn,
    conv_bn_relu,
    depthwise_bn_relu,
    widen_filters,
)
from wrpn_tf.models.namespaces import Front, Model, keras_named


def digits_cnn(
    *,
    width: float = 1.0,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (8, 8, 1),
    front: Front = "keras",
) -> Model:
    """A 3x3 convolution, a depthwise-separable one of stride 2, and a residual 3x3 one.

    This package's own, for demonstrations and tests: 10,538 trainable parameters and 0.17 M
    multiply-adds per 8x8x1 image at width 1. Logits, no softmax.

    Args:
        width: Factor on the filters (16 and 32 at width 1), at least 0.25.
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
    x = conv_bn_relu(inputs, widen_filters(16, width), name="conv1")
    x = depthwise_bn_relu(x, name="conv2_depthwise", strides=2)
    x = shortcut = conv_bn_relu(x, widen_filters(32, width), 1, name="conv2_pointwise")
    x = conv_bn(x, widen_filters(32, width), name="conv3")
    x = keras.layers.ReLU(name="relu3")(keras.layers.Add(name="add3")([x, shortcut]))
    return keras.Model(inputs, classifier(x, num_classes), name="digits_cnn")
