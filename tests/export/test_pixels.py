"""Pixels in every usual range: Keras and the file give pixel p the code p - 128."""

import functools

import keras as keras3
import numpy as np
import pytest
import tf_keras as keras
from small_models import randomize

import export
import wrpn_tf
from export.runtime.runner import Runner

PIXELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)  # All of them.
STANDARD = (1 / 127.5, -1.0)


def scaled(scale, offset):
    return keras.layers.Rescaling(scale, offset)


def preprocessed(module):
    return lambda image: getattr(keras.applications, module).preprocess_input(image)


INSIDE = {
    "Rescaling(1/127.5, -1)": (scaled(*STANDARD), -1),
    "Rescaling(-1/127.5, 1)": (scaled(-1 / 127.5, 1.0), -1),
    "Rescaling(2/255, -1)": (scaled(2 / 255, -1.0), -1),
    "Rescaling(1/255)": (scaled(1 / 255, 0.0), -128),
    "Rescaling(1/128, -1)": (scaled(1 / 128, -1.0), 0),
    "Rescaling(1/58.4, -2.1)": (scaled(1 / 58.4, -2.1), -5),
    "(x - 127.5) / 127.5": (lambda image: (image - 127.5) / 127.5, -1),
    "mobilenet_v2": (preprocessed("mobilenet_v2"), -1),
}


def network(preprocess=None, dtype="float32", input_range=(0, 255)):
    image = keras.Input((16, 16, 1), name="image", dtype=dtype)
    x = image if preprocess is None else preprocess(image)
    x = keras.layers.ZeroPadding2D(1, name="pad")(x)
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False, name="conv")(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    randomize(model)
    model = wrpn_tf.quantize_model(model, 4, 4, input_range=input_range)
    return model


@functools.cache
def images():
    random = np.random.default_rng(0).integers(0, 256, (63, 16, 16, 1))
    return np.concatenate([PIXELS, random]).astype(np.uint8)


def settled(model, fed):
    wrpn_tf.calibrate(model, [fed])
    model.compile("sgd", "mse")
    model.fit(fed, np.ones((len(fed), 3)), epochs=2, batch_size=16, verbose=0)
    export.settle(model)
    return export.lower(model)


def codes_of(model, name, fed, tensor):
    """The codes of a layer's output in Keras."""
    values = keras.Model(model.inputs, model.get_layer(name).output).predict(fed, verbose=0)
    return np.rint(values / tensor.quantization.scale).astype(int) + tensor.quantization.zero_point


def check_file(model, graph, fed):
    """Keras on `fed` and the file on the same pixels have equal integers, and all is proven."""
    assert export.prove(export.realize(graph)).failures(("xnnpack", "optimized", "reference")) == []
    codes = (images().astype(np.int16) - 128).astype(np.int8)
    (name,) = graph.outputs
    in_file = Runner(export.to_tflite(model))({"image": codes})[name]
    tensor = graph.tensors[name]
    logits = model.predict(fed, verbose=0)
    in_keras = np.rint(logits / tensor.quantization.scale) + tensor.quantization.zero_point
    np.testing.assert_array_equal(in_file, in_keras.astype(np.int8))


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "float32") for name in INSIDE), (next(iter(INSIDE)), "uint8")]
)
def test_preprocessing_in_the_model(name, dtype):
    preprocess, zero_point = INSIDE[name]
    model = network(preprocess, dtype)
    fed = images().astype(dtype)
    graph = settled(model, fed)
    assert graph.metadata["normalization"] == {"image": {"mean": [0.0], "std": [1.0]}}
    (operator,) = (op for op in graph.operators if op.inputs == ("image",))
    moved = graph.tensors[operator.output]
    assert moved.quantization.zero_point == zero_point
    layer = graph.provenance.layers[operator.output]
    expected = PIXELS.astype(int) - 128
    falls = "-1/127.5" in name
    np.testing.assert_array_equal(
        codes_of(model, layer, fed[:1], moved), -1 - expected if falls else expected
    )
    check_file(model, graph, fed)


@pytest.mark.parametrize("input_range", [(-1, 1), (-1.0, 1.0), (0, 1), (-2.1, 2.6), (-128, 127)])
def test_preprocessing_before_the_model(input_range):
    model = network(input_range=input_range)
    low, high = input_range
    fed = images().astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
    graph = settled(model, fed)
    tensor = graph.tensors["image"]
    np.testing.assert_array_equal(
        codes_of(model, "quantize_image", fed[:1], tensor), PIXELS.astype(int) - 128
    )
    check_file(model, graph, fed)
    # A host that follows the file's metadata computes the same codes.
    normalization = graph.metadata["normalization"]["image"]
    reals = (PIXELS - normalization["mean"][0]) / normalization["std"][0]
    codes = np.rint(reals / tensor.quantization.scale) + tensor.quantization.zero_point
    np.testing.assert_array_equal(codes, PIXELS.astype(int) - 128)


def test_the_standard_preprocessing_by_any_formula():
    """float32 computes p / 127.5 - 1 in several ways, and each is to be code p - 128."""
    model = network(input_range=(-1, 1))
    wrpn_tf.calibrate(model, [images() / np.float32(127.5) - 1])
    x = PIXELS.astype(np.float32)
    tensor = export.lower(model).tensors["image"]
    assert (tensor.quantization.zero_point, tensor.quantization.scale) == (-1, np.float32(2 / 255))
    for fed in (
        x / np.float32(127.5) - 1,
        (x - np.float32(127.5)) / np.float32(127.5),
        x * np.float32(1 / 127.5) - 1,
        x * np.float32(1 / 255) * 2 - 1,
        (x / 255 - np.float32(0.5)) / np.float32(0.5),
        (x / 255 - np.float32(0.5)) * 2,
        keras.applications.mobilenet_v2.preprocess_input(x.copy()),
        (x - 127) / np.float32(127.5),  # What a code stands for.
    ):
        codes = codes_of(model, "quantize_image", fed, tensor)
        np.testing.assert_array_equal(codes, PIXELS.astype(int) - 128)


def test_an_observed_symmetric_range_has_no_pixel_between_two_codes():
    """By TFLite's convention a host rounds ``real / scale + zero point``, as Keras does."""
    model = network(input_range=None)
    fed = images() / np.float32(127.5) - 1
    wrpn_tf.calibrate(model, [fed])
    tensor = export.lower(model).tensors["image"]
    assert tensor.quantization.zero_point == 0
    assert tensor.quantization.scale == np.float32(1 / 127)
    steps = fed[:1].astype(np.float64) / tensor.quantization.scale
    assert np.abs(steps - np.floor(steps) - 0.5).min() > 1e-3
    codes = codes_of(model, "quantize_image", fed[:1], tensor)
    np.testing.assert_array_equal(codes, np.rint(steps).astype(int))


def two_inputs(package):
    """An image, and two numbers that come with it."""
    layers = package.layers
    image = package.Input((4, 4, 1), name="image")
    numbers = package.Input((2,), name="numbers")
    x = layers.Flatten()(layers.Conv2D(3, 3, activation="relu", name="conv")(image))
    y = layers.Dense(3, activation="relu", name="dense")(numbers)
    both = layers.Concatenate()([x, y])
    return package.Model([image, numbers], layers.Dense(3, name="logits")(both))


@pytest.mark.parametrize("package", [keras, keras3])
def test_inputs_with_ranges_of_their_own(package):
    model = two_inputs(package)
    ranges = {"image": (0, 255), "numbers": None}
    random = np.random.default_rng(0)
    fed = {
        "image": random.integers(0, 256, (16, 4, 4, 1)).astype(np.float32),
        "numbers": random.uniform(-2, 6, (16, 2)).astype(np.float32),
    }
    fed["numbers"][:2] = [[-2, 0], [0, 6]]
    quantized = wrpn_tf.quantize_model(model, 4, 4, input_range=ranges)
    states = wrpn_tf.input_quantizers(quantized)
    assert {name: state.fixed for name, state in states.items()} == {
        "image": (0, 255),
        "numbers": None,
    }
    wrpn_tf.calibrate(quantized, fed)
    export.settle(quantized)
    graph = export.lower(quantized)
    scales = {name: graph.tensors[name].quantization.scale for name in graph.inputs}
    assert scales == {"image": 1, "numbers": np.float32(8 / 255)}
    assert export.verify(quantized, export.to_tflite(quantized), fed).verified
    other = wrpn_tf.from_tf_keras if package is keras else wrpn_tf.to_tf_keras
    assert export.to_tflite(other(quantized)) == export.to_tflite(quantized)


@pytest.mark.parametrize("package", [keras, keras3])
def test_ranges_of_inputs_that_there_are_not_are_named(package):
    with pytest.raises(ValueError, match=r"names pixels; the inputs of .* are image, numbers"):
        wrpn_tf.quantize_model(two_inputs(package), input_range={"image": (0, 1), "pixels": (0, 1)})


@pytest.mark.parametrize("package", [keras, keras3])
def test_a_rescaling_behind_one_of_two_inputs_has_the_range_of_its_own_input(package):
    layers = package.layers
    image, other = (package.Input((2, 2, 1), name=name) for name in ("image", "other"))
    x = layers.Rescaling(2.0, -1.0, name="twice")(image)
    y = layers.Rescaling(4.0, -1.0, name="four_times")(other)
    x = layers.Add()(
        [layers.Conv2D(1, 3, padding="same")(x), layers.Conv2D(1, 3, padding="same")(y)]
    )
    model = package.Model([image, other], x)
    quantized = wrpn_tf.quantize_model(model, 4, 4, input_range={"image": (0, 1), "other": (0, 2)})
    grids = {view.name.removeprefix("quant_"): view.grid for view in wrpn_tf.view(quantized)}
    scales = [
        grids[name].scale for name in ("quantize_image", "twice", "quantize_other", "four_times")
    ]
    assert scales == [np.float32(size / 255) for size in (1, 2, 2, 8)]
