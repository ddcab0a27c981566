"""Calibration: what it sets, what it leaves alone, and that it cleans up behind itself."""

import numpy as np
import pytest
import tf_keras as keras
from equality import assert_same
from small_models import everything, images, tiny
from tf_keras import layers

import wrpn_tf
from wrpn_tf.tfmot.inspection import output_quantizers


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
    wrpn_tf.calibrate(model, [100 * images(model, 16)])
    assert grids(model)["quantize_image"] == before
    assert (before.scale, before.zero_point) == (1 / 128, 0)


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
