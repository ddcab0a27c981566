"""Operations of Keras 3 as layers: the same function, and an exact file."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import export
import wrpn_tf
from wrpn_tf.graph.canonical import canonical
from wrpn_tf.graph.roles import class_name
from wrpn_tf.keras3 import traversal

IMAGES = np.random.default_rng(0).normal(size=(16, 8, 8, 4)).astype(np.float32)
ONES = np.ones((16, 8, 8, 4), np.float32)
PER_CHANNEL = np.arange(1, 5, dtype=np.float32)
SIDES = ((0, 0), (1, 2), (0, 1), (0, 0))

# By name: the operation, and the classes of the layers that stand for it.
OPERATIONS = {
    "add": (lambda x: x + 0.5, ["Rescaling"]),
    "subtract from": (lambda x: 1.5 - x, ["Rescaling"]),
    "divide": (lambda x: x / PER_CHANNEL, ["Rescaling"]),
    "negative": (lambda x: -x, ["Rescaling"]),
    "twice": (lambda x: x + x, ["Add"]),
    "relu": (ops.relu, ["ReLU"]),
    "relu6": (ops.relu6, ["ReLU"]),
    "relu of activations": (lambda x: keras.activations.relu(x, max_value=2.0), ["ReLU"]),
    "silu": (ops.silu, ["Activation"]),
    "hard sigmoid": (ops.hard_sigmoid, ["Activation"]),
    "hard silu": (ops.hard_silu, ["Activation"]),
    "leaky": (lambda x: ops.leaky_relu(x, 0.25), ["LeakyReLU"]),
    "softmax": (lambda x: ops.softmax(x, axis=-1), ["Softmax"]),
    "clip": (lambda x: ops.clip(x, -0.5, 0.75), ["Clip"]),
    "clip at 0": (lambda x: ops.clip(x, 0.0, 2.0), ["ReLU"]),
    "maximum": (lambda x: ops.maximum(x, 0.25), ["Clip"]),
    "concatenate": (lambda x: ops.concatenate([x, x], axis=-1), ["Concatenate"]),
    "transpose": (lambda x: ops.transpose(x, (0, 2, 1, -1)), ["Permute"]),
    "reshape": (lambda x: ops.reshape(x, (-1, 8, 32)), ["Reshape"]),
    "expand": (lambda x: ops.expand_dims(x, 3), ["Reshape"]),
    "slice": (lambda x: x[:, 1:, ::2], ["Slice"]),
    "channel": (lambda x: x[..., 1], ["Slice"]),
    "split": (
        lambda x: ops.concatenate([*ops.split(x, 2, axis=-1)][::-1], -1),
        ["Slice", "Slice", "Concatenate"],
    ),
    "split at rows": (lambda x: ops.split(x, [1, 3], axis=1)[1], ["Slice"]),
    "flip": (lambda x: ops.flip(x, axis=2), ["Slice"]),
    "pad": (lambda x: ops.pad(x, SIDES), ["ZeroPadding2D"]),
    "padded maximum": (
        lambda x: ops.max_pool(ops.pad(x, SIDES, constant_values=-np.inf), 3, 2),
        ["LowestPadding2D", "MaxPooling2D"],
    ),
    "max_pool": (lambda x: ops.max_pool(x, 2), ["MaxPooling2D"]),
    "average_pool": (lambda x: ops.average_pool(x, 3, 2, "same"), ["AveragePooling2D"]),
    "mean": (lambda x: ops.mean(x, axis=(1, 2)), ["GlobalAveragePooling2D"]),
    "max": (lambda x: ops.max(x, axis=(1, 2), keepdims=True), ["GlobalMaxPooling2D"]),
    "resize": (lambda x: ops.image.resize(x, (16, 16)), ["Resizing"]),
    "depth to space": (lambda x: ops.depth_to_space(x, 2), ["DepthToSpace"]),
    "space to depth": (lambda x: ops.space_to_depth(x, 2), ["SpaceToDepth"]),
    "layer of depth to space": (wrpn_tf.DepthToSpace(2), ["DepthToSpace"]),
    "layer of space to depth": (wrpn_tf.SpaceToDepth(2), ["SpaceToDepth"]),
    "layer of a slice": (wrpn_tf.Slice([(1, None, 2), 0, (None, 3, None)]), ["Slice"]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_become_layers_with_an_exact_file(name):
    operation, expected = OPERATIONS[name]
    image = keras.Input((8, 8, 4), name="image")
    model = keras.Model(image, operation(image))
    network = canonical(traversal.read(model), layers)
    assert [class_name(node.layer) for node in network.nodes[1:]] == expected
    quantized = wrpn_tf.quantize_model(model, 8, 8)
    wrpn_tf.calibrate(quantized, IMAGES)
    reals = np.asarray(model(IMAGES))
    error = np.abs(np.asarray(quantized(IMAGES)) - reals).max()
    assert error <= 0.03 * max(1, np.abs(reals).max())
    export.settle(quantized)
    verified = export.verify(quantized, export.to_tflite(quantized), IMAGES)
    assert not verified.failures and verified.different == 0


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda x: ops.roll(x, 1, axis=1), r"operation 'numpy\.Roll'"),
        (lambda x: ops.transpose(x, (3, 1, 2, 0)), r"operation 'numpy\.Transpose'"),
        (lambda x: ops.split(x, 2)[0], r"operation 'numpy\.Split'"),
        (lambda x: ops.mean(x, axis=-1), r"operation 'numpy\.Mean'"),
        (lambda x: ops.pad(x, SIDES, constant_values=1.0), r"'numpy\.Pad' with constant_values"),
        (lambda x: ops.pad(x, SIDES, constant_values=-np.inf), "is for MaxPooling2D alone"),
        (
            lambda x: ops.max_pool(ops.pad(x, SIDES, constant_values=-np.inf), 2),
            "with windows larger than it",
        ),
        (lambda x: 1.0 / x, r"operation 'numpy\.TrueDivide'"),
        (lambda x: ops.clip(x, -1.0, np.ones(4)), r"operation 'numpy\.Clip'"),
        (lambda x: ops.clip(x, 0.0, -1.0), "limits 0 and -1 must grow"),
        (lambda x: keras.activations.relu(x, max_value=-1), r"operation 'activations\.ReLU'"),
        (lambda x: ops.concatenate([x, x, ONES], axis=-1), r"operation 'numpy\.Concatenate'"),
        (lambda x: ops.stack([x, x, ONES], axis=1), r"operation 'numpy\.Stack'"),
    ],
)
def test_other_operations_are_refused_by_name(operation, message):
    image = keras.Input(batch_shape=(16, 8, 8, 4), name="image")
    with pytest.raises(ValueError, match=message):
        wrpn_tf.quantize_model(keras.Model(image, operation(image)))


def test_operations_with_the_names_of_layers_are_none():
    image = keras.Input((8, 8, 4))
    node = (image * ops.ones((8, 8, 4)))._keras_history.operation
    assert type(node).__name__ == "Multiply"
    assert class_name(node) == ""


def test_others_of_several_tensors_stay_in_float():
    source = keras.Input((8,))
    one, other = (
        wrpn_tf.quantize_annotate(layers.Dense(4, activation="sigmoid"), 8, 8)(source)
        for _ in range(2)
    )
    joined = ops.hstack([ops.divide(one, other), ops.power(one, other)])
    model = keras.Model(source, ops.einsum("bi,bj->bij", one, joined))
    vectors = IMAGES[:, :2, 0].reshape(16, 8)
    quantized = wrpn_tf.quantize_apply(model)
    expected = np.asarray(model(vectors))
    np.testing.assert_allclose(quantized(vectors), expected, atol=0.05 * expected.max())


def test_normalization_becomes_its_constants():
    image = keras.Input((8, 8, 4))
    layer = layers.Normalization()
    layer.adapt(IMAGES)
    model = keras.Model(image, layer(image))
    quantized = wrpn_tf.quantize_model(model, 8, 8)
    wrpn_tf.calibrate(quantized, IMAGES)
    np.testing.assert_allclose(quantized(IMAGES), model(IMAGES), atol=0.05)


class Linear(layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 3), name="w")

    def call(self, x):
        return ops.matmul(x, self.w)


@pytest.mark.parametrize(
    "product",
    [
        lambda x: ops.matmul(x, x),
        lambda x: ops.einsum("bij,bkj->bik", x, x),
        layers.Dot(axes=1, name="dot"),
        layers.Attention(name="attention"),
        Linear(name="linear"),
    ],
)
def test_products_that_are_not_counted_are_named(product):
    image = keras.Input((4, 4))
    x = layers.Conv1D(4, 1, name="conv")(image)
    x = product([x, x]) if isinstance(product, layers.Dot | layers.Attention) else product(x)
    with pytest.raises(ValueError, match="Cannot count the multiply-accumulates"):
        wrpn_tf.measure_cost(keras.Model(image, x))


def test_pixels_as_integers_have_one_range_and_no_fractions():
    image = keras.Input((8, 8, 4), dtype="uint8", name="image")
    model = keras.Model(image, layers.Conv2D(2, 3)(layers.Rescaling(1 / 255)(image)))
    with pytest.raises(ValueError, match=r"input_range must be \(0, 255\) or None; got \(0, 1\)"):
        wrpn_tf.quantize_model(model, 4, 4, input_range=(0, 1))
    quantized = wrpn_tf.quantize_model(model, 4, 4, input_range=(0, 255))
    with pytest.raises(ValueError, match=r"'image' takes integers, .* cut the fractions"):
        wrpn_tf.calibrate(quantized, np.full((2, 8, 8, 4), 0.5, np.float32))
    wrpn_tf.calibrate(quantized, np.full((2, 8, 8, 4), 7.0, np.float32))


def test_a_rescaled_image_of_applications_keeps_its_pixels():
    """Batch dimensions and dtypes as `keras.applications` has them."""
    image = keras.Input((8, 8, 4), dtype="uint8", name="image")
    x = layers.Conv2D(4, 3, activation="relu6", name="conv")(ops.cast(image, "float32") / 255.0)
    quantized = wrpn_tf.quantize_model(keras.Model(image, x), 4, 4, input_range=(0, 255))
    pixels = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 4)).astype(np.uint8)
    wrpn_tf.calibrate(quantized, pixels)
    verified = export.verify(quantized, export.to_tflite(quantized), pixels)
    assert not verified.failures
