"""Models that cross between the Kerases: the same function, the same file."""

import warnings

import keras
import numpy as np
import pytest
import small_models
import tf_keras
from both_keras import KERAS, twins, values

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
        for copy in (quantized, other):
            ranges = [state.fixed for state in wrpn_tf.input_quantizers(copy).values()]
            is_integer = options.get("first_last") != "paper"
            assert ranges == ([options.get("input_range")] if is_integer else [])
        if options.get("first_last") != "paper":
            assert export.to_tflite(other) == export.to_tflite(quantized)
        other.compile("sgd", "mse")
        other.fit(images, np.zeros((8, 3)), verbose=0)


@pytest.mark.parametrize("front", [keras, tf_keras])
def test_a_layer_that_is_used_twice(front):
    layers, image = front.layers, front.Input((4, 4, 2), name="image")
    conv = layers.Conv2D(2, 1, activation="relu", name="conv")
    model = front.Model(image, layers.Flatten(name="flat")(conv(conv(image))), name="twice")
    images = np.random.default_rng(0).uniform(0, 1, (2, 4, 4, 2)).astype(np.float32)
    assert_same_function(crossed(model), model, images)
    quantized = wrpn_tf.quantize_model(model, 4, 4)
    assert_same_function(wrpn_tf.to_float(quantized), model, images)
    message = r"model 'twice': it is quantized, and uses layers several times \(conv\); convert the"
    with pytest.raises(ValueError, match=message):
        crossed(quantized)


@pytest.mark.parametrize("front", [keras, tf_keras])
def test_names_may_begin_as_those_of_tf_mot(front):
    layers, image = front.layers, front.Input((4, 4, 2), name="image")
    x = layers.Conv2D(2, 3, padding="same", activation="relu", name="quant_a")(image)
    x = layers.Conv2D(2, 3, activation="relu", name="a")(x)
    y = layers.UpSampling2D(interpolation="bilinear", name="quant_up")(x)
    y = layers.Flatten(name="quant_flat")(y)
    deep = wrpn_tf.quantize_model(front.Model(image, y), 4, 4, input_range=(-1, 1))
    model = wrpn_tf.quantize_model(front.Model(image, x), 4, 4, input_range=(-1, 1))
    images = np.random.default_rng(0).uniform(-1, 1, (4, 4, 4, 2)).astype(np.float32)
    wrpn_tf.calibrate(model, images)
    assert_same_function(crossed(model), model, images)
    wrpn_tf.calibrate(deep, images)
    tensors = ["image", "quant_a_relu", "a_relu", "quant_up", "quant_flat"]
    assert [list(export.lower(each).tensors) for each in (deep, crossed(deep))] == [tensors] * 2
    activations = [
        decision.layers
        for decision in wrpn_tf.choose_bits(front.Model(image, x), images, {"cost": 0.2}).decisions
        if decision.part == "activations"
    ]
    assert activations == [("quant_a",), ("a",)]


def test_every_layer_crosses_quantized():
    for model in twins("everything"):
        inputs = small_models.images(twins("everything")[1], 4)
        quantized = wrpn_tf.quantize_model(model, 4, 4)
        wrpn_tf.calibrate(quantized, inputs)
        assert export.to_tflite(crossed(quantized)) == export.to_tflite(quantized)


@pytest.mark.parametrize("package", KERAS.values(), ids=KERAS)
def test_penalties_cross_and_stay(package):
    layers, image = package.layers, package.Input((4, 4, 2))
    x = layers.Conv2D(2, 3, activation="relu", activity_regularizer="l2")(image)
    model = package.Model(image, layers.ActivityRegularization(0.1)(x))
    quantized = wrpn_tf.quantize_model(model, 8, 8)
    images = np.random.default_rng(0).normal(size=(4, 4, 4, 2)).astype(np.float32)
    wrpn_tf.calibrate(quantized, images)
    floats = wrpn_tf.to_float(quantized)
    found = []
    for copy in (model, floats, crossed(floats), crossed(quantized)):
        copy(images)
        found.append(sorted(float(loss) for loss in copy.losses))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    assert [len(losses) for losses in found] == [2, 2, 2, 2]


@pytest.mark.parametrize("package", KERAS.values(), ids=KERAS)
def test_float_networks_are_of_keras_own_class(package):
    image = package.Input((4, 4, 2))
    x = package.layers.Conv2D(2, 3, activation="relu")(image)
    heads = {name: package.layers.Conv2D(2, 1, name=name)(x) for name in ("b", "a")}
    model = package.Model(image, heads)
    quantized = wrpn_tf.quantize_model(model, 8, 8)
    for copy in (wrpn_tf.to_float(quantized), crossed(model)):
        assert not type(copy).__module__.startswith("wrpn_tf")
    assert wrpn_tf.to_float(quantized).output_names == model.output_names


def test_a_model_of_the_same_keras_is_copied():
    image = keras.Input((6, 4))
    x = keras.layers.LSTM(3, recurrent_activation="hard_sigmoid", return_sequences=True)(image)
    x = keras.layers.TimeDistributed(keras.layers.Dense(3, activation="hard_sigmoid"))(x)
    model = keras.Model(image, keras.layers.Rescaling(2.0, dtype="float64")(x))
    copy = wrpn_tf.from_tf_keras(model)
    images = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    assert_same_function(copy, model, images)
    assert copy.layers[-1].dtype_policy.name == "float64"


@pytest.mark.parametrize(
    ("shape", "layer", "message"),
    [
        (
            (6, 4),
            lambda k: k.LSTM(2, recurrent_activation="hard_sigmoid", name="x"),
            "hard_sigmoid",
        ),
        ((6, 4), lambda k: k.TimeDistributed(k.Dense(2), name="x"), "its layer is an object"),
        ((6, 4), lambda k: k.Bidirectional(k.LSTM(2), name="x"), "its layer is an object"),
        ((6, 4), lambda k: k.Lambda(lambda t: 2 * t, name="x"), "its function is an object"),
        ((6, 4), lambda k: k.Dense(2, dtype="float64", name="x"), "its policy 'float64'"),
        ((4, 4, 2), lambda k: k.Resizing(2, 2, antialias=True, name="x"), "its antialias is True"),
        ((4, 4, 2), lambda k: k.RandomContrast(0.1, (-1, 1), name="x"), "its value_range is .*-1"),
        ((4,), lambda k: k.Dense(2, activation="celu", name="x"), "no function 'celu'"),
        ((4,), lambda k: k.LayerNormalization(rms_scaling=True, name="x"), "its rms_scaling is Tr"),
    ],
)
def test_arguments_that_the_other_keras_lacks_are_named(shape, layer, message):
    image = keras.Input(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of what Keras discourages.
        model = keras.Model(image, layer(keras.layers)(image))
    with pytest.raises(ValueError, match=rf"^Cannot convert layer 'x'.*{message}.*\.$"):
        wrpn_tf.to_tf_keras(model)


def test_arguments_that_a_class_does_not_save_cross_or_are_named():
    image = tf_keras.Input((4, 3))
    layers = tf_keras.layers
    x = layers.AlphaDropout(0.5, noise_shape=(None, 1, 3))(image)
    x = layers.BatchNormalization(synchronized=True)(x)
    dropout, norm = wrpn_tf.from_tf_keras(tf_keras.Model(image, x)).layers[1:]
    assert tuple(dropout.noise_shape) == (None, 1, 3) and norm.synchronized
    words = tf_keras.Input((4,), dtype="int32")
    model = tf_keras.Model(words, layers.Embedding(5, 2, sparse=True, name="x")(words))
    with pytest.raises(ValueError, match=r"'x' \(Embedding\): its sparse is True, and the other"):
        wrpn_tf.from_tf_keras(model)


def test_code_of_tf_keras_is_named():
    image = tf_keras.Input((4,))
    model = tf_keras.Model(image, tf_keras.layers.Lambda(lambda t: 2 * t, name="x")(image))
    with pytest.raises(ValueError, match=r"'x' \(Lambda\): its function is an object"):
        wrpn_tf.from_tf_keras(model)


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


@pytest.mark.parametrize("library", [keras, tf_keras])
@pytest.mark.parametrize("name", ["SpatialDropout1D", "SpatialDropout2D"])
def test_dropout_of_channels_crosses(library, name):
    source = library.Input((4,) * int(name[-2]) + (2,))
    dropout = getattr(library.layers, name)(0.25, name="drop")
    dropout.trainable = False
    other = crossed(library.Model(source, dropout(source))).get_layer("drop")
    assert (type(other).__name__, other.rate, other.trainable) == (name, 0.25, False)


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_methods_of_a_subclass_are_named(library):
    image = library.Input((4, 4, 2))
    x = library.layers.Conv2D(2, 3, name="head")(image)
    own = type("Own", (library.Model,), {"train_step": lambda self, data: {}})
    with pytest.raises(ValueError, match=r"Cannot convert model .* has its own train_step"):
        crossed(own(image, x))
    quantized = wrpn_tf.quantize_model(library.Model(image, x))
    with pytest.raises(ValueError, match=r"Cannot convert model .* has its own train_step"):
        wrpn_tf.to_float(own(quantized.inputs, quantized.outputs))
    wrpn_tf.pack_activations(quantized)
    assert "call" not in vars(crossed(quantized))
    wrpn_tf.to_float(quantized)


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_the_policy_of_the_other_keras_is_named(library):
    other = tf_keras if library is keras else keras
    image = library.Input((4,))
    model = library.Model(image, library.layers.Dense(2)(image))
    other.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        with pytest.raises(ValueError, match=f"policy of {other.__name__} is 'mixed_bfloat16'"):
            crossed(model)
    finally:
        other.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_a_layer_with_a_mask_is_named(library):
    words = library.Input((6,), dtype="int32")
    x = library.layers.Embedding(10, 4)(words)
    x = library.layers.LSTM(3, name="steps")(x, mask=words > 0)
    with pytest.raises(ValueError, match="'steps' cannot be copied: call argument 'mask'"):
        crossed(library.Model(words, x))


def test_what_does_not_cross_is_named():
    image = keras.Input((4, 4, 2))
    model = keras.Model(image, keras.layers.Activation("hard_sigmoid", name="gate")(image))
    with pytest.raises(ValueError, match="'gate': its activation 'hard_sigmoid' differs"):
        wrpn_tf.to_tf_keras(model)
    model = keras.Model(image, keras.ops.roll(image, 1, axis=1))
    with pytest.raises(ValueError, match=r"Roll.*tf_keras has no such layer"):
        wrpn_tf.to_tf_keras(model)
