"""How fast learned scales move: LSQ's gradient (arXiv 1902.08153) as the quantizers wire it."""

import numpy as np
import pytest
import tensorflow as tf
from equality import assert_same
from tf_keras import layers

import wrpn_tf


def scale_gradient(quantizer, shape, name, layer, x, upstream, scale):
    """What training sees of the scale, float32 of its shape."""
    variables = quantizer.build(tf.TensorShape(shape), name, layer)
    variables["scale"].assign(tf.fill(variables["scale"].shape, scale))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(quantizer(tf.constant(x), True, variables) * upstream)
    return tape.gradient(total, variables["scale"]).numpy()


def lsq(x, upstream, scale, low, high):
    """Equation 3 of the paper times the upstream gradient, for each value; all are dyadic."""
    steps = x / scale
    inside = np.floor(steps + 0.5) - steps
    return np.where(steps < low, low, np.where(steps > high, high, inside)) * upstream


def values(shape, low, high):
    """Values that float32 adds up exactly, in any order, and whole upstream gradients."""
    random = np.random.default_rng(0)
    x = random.integers(round(64 * low), round(64 * high), shape) / 64
    return x.astype(np.float32), random.integers(-2, 3, shape).astype(np.float32)


def test_activations_divide_by_the_root_of_one_images_values_and_the_levels():
    """N is 4 x 5 x 3 whatever the batch: 1 / sqrt(60 * 15) is 1/30."""
    x, upstream = values((8, 4, 5, 3), -1.0, 5.0)
    quantizer = wrpn_tf.ActivationQuantizer(4)
    shape = (None, 4, 5, 3)
    actual = scale_gradient(quantizer, shape, "output", layers.Layer(), x, upstream, 0.25)
    total = lsq(x, upstream, 0.25, 0, 15).sum()
    assert total != 0
    assert_same(actual, np.float32(total) * np.float32(1 / 30))


@pytest.mark.parametrize(
    ("shape", "bits", "per_channel", "name", "layer", "axes", "factor"),
    [
        # 12 values share a scale of 3 levels: 1 / sqrt(36).
        ((2, 2, 3, 5), 3, True, "kernel", layers.Conv2D(5, 2), (0, 1, 2), 1 / 6),
        # All 48 do: 1 / sqrt(144).
        ((2, 2, 3, 4), 3, False, "kernel", layers.Conv2D(4, 2), (0, 1, 2, 3), 1 / 12),
        # A window of 9, for each input channel and its 2 outputs; 1 level.
        ((3, 3, 4, 2), 2, True, "depthwise_kernel", layers.DepthwiseConv2D(3), (0, 1), 1 / 3),
        # Outputs before inputs.
        ((2, 2, 5, 3), 3, True, "kernel", layers.Conv2DTranspose(5, 2), (0, 1, 3), 1 / 6),
        ((12, 5), 3, True, "kernel", layers.Dense(5), (0,), 1 / 6),
        ((12, 4), 3, False, "kernel", layers.Dense(4), (0, 1), 1 / 12),
    ],
    ids=["channels", "layer", "depthwise", "transposed", "dense channels", "dense"],
)
def test_kernels_divide_by_the_root_of_what_shares_a_scale(
    shape, bits, per_channel, name, layer, axes, factor
):
    x, upstream = values(shape, -1.0, 1.0)
    quantizer = wrpn_tf.WeightQuantizer(bits, per_channel=per_channel)
    actual = scale_gradient(quantizer, shape, name, layer, x, upstream, 0.25)
    levels = 2 ** (bits - 1) - 1
    total = lsq(x, upstream, 0.25, -levels, levels).sum(axis=axes, keepdims=True)
    assert total.any()
    assert_same(actual, total.astype(np.float32) * np.float32(factor))
