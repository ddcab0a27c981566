"""The canonical form keeps what a network computes."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from small_models import images, randomize
from tf_keras import layers

from wrpn_tf.graph.canonical import canonical
from wrpn_tf.tfmot import traversal

CHANNELS = np.array([0.5, -2.0, 3.0], np.float32)


def rewritten(build, inputs=1):
    """The model that `build` makes of its inputs, before and after rewriting."""
    tensors = [keras.Input((4, 4, 3), name=f"input{index}") for index in range(inputs)]
    model = randomize(keras.Model(tensors, build(*tensors)))
    return model, traversal.build(canonical(traversal.read(model), layers))


def assert_close(model, new):
    data = images(model)
    np.testing.assert_allclose(new(data), model(data), rtol=1e-5, atol=1e-6)


def kinds(model):
    return [type(node.layer).__name__ for node in traversal.read(model).nodes][len(model.inputs) :]


def test_hard_swish_of_operations_is_one_line_one_relu_and_a_product():
    model, new = rewritten(lambda x: x * (layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)))
    assert kinds(new) == ["Rescaling", "ReLU", "Multiply"]
    _, line, relu, _ = (node.layer for node in traversal.read(new).nodes)
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
    assert [node.name for node in traversal.read(new).nodes][4:] == [
        "all_part1",
        "all_part2",
        "all",
    ]
    assert_close(model, new)


def test_a_constant_behind_a_relu_that_others_read_comes_before_it_once():
    def build(x):
        x = layers.ReLU(6.0, name="relu")(x) * 0.5
        return [x * 3.0, x * -1.0, x]

    model, new = rewritten(build)
    assert kinds(new).count("ReLU") == 1
    data = images(model)
    for expected, actual in zip(model(data), new(data), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "behind",
    [
        lambda x: layers.ReLU(6.0, negative_slope=0.1)(x) * 0.5,
        lambda x: layers.ReLU(6.0, threshold=0.5)(x) * 0.5,
        lambda x: layers.ReLU(6.0)(x) * -0.5,
        lambda x: layers.ReLU(6.0)(x) * CHANNELS,
        lambda x: layers.ReLU(6.0)(x) * 0.5 + 1.0,
        lambda x: layers.Activation("hard_sigmoid")(x) * 2.0,
    ],
)
def test_what_does_not_commute_stays_in_its_place(behind):
    model, new = rewritten(lambda x: layers.Conv2D(3, 1)(behind(x)))
    assert kinds(new)[1:] == ["Rescaling", "Conv2D"] or kinds(new)[0] == "Rescaling"
    assert_close(model, new)


def test_nothing_is_built_or_changed_and_weights_are_told_by_their_origin():
    inputs = keras.Input((4, 4, 3), name="image")
    x = layers.ReLU(6.0, name="relu")(layers.Conv2D(3, 1, name="conv")(inputs))
    outputs = layers.Add(name="sum")([layers.Rescaling(0.5, name="half")(x), inputs, inputs])
    model = keras.Model(inputs, outputs)
    network = canonical(traversal.read(model), layers)
    found = {node.name: node for node in network.nodes}
    assert list(found) == ["image", "conv", "half", "relu", "sum_part1", "sum"]
    assert [node.inputs for node in network.nodes] == [
        (),
        ("image",),
        ("conv",),
        ("half",),
        ("relu", "image"),
        ("sum_part1", "image"),
    ]
    assert not found["relu"].layer.built
    assert found["relu"].layer.max_value == 3.0
    assert found["relu"].origin is model.get_layer("relu")
    assert found["conv"].weights == (0, 1)
    assert found["sum_part1"].origin is model.get_layer("sum")
    assert {node.part_of for node in network.nodes} == set(found)
    assert {node.shape for node in network.nodes} == {(None, 4, 4, 3)}


def test_a_layer_with_the_name_of_a_part_is_named():
    image = keras.Input((4, 4, 3), name="image")
    x = layers.Add(name="sum")([image, image, image])
    model = keras.Model(image, layers.ReLU(name="sum_part1")(x))
    with pytest.raises(ValueError, match=r"part of layer 'sum' would have the name of .*sum_part1"):
        canonical(traversal.read(model), layers)


def test_pairs_of_gates_and_maps_have_the_maps_shape():
    gate, image = keras.Input((1, 1, 3), name="gate"), keras.Input((4, 4, 3), name="image")
    model = keras.Model([gate, image], layers.Multiply(name="all")([gate, gate, image]))
    *_, part, product = canonical(traversal.read(model), layers).nodes
    assert (part.shape, product.shape) == ((None, 1, 1, 3), (None, 4, 4, 3))


@pytest.mark.parametrize(
    ("build", "maximum"),
    [
        (lambda x: keras.backend.relu(x, max_value=0.5), 0.5),
        (lambda x: tf.minimum(tf.nn.relu(x), 0.25), 0.25),
        (lambda x: layers.ReLU(0.5)(tf.nn.relu6(x)), 0.5),
        (lambda x: tf.nn.relu(layers.ReLU(0.5)(x)), 0.5),
        (lambda x: tf.nn.relu(tf.nn.relu(x)), None),
        (lambda x: tf.clip_by_value(layers.ReLU(0.25)(x), -1.0, 0.5), 0.25),
    ],
)
def test_a_relu_of_a_relu_is_one(build, maximum):
    model, new = rewritten(build)
    assert kinds(new) == ["ReLU"]
    assert traversal.read(new).nodes[-1].layer.max_value == maximum
    assert_close(model, new)


def test_a_relu_that_others_read_or_that_has_a_penalty_stays():
    def build(x):
        first = tf.nn.relu(x)
        return [tf.minimum(first, 0.5), first * -1.0]

    _, new = rewritten(build)
    assert sorted(kinds(new)) == ["Clip", "ReLU", "Rescaling"]
    relu = layers.ReLU(activity_regularizer="l2")
    image = keras.Input((4, 4, 3))
    network = canonical(traversal.read(keras.Model(image, layers.ReLU(0.5)(relu(image)))), layers)
    assert [type(node.layer).__name__ for node in network.nodes[1:]] == ["ReLU", "ReLU"]
