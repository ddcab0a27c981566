"""VGG-Small for 32x32 images."""

from wrpn_tf.models.layers import conv_bn_relu, logits, widen_filters
from wrpn_tf.models.namespaces import Front, Model, keras_named


def vgg_small(
    *,
    width: float = 1.0,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    front: Front = "keras",
) -> Model:
    """Six 3x3 convolutions and one dense layer: the VGG-Small of papers on low precision.

    The network of BinaryConnect (arXiv 1511.00363) with one dense layer in place of three, as in
    LQ-Nets (arXiv 1807.10029): two convolutions of 128, 256 and 512 filters each, every pair
    followed by 2x2 max pooling. 4,660,106 trainable parameters and 0.61 G multiply-adds per 32x32x3
    image at width 1. Logits, no softmax.

    Differences from the source: batch normalization and ReLU come before the pooling.

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
    x = inputs = keras.Input(input_shape, name="image")
    for index, filters in enumerate((128, 256, 512), start=1):
        for half in "ab":
            x = conv_bn_relu(x, widen_filters(filters, width), name=f"conv{index}{half}")
        x = keras.layers.MaxPooling2D(2, name=f"pool{index}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    return keras.Model(inputs, logits(x, num_classes), name="vgg_small")
