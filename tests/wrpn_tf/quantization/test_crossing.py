"""Models that cross between the Kerases: the same function, the same file."""

import keras
import numpy as np
import pytest
import small_models
import tf_keras
from both_keras import twins, values

import export
import wrpn_tf

CASES = {
    "integer": {},
    "pixels": {"input_range": (-1.0, 1.0)},
    "pact and dorefa": {"weight_method": "dorefa", "activation_method": "pact"},
    "one bit": {"weight_bits": 1, "per_channel": False},
    "paper": {"method": "paper", "first_last": "paper"},
}


def crossed(model):
    """The model in the other Keras."""
    is_old = isinstance(model, tf_keras.Model)
    other = wrpn_tf.from_tf_keras(model) if is_old else wrpn_tf.to_tf_keras(model)
    assert isinstance(other, keras.Model if is_old else tf_keras.Model)
    assert other.output_names == model.output_names
    return other


def assert_same_function(one, other, inputs):
    for first, second in zip(values(one(inputs)), values(other(inputs)), strict=True):
        np.testing.assert_allclose(first, second, atol=2e-5)


@pytest.mark.parametrize("name", ["tiny", "convnet", "everything"])
def test_float_models_cross_both_ways(name):
    for model in twins(name):
        inputs = small_models.images(twins(name)[1], 2)
        assert_same_function(crossed(model), model, inputs)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_quantized_models_cross_with_their_scales(options):
    options = {"weight_bits": 2, "activation_bits": 4} | options
    images = small_models.images(twins("convnet")[1], 8)
    for model in twins("convnet"):
        quantized = wrpn_tf.quantize_model(model, **options)
        wrpn_tf.calibrate(quantized, images)
        other = crossed(quantized)
        assert_same_function(other, quantized, images)
        if options.get("first_last") != "paper":
            assert export.to_tflite(other) == export.to_tflite(quantized)
        other.compile("sgd", "mse")
        other.fit(images, np.zeros((8, 3)), verbose=0)


def test_every_layer_crosses_quantized():
    for model in twins("everything"):
        inputs = small_models.images(twins("everything")[1], 4)
        quantized = wrpn_tf.quantize_model(model, 4, 4)
        wrpn_tf.calibrate(quantized, inputs)
        assert export.to_tflite(crossed(quantized)) == export.to_tflite(quantized)


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_statistics_over_several_axes_cross(library):
    values = np.random.default_rng(0).normal(5, 3, (8, 6, 4)).astype(np.float32)
    layer = library.layers.Normalization(axis=(1, 2))
    layer.adapt(values)
    source = library.Input((6, 4))
    model = library.Model(source, layer(source))
    for copy in (wrpn_tf.to_tf_keras(model), wrpn_tf.from_tf_keras(model)):
        assert_same_function(copy, model, values)


def test_augmentation_crosses_as_what_training_alone_does():
    image = keras.Input((4, 4, 2))
    layer = keras.layers.RandomTranslation(0.5, 0.5)
    augment = keras.Sequential([layer, keras.layers.RandomFlip()])
    model = keras.Model(image, augment(image))
    images = np.random.default_rng(0).normal(size=(8, 4, 4, 2)).astype(np.float32)
    np.testing.assert_array_equal(crossed(model).predict(images, verbose=0), images)


def test_what_does_not_cross_is_named():
    image = keras.Input((4, 4, 2))
    model = keras.Model(image, keras.layers.Activation("hard_sigmoid", name="gate")(image))
    with pytest.raises(ValueError, match="'gate': its activation 'hard_sigmoid' differs"):
        wrpn_tf.to_tf_keras(model)
    model = keras.Model(image, keras.ops.roll(image, 1, axis=1))
    with pytest.raises(ValueError, match=r"Roll.*tf_keras has no such layer"):
        wrpn_tf.to_tf_keras(model)
