"""BN-Inception (Ioffe and Szegedy 2015, arXiv 1502.03167, figure 5)."""

from typing import Any, NamedTuple

from wrpn_tf.models.layers import classifier, conv_bn_relu, max_pool, widen_filters
from wrpn_tf.models.namespaces import Front, Model, keras_named, keras_of


class _Module(NamedTuple):
    """Filters of a module's paths; without a 1x1 path it has stride 2, without `pool` max pooling.

    Attributes:
        name: Of the module.
        one: Of the 1x1 path; 0 for none.
        three: Of the 3x3 path: reduction, convolution.
        double: Of the path of two 3x3: reduction, each convolution.
        pool: Of the 1x1 behind 3x3 pooling; 0 for none.
        average: Whether pooling averages.
    """

    name: str
    one: int
    three: tuple[int, int]
    double: tuple[int, int]
    pool: int
    average: bool = True


_MODULES = (
    _Module("3a", 64, (64, 64), (64, 96), 32),
    _Module("3b", 64, (64, 96), (64, 96), 64),
    _Module("3c", 0, (128, 160), (64, 96), 0, average=False),
    _Module("4a", 224, (64, 96), (96, 128), 128),
    _Module("4b", 192, (96, 128), (96, 128), 128),
    _Module("4c", 160, (128, 160), (128, 160), 128),
    _Module("4d", 96, (128, 192), (160, 192), 128),
    _Module("4e", 0, (128, 192), (192, 256), 0, average=False),
    _Module("5a", 352, (192, 320), (160, 224), 128),
    _Module("5b", 352, (192, 320), (192, 224), 128, average=False),
)


def bn_inception(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    front: Front = "keras",
) -> Model:
    """Inception with batch normalization, every 5x5 convolution replaced by two 3x3.

    11,285,224 trainable parameters and 2.03 G multiply-adds per 224x224x3 image at width 1. WRPN
    doubles all filter banks, so every convolution is widened, the first included. Logits, no
    softmax.

    Differences from the source's figure: modules 4a to 4e have the filters of the published Caffe,
    MXNet and tensorpack models, in which 4c has 608 channels and not 576; the first convolution is
    a full one, not separable; no auxiliary classifiers.

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
    x = conv_bn_relu(inputs, widen_filters(64, width), 7, name="conv1", strides=2)
    x = max_pool(x, "pool1")
    x = conv_bn_relu(x, widen_filters(64, width), 1, name="conv2_reduce")
    x = max_pool(conv_bn_relu(x, widen_filters(192, width), name="conv2"), "pool2")
    for module in _MODULES:
        x = _inception(x, module, width)
    return keras.Model(inputs, classifier(x, num_classes), name="bn_inception")


def _inception(x: Any, module: _Module, width: float) -> Any:
    """Paths side by side, concatenated."""
    strides = 1 if module.one else 2
    name = f"inception{module.name}"

    def unit(x, filters, kernel_size, path, strides=1):
        return conv_bn_relu(
            x,
            widen_filters(filters, width),
            kernel_size,
            name=f"{name}_conv_{path}",
            strides=strides,
        )

    paths = [unit(x, module.one, 1, "1x1")] if module.one else []
    reduced = unit(x, module.three[0], 1, "3x3_reduce")
    paths.append(unit(reduced, module.three[1], 3, "3x3", strides))
    reduced = unit(x, module.double[0], 1, "double_reduce")
    middle = unit(reduced, module.double[1], 3, "double_a")
    paths.append(unit(middle, module.double[1], 3, "double_b", strides))
    keras = keras_of(x)
    pooling = keras.layers.AveragePooling2D if module.average else keras.layers.MaxPooling2D
    pooled = pooling(3, strides=strides, padding="same", name=f"{name}_pool")(x)
    paths.append(unit(pooled, module.pool, 1, "pool") if module.pool else pooled)
    return keras.layers.Concatenate(name=f"{name}_concatenate")(paths)
