"""Operations become layers."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from small_models import images, randomize
from tf_keras import layers

import wrpn_tf
from wrpn_tf.tfmot import traversal

CHANNELS = np.array([0.5, -2.0, 3.0], np.float32)


def read(build, inputs=1):
    """The model that `build` makes of its inputs, and the same read and built again."""
    tensors = [keras.Input((4, 4, 3), name=f"input{index}") for index in range(inputs)]
    model = randomize(keras.Model(tensors, build(*tensors)))
    return model, traversal.build(traversal.read(model))


def assert_close(model, new):
    data = images(model)
    np.testing.assert_allclose(new(data), model(data), rtol=1e-5, atol=1e-6)


def kinds(model):
    return [type(layer).__name__ for layer in model.layers][len(model.inputs) :]


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
        (lambda x: tf.nn.bias_add(x, CHANNELS), "Rescaling"),
        (lambda x: tf.cast(x, tf.float32), "Rescaling"),
        (lambda x: tf.clip_by_value(x, 0, 0.5), "ReLU"),
        (lambda x: tf.clip_by_value(x, -0.25, tf.constant(0.5)), "Clip"),
        (lambda x: tf.minimum(x, 0.5), "Clip"),
        (lambda x: tf.maximum(0.25, x), "Clip"),
        (lambda x: tf.maximum(x, 0.0), "ReLU"),
        (tf.identity, "Identity"),
        (lambda x: tf.nn.depth_to_space(tf.reshape(x, [-1, 2, 2, 12]), 2), "Reshape DepthToSpace"),
        (lambda x: tf.nn.space_to_depth(x, 2), "SpaceToDepth"),
        (lambda x: tf.transpose(x, [0, 3, 1, 2]), "Permute"),
        (lambda x: keras.backend.permute_dimensions(x, (0, 2, 1, 3)), "Permute"),
        (lambda x: tf.reshape(x, [-1, 2, 24]), "Reshape"),
        (lambda x: tf.expand_dims(x, 1), "Reshape"),
        (lambda x: tf.squeeze(tf.expand_dims(x, 1), [1]), "Reshape Reshape"),
        (lambda x: x[:, tf.newaxis], "Reshape"),
        (lambda x: x[..., ::-1], "Slice"),
        (lambda x: x[:, 1:-1, ::2], "Slice"),
        (lambda x: x[:, 0, :, 1:], "Slice"),
        (lambda x: x[:, -1], "Slice"),
        (lambda x: tf.slice(x, [0, 1, 0, 0], [-1, 2, -1, 2]), "Slice"),
        (lambda x: tf.gather(x, [2, 1, 0], axis=-1), "Slice"),
        (lambda x: tf.gather(x, [1, 3], axis=2), "Slice"),
        (lambda x: tf.concat(tf.split(x, 2, axis=1)[::-1], 1), "Slice Slice Concatenate"),
        (lambda x: tf.split(x, [2, -1], axis=-1)[1], "Slice"),
        (lambda x: tf.reverse(x, [1, -1]), "Slice"),
        (tf.image.flip_left_right, "Slice"),
        (tf.image.flip_up_down, "Slice"),
        (lambda x: tf.image.central_crop(x, 0.5), "Slice"),
        (lambda x: tf.image.crop_to_bounding_box(x, 1, 0, 2, 3), "Slice"),
        (lambda x: tf.pad(x, [[0, 0], [1, 0], [2, 1], [0, 0]]), "ZeroPadding2D"),
        (
            lambda x: tf.pad(tf.reshape(x, [-1, 16, 3]), [[0, 0], [1, 2], [0, 0]]),
            "Reshape ZeroPadding1D",
        ),
        (lambda x: tf.nn.max_pool2d(x, 2, 1, "SAME"), "MaxPooling2D"),
        (lambda x: tf.nn.avg_pool2d(x, (2, 1), [1, 2, 1, 1], "VALID"), "AveragePooling2D"),
        (lambda x: tf.reduce_mean(x, [1, 2]), "GlobalAveragePooling2D"),
        (lambda x: tf.reduce_max(x, (-2, 1), keepdims=True), "GlobalMaxPooling2D"),
        (lambda x: tf.reduce_mean(x[:, 0], 1), "Slice GlobalAveragePooling1D"),
        (lambda x: tf.image.resize(x, (8, 2), "nearest"), "Resizing"),
        (layers.Normalization(mean=CHANNELS, variance=CHANNELS**2), "Rescaling"),
        (layers.Normalization(mean=0.5, variance=4.0, axis=None), "Rescaling"),
        (layers.Normalization(mean=CHANNELS, variance=CHANNELS**2, invert=True), "Rescaling"),
    ],
)
def test_an_operation_becomes_a_layer(build, expected):
    model, new = read(build)
    assert kinds(new) == expected.split()
    assert_close(model, new)
    assert_close(model, traversal.build(traversal.read(new)))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda x, y: x + y, "Add"),
        (lambda x, y: tf.add_n([x, y, x]), "Add"),
        (lambda x, y: tf.stack([x, y, x], axis=-2), "Stack"),
        (lambda x, y: tf.stack([x[..., 0], y[..., 1]], 1), "Slice Slice Stack"),
        (lambda x, y: x - y, "Subtract"),
        (lambda x, y: x * y, "Multiply"),
        (tf.maximum, "Maximum"),
        (tf.minimum, "Minimum"),
        (lambda x, y: tf.concat([x, y], -1), "Concatenate"),
    ],
)
def test_an_operation_on_two_tensors_becomes_a_layer(build, expected):
    model, new = read(build, 2)
    assert kinds(new) == expected.split()
    assert_close(model, new)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda x: 1.0 / x, "TFOpLambda: operation 'math.truediv' with"),
        (lambda x: x * np.ones((4, 1), "f"), "TFOpLambda: operation 'math.multiply' with"),
        (lambda x: tf.reshape(tf.reshape(x, [-1, 3]), [-1, 48]), "operation 'reshape' with"),
        (lambda x: tf.transpose(tf.transpose(x)), "operation 'compat.v1.transpose'"),
        (lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT"), "compat.v1.pad' with"),
        (lambda x: tf.pad(x, [[0, 0], [1, 1], [0, 0], [0, 0]], constant_values=1), "pad' with"),
        (lambda x: tf.reduce_mean(x, -1, keepdims=True), "operation 'math.reduce_mean' with"),
        (lambda x: tf.gather(x, [0, 2, 1], axis=-1), "operation 'compat.v1.gather' with"),
        (lambda x: tf.image.resize(x, (8, 8), "bicubic"), "operation 'image.resize' with"),
        (lambda x: tf.image.resize(x, (8, 8), antialias=True), "image.resize' with.*antialias"),
        (lambda x: x[:2], "SlicingOpLambda: operation '__operators__.getitem' with"),
        (lambda x: tf.cast(tf.cast(x, tf.float16), tf.float32), "operation 'cast' with"),
        (lambda x: tf.maximum(x, CHANNELS), "operation 'math.maximum' with"),
        (lambda x: tf.clip_by_value(x, 0, -1), "limits 0 and -1 must grow"),
        (lambda x: tf.concat([x, tf.ones((2, 4, 4, 3))], -1), "operation 'concat' with"),
    ],
)
def test_other_operations_are_named_in_the_error(build, message):
    tensor = keras.Input((4, 4, 3))
    model = keras.Model(tensor, build(tensor))
    with pytest.raises(ValueError, match=message):
        wrpn_tf.quantize_model(model)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: x * tf.constant([0.5, -2.0, 3.0]),
        layers.Normalization(mean=CHANNELS, variance=CHANNELS**2),
    ],
)
def test_a_network_without_values_is_read_all_the_same(build):
    with tf.Graph().as_default():
        tensor = keras.Input((4, 4, 3), name="image")
        model = keras.Model(tensor, layers.Conv2D(2, 1, name="conv")(build(tensor)))
    *_, constant, conv = traversal.read(model).nodes
    assert (constant.shape, conv.shape) == ((None, 4, 4, 3), (None, 4, 4, 2))
    assert conv.inputs == (constant.name,)


class Halves(layers.Layer):
    """A layer with two outputs."""

    def call(self, inputs):
        return inputs[..., :1], inputs[..., 1:]


def test_outputs_of_a_layer_that_has_several_are_told_apart():
    inputs = keras.Input((4, 4, 3), name="image")
    one, other = Halves(name="halves")(inputs)
    model = randomize(keras.Model(inputs, [other, layers.Conv2D(2, 1, name="conv")(one)]))
    with keras.utils.custom_object_scope({"Halves": Halves}):
        new = traversal.build(traversal.read(model))
    data = images(model)
    for expected, actual in zip(model(data), new(data), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_nested_models_have_the_shapes_of_what_they_are_called_on():
    inner = keras.Sequential([layers.InputLayer((None, None, 3)), layers.Conv2D(2, 3, name="conv")])
    inputs = keras.Input((6, 5, 3), name="image")
    _, conv, pool = traversal.read(
        keras.Model(inputs, layers.MaxPooling2D(name="pool")(inner(inputs)))
    ).nodes
    assert (conv.name, conv.shape) == ("conv", (None, 4, 3, 2))
    assert (pool.inputs, pool.shape) == (("conv",), (None, 2, 1, 2))
