"""Calibration: what it sets, what it leaves alone, and that it cleans up behind itself."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from equality import assert_same
from small_models import everything, images, tiny
from tf_keras import layers

import wrpn_tf
from wrpn_tf.quantization.inspection import output_quantizers


def quantized(**options):
    return wrpn_tf.quantize_model(tiny(), 2, 4, **options)


def grids(model):
    return {layer.name: layer.grid for layer in wrpn_tf.view(model) if layer.observes}


def weights_except(model, words):
    return [w.numpy() for w in model.weights if not any(word in w.name for word in words)]


def test_every_scale_and_range_is_set():
    model = quantized()
    before = grids(model)
    assert before["quantize_image"] is None
    wrpn_tf.calibrate(model, [images(model, 16)])
    after = grids(model)
    assert all(grid is not None for grid in after.values())
    assert all(after[name].scale != grid.scale for name, grid in before.items() if grid)


def test_nothing_else_changes():
    model = quantized()
    words = ("output_scale", "output_minimum", "output_maximum")
    before = weights_except(model, words)
    wrpn_tf.calibrate(model, [images(model, 16)] * 2)
    for old, new in zip(before, weights_except(model, words), strict=True):
        assert_same(new, old)


def test_ranges_cover_the_data_and_scales_fit_it():
    inputs = keras.Input((2, 2, 3), name="image")
    outputs = layers.ReLU(name="relu")(inputs)
    model = wrpn_tf.quantize_model(keras.Model(inputs, outputs), 2, 4)
    batches = [np.full((2, 2, 2, 3), -0.5, np.float32), np.full((2, 2, 2, 3), 2.0, np.float32)]
    wrpn_tf.calibrate(model, batches)
    found = grids(model)
    assert found["quantize_image"].scale == np.float32(2.5 / 255)
    assert found["quant_relu"].scale == pytest.approx(2.0 / 15)


def test_zeros_are_data_and_later_batches_move_what_they_say():
    inputs = keras.Input((2, 2, 1), name="image")
    model = wrpn_tf.quantize_model(keras.Model(inputs, layers.ReLU(name="relu")(inputs)), 2, 4)
    zeros = np.zeros((4, 2, 2, 1), np.float32)
    for see in (lambda: wrpn_tf.calibrate(model, zeros), lambda: model(zeros, training=True)):
        for _ in range(3):  # More of them change nothing.
            see()
            grid = grids(model)["quantize_image"]
            assert (grid.scale, grid.zero_point) == (np.float32(1 / 255), -128)
        model(zeros + 11, training=True)
        grid = grids(model)["quantize_image"]
        assert grid.scale == pytest.approx((0.99 + 0.11) / 255, rel=1e-6)
        model.get_layer("quantize_image").quantizer_vars["maximum"].assign(0.0)
    assert grids(model)["quantize_image"] is None


def test_layers_are_calibrated_as_if_nothing_before_them_were_quantized():
    """The scale of a coarse activation must not show in what is measured behind it."""
    model = quantized()
    batch = images(model, 16)
    wrpn_tf.calibrate(model, [batch])
    first = grids(model)
    wrpn_tf.calibrate(model, [batch])
    for name, grid in grids(model).items():
        assert grid == first[name], name


def test_logits_are_measured_behind_unquantized_pooling():
    inputs = keras.Input((4, 4, 1), name="image")
    x = layers.ReLU(name="relu")(inputs)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(1, kernel_initializer="ones", name="logits")(x)
    model = wrpn_tf.quantize_model(keras.Model(inputs, x), 8, 1)
    wrpn_tf.calibrate(model, [np.full((1, 4, 4, 1), 0.3, np.float32)])
    assert grids(model)["quant_logits"].scale == pytest.approx(0.3 / 255, rel=1e-3)


def test_a_fixed_input_range_stays():
    model = quantized(input_range=(-1.0, 0.9921875))
    before = grids(model)["quantize_image"]
    wider = np.random.default_rng(0).uniform(-1.9, 1.9, images(model, 16).shape)
    wrpn_tf.calibrate(model, [wider.astype(np.float32)])
    assert grids(model)["quantize_image"] == before
    assert (before.scale, before.zero_point) == (1 / 128, 0)


@pytest.mark.parametrize(
    ("input_range", "bounds", "told"),
    [
        ((0, 1), (0, 255), "0 to 1"),
        ((0, 1), (0.1, 1.51), "0 to 1"),
        ((-1, 1), (-2.1, 1), "-1 to 1"),
        ((0, 255), (0, 1), "0 to 255"),
    ],
)
def test_data_of_another_range_than_the_inputs_are_named(input_range, bounds, told):
    model = quantized(input_range=input_range)
    before = grids(model)
    pixels = np.random.default_rng(0).uniform(*bounds, images(model, 8).shape)
    pixels.flat[:2] = bounds
    with pytest.raises(ValueError, match=rf"input 'image' .* its input_range is {told}, outside"):
        wrpn_tf.calibrate(model, [pixels.astype(np.float32)])
    assert grids(model) == before


def test_the_papers_scales_stay():
    model = quantized(method="paper")
    wrpn_tf.calibrate(model, [images(model, 16)])
    found = grids(model)
    assert found["quant_relu1"].scale == np.float32(1 / 15)
    assert found["quant_logits"] is not None


def test_training_continues_from_the_calibrated_range():
    model = quantized()
    wrpn_tf.calibrate(model, [images(model, 16)])
    before = grids(model)["quantize_image"]
    model(2 * images(model, 16), training=True)
    after = grids(model)["quantize_image"]
    assert after.scale == pytest.approx(1.01 * before.scale, rel=1e-3)


def test_several_inputs():
    model = wrpn_tf.quantize_model(everything(), 2, 4)
    wrpn_tf.calibrate(model, [images(model, 4)])
    assert all(grid is not None for grid in grids(model).values())


def test_a_batch_that_raises_leaves_the_model_as_it_was():
    model = quantized()
    before = model.get_weights()
    wrong = np.zeros((2, 6, 6, 7), np.float32)
    with pytest.raises(ValueError):
        wrpn_tf.calibrate(model, [images(model), wrong])
    assert all(quantizer.observer is None for quantizer, _ in output_quantizers(model))
    for old, new in zip(before, model.get_weights(), strict=True):
        assert_same(new, old)


def test_no_batches():
    with pytest.raises(ValueError, match="at least one batch"):
        wrpn_tf.calibrate(quantized(), [])


def test_a_float_model_is_named():
    with pytest.raises(ValueError, match="'tiny' has no quantized outputs"):
        wrpn_tf.calibrate(tiny(), [images(tiny())])


# Data as `fit` takes them.


def two_inputs(as_dict=False):
    left, right = (keras.Input((4, 4, 2), name=name) for name in ("left", "right"))
    x = layers.Add()([layers.Conv2D(2, 1, name="conv")(left), right])
    nested = {"b": left, "a": right} if as_dict else [left, right]
    return wrpn_tf.quantize_model(keras.Model(nested, layers.Dense(2)(layers.Flatten()(x))), 4, 4)


class Batches(keras.utils.Sequence):
    def __init__(self, x, y=None):
        self.x, self.y = x, y

    def __len__(self):
        return 4

    def __getitem__(self, index):
        x = self.x[4 * index : 4 * index + 4]
        return x if self.y is None else (x, self.y[4 * index : 4 * index + 4])


def forms(x, y):
    """Four batches of 4 images, in every form."""
    dataset = tf.data.Dataset.from_tensor_slices
    parts = [x[i : i + 4] for i in range(0, 16, 4)]
    return {
        "array": x,
        "tensor": tf.constant(x),
        "list of arrays": parts,
        "list of x and y": [[part, y[:4]] for part in parts],
        "dictionary": {"image": x},
        "dataset of x": dataset(x).batch(4),
        "dataset of (x, y)": dataset((x, y)).batch(4),
        "dataset of (x, y, weights)": dataset((x, y, np.ones(16))).batch(4),
        "dataset of {x}, y": dataset(({"image": x}, y)).batch(4),
        "generator of x": (part for part in parts),
        "generator of (x, y)": ((part, y[:4]) for part in parts),
        "Sequence": Batches(x),
        "Sequence of (x, y)": Batches(x, y),
        "endless dataset": (dataset(x).batch(4).repeat(), 4),
        "endless generator": ((parts[i % 4] for i in itertools.count()), 4),
    }


def test_data_come_as_fit_takes_them():
    model = wrpn_tf.quantize_model(tiny(), 2, 4)
    x, y = images(model, 16), np.zeros((16, 2))
    start = model.get_weights()
    wrpn_tf.calibrate(model, [x[i : i + 4] for i in range(0, 16, 4)])
    expected = model.get_weights()
    for name, data in forms(x, y).items():
        model.set_weights(start)
        given, steps = data if isinstance(data, tuple) else (data, None)
        wrpn_tf.calibrate(model, given, steps, batch_size=4)
        for old, new in zip(expected, model.get_weights(), strict=True):
            np.testing.assert_array_equal(new, old, err_msg=name)


def test_steps_and_batch_size_say_what_is_taken():
    model = wrpn_tf.quantize_model(tiny(), 2, 4)
    x = images(model, 40)
    found = []
    for data, steps, size in (
        (x[:8], None, 4),
        (x, 2, 4),
        (tf.data.Dataset.from_tensor_slices(x).batch(4), 2, 1),
        (x[:32], None, 32),
        (x, 1, 32),
    ):
        wrpn_tf.calibrate(model, data, steps=steps, batch_size=size)
        found.append(grids(model))
    assert found[0] == found[1] == found[2] != found[3] == found[4]


@pytest.mark.parametrize("as_dict", [False, True])
def test_several_inputs_come_as_fit_takes_them(as_dict):
    model = two_inputs(as_dict)
    left, right = np.random.default_rng(0).normal(size=(2, 8, 4, 4, 2)).astype(np.float32)
    left *= 3
    x = {"b": left, "a": right} if as_dict else [left, right]
    batches = {
        name: tf.data.Dataset.from_tensor_slices(part)
        for name, part in (("left", left), ("right", right))
    }
    forms = [
        x,
        [x],
        {"left": left, "right": right},
        ((x, 0) for _ in range(1)),
        tf.data.Dataset.zip(batches).batch(8),
    ]
    found = []
    for data in forms:
        wrpn_tf.calibrate(model, data)
        found.append(grids(model))
    assert all(grid == found[0] for grid in found)
    assert found[0]["quantize_left"].scale == pytest.approx(np.ptp(left) / 255, rel=1e-6)


@pytest.mark.parametrize(
    ("data", "steps", "sentence"),
    [
        (np.zeros((6, 6, 2)), None, r"takes \(None, 6, 6, 2\); a batch has .*; batch the data"),
        (np.zeros((1, 6, 7, 2)), None, r"'image' takes .*; a batch has \(1, 6, 7, 2\)\."),
        ([np.zeros((6, 6, 2))], None, "batch the data"),
        (["a"], None, "a batch has str"),
        ("digits", None, "got 'digits'"),
        (None, None, "got None"),
        (7, None, "got int"),
        ({"picture": np.zeros((1, 6, 6, 2))}, None, "Inputs are picture; expected image"),
        ([[np.zeros((1, 6, 6, 2))] * 4], None, "got 4 values, and the model has the inputs image"),
        (np.zeros((1, 6, 6, 2)), 0, "steps is a positive number"),
        (tf.data.Dataset.from_tensors(np.zeros((1, 6, 6, 2))).repeat(), None, "without end"),
    ],
)
def test_data_that_do_not_fit_are_named(data, steps, sentence):
    image = keras.Input((6, 6, 2), name="image")
    model = wrpn_tf.quantize_model(keras.Model(image, layers.Conv2D(2, 1)(image)), 4, 4)
    with pytest.raises(ValueError, match=sentence):
        wrpn_tf.calibrate(model, data, steps)


def test_images_without_an_axis_of_channels_are_told_so():
    image = keras.Input((6, 6, 1), name="image")
    model = wrpn_tf.quantize_model(keras.Model(image, layers.Conv2D(2, 1)(image)), 4, 4)
    with pytest.raises(ValueError, match=r"add the axis of channels, images\[\.\.\., None\]\."):
        wrpn_tf.calibrate(model, np.zeros((4, 6, 6)))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_data_that_are_no_numbers_are_named_and_change_nothing(wrong):
    model = quantized()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"the outputs of quantize_image, .* NaN or infinite"):
        wrpn_tf.calibrate(model, np.full_like(images(model, 2), wrong))
    for old, new in zip(before, model.get_weights(), strict=True):
        assert_same(new, old)
