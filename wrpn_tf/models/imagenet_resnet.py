"""Residual networks for ImageNet (He et al. 2015, arXiv 1512.03385, table 1)."""

from wrpn_tf.models.layers import classifier, conv_bn_relu, max_pool, widen_filters
from wrpn_tf.models.namespaces import Front, Model, keras_named
from wrpn_tf.models.residual import residual_stages

_STEM_FILTERS = 64
_STAGE_FILTERS = (64, 128, 256, 512)
_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_FIRST_BOTTLENECK = 50


def resnet(
    depth: int,
    *,
    preactivation: bool = True,
    width: float = 1.0,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    front: Front = "keras",
) -> Model:
    """A ResNet of 18, 34, 50 or 101 layers; from 50 on its blocks are bottlenecks.

    A 7x7 convolution of stride 2, 3x3 max pooling of stride 2, and four stages of 64, 128, 256 and
    512 filters, times `width` (see `layers.widen_filters`). The first convolution keeps its 64
    filters: widening it would cost more than WRPN's table reports for ResNet-34 (section 5 of the
    paper gives the variant: pre-activation, 1x1 shortcuts, which are widened). Below width 1 it is
    narrowed with the rest. Logits, no softmax.

    At width 1, 1000 classes and 224x224x3 images (trainable parameters; multiply-adds):

    =====  ==============  ===============  =======
    depth  preactivation   post-activation  FMAs
    =====  ==============  ===============  =======
    18         11,687,720       11,689,512   1.81 G
    34         21,795,880       21,797,672   3.66 G
    50         25,549,352       25,557,032   4.09 G
    101        44,541,480       44,549,160   7.80 G
    =====  ==============  ===============  =======

    Differences from the source: the stride of a bottleneck is that of its 3x3 convolution, as in
    torchvision, not of its first 1x1; padding is TensorFlow's SAME, which for an even size and
    stride 2 pads at the end only.

    Args:
        depth: 18, 34, 50 or 101.
        preactivation: The form of He et al. 2016 (arXiv 1603.05027); see `residual_stages`.
        width: Factor on the filters of every convolution but the first, at least 0.25.
        num_classes: Size of the logits.
        input_shape: (height, width, channels) of the images.
        front: The Keras: 'keras' (Keras 3) or 'tf_keras'.

    Returns:
        An untrained functional model, float32 [N, *input_shape] to float32 [N, num_classes].

    Raises:
        ValueError: Depth or width is out of range.
    """
    if depth not in _BLOCKS:
        raise ValueError(f"depth must be one of {', '.join(map(str, _BLOCKS))}, not {depth}")
    filters = [widen_filters(base, width) for base in _STAGE_FILTERS]
    keras = keras_named(front)
    inputs = keras.Input(input_shape, name="image")
    stem = widen_filters(_STEM_FILTERS, min(width, 1.0))
    x = max_pool(conv_bn_relu(inputs, stem, 7, name="conv1", strides=2), "pool1")
    x = residual_stages(
        x,
        filters,
        _BLOCKS[depth],
        bottleneck=depth >= _FIRST_BOTTLENECK,
        preactivation=preactivation,
    )
    name = f"resnet{depth}" if preactivation else f"resnet{depth}_post"
    return keras.Model(inputs, classifier(x, num_classes), name=name)
