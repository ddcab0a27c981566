"""Residual networks for 32x32 images (He et al. 2015, arXiv 1512.03385, section 4.2)."""

from wrpn_tf.models.layers import classifier, conv_bn_relu, widen_filters
from wrpn_tf.models.namespaces import Front, Model, keras_named
from wrpn_tf.models.residual import residual_stages

_STAGE_FILTERS = (16, 32, 64)
_SLIM_STAGE_FILTERS = (8, 16, 32)


def resnet_cifar(
    depth: int,
    *,
    preactivation: bool = False,
    slim: bool = False,
    width: float = 1.0,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    front: Front = "keras",
) -> Model:
    """A ResNet of 6n + 2 layers: three stages of n blocks of two 3x3 convolutions.

    The stages have 16, 32 and 64 filters, times `width` (see `layers.widen_filters`), as the first
    convolution has; the second and third begin with stride 2. Logits, no softmax.

    At width 1, 10 classes and 32x32x3 images (trainable parameters; multiply-adds):

    ========  =============  ===============  =======  =======  ======
    depth     parameters     preactivation    FMAs     slim     FMAs
    ========  =============  ===============  =======  =======  ======
    8                78,042           77,850   12.5 M   19,954  3.24 M
    14              175,258          175,066   26.7 M   44,370  6.78 M
    20              272,474          272,282   40.8 M   68,786  10.3 M
    32              466,906          466,714   69.1 M  117,618  17.4 M
    56              855,770          855,578  125.7 M  215,282  31.5 M
    ========  =============  ===============  =======  =======  ======

    Differences from the source: where a block changes the shape, its shortcut is a 1x1 convolution
    (with batch normalization in the post-activation form), 2,752 parameters in all that the
    source's zero padding (its option A) does not have, which has no integer operator of its own.

    Args:
        depth: 8, 14, 20, ...: 6n + 2.
        preactivation: The form of He et al. 2016 (arXiv 1603.05027); see `residual_stages`.
        slim: Half the filters at width 1: small enough for many trainings on a CPU.
        width: Factor on the filters of every convolution, at least 0.25.
        num_classes: Size of the logits.
        input_shape: (height, width, channels) of the images.
        front: The Keras: 'keras' (Keras 3) or 'tf_keras'.

    Returns:
        An untrained functional model, float32 [N, *input_shape] to float32 [N, num_classes].

    Raises:
        ValueError: Depth or width is out of range.
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth must be 6n + 2 (8, 14, 20, ...), not {depth}")
    base_filters = _SLIM_STAGE_FILTERS if slim else _STAGE_FILTERS
    filters = [widen_filters(base, width) for base in base_filters]
    blocks = [depth // 6] * len(filters)
    keras = keras_named(front)
    inputs = keras.Input(input_shape, name="image")
    x = conv_bn_relu(inputs, filters[0], name="conv1")
    x = residual_stages(x, filters, blocks, preactivation=preactivation)
    name = f"resnet{depth}" + "_slim" * slim + "_pre" * preactivation
    return keras.Model(inputs, classifier(x, num_classes), name=name)
