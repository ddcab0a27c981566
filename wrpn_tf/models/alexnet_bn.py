"""AlexNet with batch normalization."""

from wrpn_tf.models.layers import bn_relu, conv_bn_relu, logits, max_pool, widen_filters
from wrpn_tf.models.namespaces import Front, Model, keras_named

_SMALLEST_IMAGE = 44  # Below it nothing is left for the last pooling.


def alexnet(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    front: Front = "keras",
) -> Model:
    """The AlexNet (Krizhevsky et al. 2012) of DoReFa-Net's ImageNet experiments, batch-normalized.

    WRPN does not draw its AlexNet, but says that twice the filters cost 3.9 times as much in
    float. That singles out this shape, the one in which tensorpack (with which WRPN was trained)
    reproduces DoReFa-Net (arXiv 1606.06160), with everything widened but the classes: 3.92 times.

    62,394,536 trainable parameters and 3.05 G multiply-adds per 224x224x3 image at width 1. Logits,
    no softmax.

    Differences from Krizhevsky et al.: the first kernel is 12x12 (11x11) and no pooling follows it;
    convolutions are not split into two groups; batch normalization (in place of biases) instead of
    local response normalization and dropout. From tensorpack's: no groups, batch normalization
    behind the first convolution too.

    Args:
        width: Factor on the filters and units of every layer but the last, at least 0.25.
        num_classes: Size of the logits.
        input_shape: (height, width, channels) of the images; at least 44 pixels high and wide.
        front: The Keras: 'keras' (Keras 3) or 'tf_keras'.

    Returns:
        An untrained functional model, float32 [N, *input_shape] to float32 [N, num_classes].

    Raises:
        ValueError: Width is out of range, or images are too small.
    """
    if min(input_shape[:2]) < _SMALLEST_IMAGE:
        raise ValueError(
            f"alexnet needs images of at least {_SMALLEST_IMAGE}x{_SMALLEST_IMAGE} pixels, not "
            f"{input_shape[0]}x{input_shape[1]}"
        )
    keras = keras_named(front)
    inputs = keras.Input(input_shape, name="image")
    first = widen_filters(96, width)
    x = conv_bn_relu(inputs, first, 12, name="conv1", strides=4, padding="valid")
    x = max_pool(conv_bn_relu(x, widen_filters(256, width), 5, name="conv2"), "pool2")
    x = max_pool(conv_bn_relu(x, widen_filters(384, width), name="conv3"), "pool3")
    x = conv_bn_relu(x, widen_filters(384, width), name="conv4")
    x = conv_bn_relu(x, widen_filters(256, width), name="conv5")
    x = keras.layers.Flatten(name="flatten")(max_pool(x, "pool5", padding="valid"))
    units = widen_filters(4096, width)
    for index in (6, 7):
        x = keras.layers.Dense(
            units, use_bias=False, kernel_initializer="he_normal", name=f"dense{index}"
        )(x)
        x = bn_relu(x, bn=f"bn{index}", relu=f"relu{index}")
    return keras.Model(inputs, logits(x, num_classes), name="alexnet")
