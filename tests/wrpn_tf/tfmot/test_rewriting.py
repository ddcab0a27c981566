"""Operations become layers, and rewriting keeps what a network computes."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from small_models import images, randomize
from tf_keras import layers

import wrpn_tf
from wrpn_tf.tfmot import traversal
from wrpn_tf.tfmot.rewriting import rewrite

CHANNELS = np.array([0.5, -2.0, 3.0], np.float32)


def rewritten(build, inputs=1):
    """The model that `build` makes of its inputs, before and after flattening and rewriting."""
    tensors = [keras.Input((4, 4, 3), name=f"input{index}") for index in range(inputs)]
    model = randomize(keras.Model(tensors, build(*tensors)))
    return model, rewrite(traversal.flatten(model))


def assert_close(model, new):
    data = images(model)
    np.testing.assert_allclose(new(data), model(data), rtol=1e-5, atol=1e-6)


def kinds(model):
    return [type(node.layer).__name__ for node in traversal.topology(model)][len(model.inputs) :]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda x: x * 2.0, "Rescaling"),
        (lambda x: 2.0 * x, "Rescaling"),
        (lambda x: x / 4.0, "Rescaling"),
        (lambda x: -x, "Rescaling"),
        (lambda x: 1.0 - x, "Rescaling"),
        (lambda x: x - CHANNELS, "Rescaling"),
        (lambda x: tf.add(x, y=CHANNELS), "Rescaling"),
        (lambda x: x * tf.constant(CHANNELS), "Rescaling"),
        (tf.nn.relu, "ReLU"),
        (tf.nn.relu6, "ReLU"),
        (tf.sigmoid, "Activation"),
        (tf.nn.silu, "Activation"),
        (tf.nn.softmax, "Softmax"),
        (layers.Normalization(mean=CHANNELS, variance=CHANNELS**2), "Rescaling"),
        (layers.Normalization(mean=0.5, variance=4.0, axis=None), "Rescaling"),
        (layers.Normalization(mean=CHANNELS, variance=CHANNELS**2, invert=True), "Rescaling"),
    ],
)
def test_an_operation_becomes_a_layer(build, expected):
    model, new = rewritten(build)
    assert kinds(new) == [expected]
    assert_close(model, new)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda x, y: x + y, "Add"),
        (lambda x, y: x - y, "Subtract"),
        (lambda x, y: x * y, "Multiply"),
        (tf.maximum, "Maximum"),
        (tf.minimum, "Minimum"),
        (lambda x, y: tf.concat([x, y], -1), "Concatenate"),
    ],
)
def test_an_operation_on_two_tensors_becomes_a_layer(build, expected):
    model, new = rewritten(build, 2)
    assert kinds(new) == [expected]
    assert_close(model, new)


@pytest.mark.parametrize(
    "build",
    [lambda x: 1.0 / x, lambda x: tf.reshape(x, [-1, 48]), lambda x: x * np.ones((4, 1), "f")],
)
def test_other_operations_are_named_in_the_error(build):
    tensor = keras.Input((4, 4, 3))
    model = keras.Model(tensor, layers.Conv2D(2, 1)(layers.Reshape((4, 4, 3))(build(tensor))))
    with pytest.raises(ValueError, match=r"TFOpLambda: operation '(math.truediv|reshape|math.mul)"):
        wrpn_tf.quantize_model(model)


def test_hard_swish_of_operations_is_one_line_one_relu_and_a_product():
    model, new = rewritten(lambda x: x * (layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)))
    assert kinds(new) == ["Rescaling", "ReLU", "Multiply"]
    _, line, relu, _ = (node.layer for node in traversal.topology(new))
    np.testing.assert_allclose([line.scale, line.offset, relu.max_value], [1 / 6, 0.5, 1.0])
    assert_close(model, new)


def test_rescaling_layers_in_a_row_become_one():
    def build(x):
        x = layers.Rescaling(0.5, 1.0)(x)
        x = layers.Normalization(mean=CHANNELS, variance=CHANNELS**2)(x)
        return layers.ReLU()(layers.Rescaling([1.0, 2.0, 3.0])(x))

    model, new = rewritten(build)
    assert kinds(new) == ["Rescaling", "ReLU"]
    assert_close(model, new)


def test_what_others_read_stays():
    def build(x):
        line = x + 3.0
        relu = layers.ReLU(6.0)(line * 2.0)
        return [line, relu * 0.5, relu * -1.0]

    model, new = rewritten(build)
    assert sorted(kinds(new)) == ["ReLU", "Rescaling", "Rescaling", "Rescaling", "Rescaling"]
    data = images(model)
    for expected, actual in zip(model(data), new(data), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [layers.Add, layers.Multiply, layers.Maximum, layers.Minimum])
def test_many_operands_become_pairs(layer):
    model, new = rewritten(lambda *tensors: layer(name="all")(list(tensors)), 4)
    assert [node.name for node in traversal.topology(new)][4:] == ["all_part1", "all_part2", "all"]
    assert_close(model, new)
