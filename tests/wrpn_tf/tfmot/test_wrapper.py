"""What a wrapped layer computes in training."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from equality import assert_same
from tf_keras import layers

import wrpn_tf
from wrpn_tf.arithmetic import numpy_twins
from wrpn_tf.graph.roles import clips_within


def activated(activation):
    """A network whose activation has 8 bits, as it is the last layer's input."""
    image = keras.Input((4, 4, 2), name="image")
    x = layers.Conv2D(3, 1, name="conv")(image)
    model = keras.Model(image, layers.Conv2D(2, 1, name="last")(activation(x)))
    return wrpn_tf.quantize_model(model, 4, 4)


def operations(model):
    """Kinds of the operations of a call in training."""
    spec = tf.TensorSpec((2, 4, 4, 2))
    function = tf.function(lambda images: model(images, training=True))
    return [op.type for op in function.get_concrete_function(spec).graph.get_operations()]


RELUS = [layers.ReLU(), layers.Activation("relu"), layers.ReLU(6.0), layers.Activation("relu6")]


@pytest.mark.parametrize("relu", RELUS)
def test_no_relu_is_computed_before_a_quantizer_that_clips_as_much(relu):
    kinds = operations(activated(relu))
    assert not {"Relu", "Relu6"} & set(kinds)
    assert kinds.count("FakeQuantWithMinMaxArgs") == 1


@pytest.mark.parametrize(
    ("relu", "maximum", "expected"),
    [
        (layers.ReLU(), None, True),
        (layers.ReLU(6.0), None, False),
        (layers.ReLU(6.0), 6.0, True),
        (layers.ReLU(6.0), 6.5, False),
        (layers.Activation("relu6"), 7.0, False),
        (layers.ReLU(negative_slope=0.1), 6.0, False),
        (layers.ReLU(threshold=0.1), 6.0, False),
        (layers.Activation("tanh"), 6.0, False),
    ],
)
def test_a_relu_is_needed_where_the_clip_may_be_beyond_its_maximum(relu, maximum, expected):
    assert clips_within(relu, maximum) is expected


def test_calibration_sees_what_the_relu_gives():
    """All negative: the scale is that of zeros, 1 / 255, and not one that fits the magnitudes."""
    model = activated(layers.ReLU(name="relu"))
    conv = model.get_layer("quant_conv")
    conv.layer.bias.assign([-5.0] * 3)
    wrpn_tf.calibrate(model, [np.zeros((2, 4, 4, 2), np.float32)])
    (scale,) = (w for w in model.get_layer("quant_relu").weights if "scale" in w.name)
    assert scale.numpy() == np.float32(1 / 255)


def test_values_and_gradients_are_those_of_the_clip():
    wrapper = activated(layers.ReLU(name="relu")).get_layer("quant_relu")
    x = np.linspace(-1, 40, 2 * 4 * 4 * 3).reshape(2, 4, 4, 3).astype(np.float32)
    scale = next(w for w in wrapper.weights if "scale" in w.name)
    scale.assign(0.125)
    with tf.GradientTape() as tape:
        tape.watch(images := tf.constant(x))
        value = wrapper(images, training=True)
    assert_same(value, numpy_twins.fake_quantize_np(x, 0.125, 0, 255))
    inside = (x >= 0) & (x <= 255 * 0.125)
    assert_same(tape.gradient(value, images), inside.astype(np.float32))
