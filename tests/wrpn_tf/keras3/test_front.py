"""Keras 3 models against tf_keras models of the same network, weights and data."""

import keras
import numpy as np
import pytest
import small_models
import tensorflow as tf
import tf_keras
from both_keras import twins, values
from equality import assert_same

import export
import wrpn_tf
from benchmarks import training_memory

IMAGES = np.random.default_rng(1).uniform(-1, 1, (8, 6, 6, 2)).astype(np.float32)
METHODS = {
    "learned": {},
    "calibrated": {"method": "calibrated"},
    "paper": {"method": "paper", "first_last": "paper"},
    "one bit, per layer": {"weight_bits": 1, "per_channel": False},
    "dorefa and pact": {"weight_method": "dorefa", "activation_method": "pact"},
    "dynamic": {"weight_method": "dynamic"},
    "xnor": {"weight_bits": 1, "weight_method": "xnor"},
    "pixels": {"input_range": (-1.0, 1.0)},
    "weights only": {"activation_bits": 32, "first_last": "paper"},
}


def quantized(name="tiny", **options):
    """Both models, quantized, with the ranges and scales of the first."""
    options = {"weight_bits": 2, "activation_bits": 4} | options
    models = [wrpn_tf.quantize_model(model, **options) for model in twins(name)]
    if wrpn_tf.named_output_quantizers(models[0]):
        for model in models:
            wrpn_tf.calibrate(model, IMAGES)
        share_scales(*models)
    return models


def share_scales(new, old):
    """Gives the second model the output scales of the first: sums round by the library."""
    others = wrpn_tf.named_output_quantizers(old)
    for name, (_, variables) in wrpn_tf.named_output_quantizers(new).items():
        _, found = others[name] if name in others else others[f"quant_{name}"]
        for key, variable in variables.items():
            np.testing.assert_allclose(found[key].numpy(), variable.numpy(), rtol=1e-4)
            found[key].assign(variable.numpy())


def targets(model, seed=2):
    random = np.random.default_rng(seed)
    return random.normal(size=(len(IMAGES), *model.outputs[0].shape[1:])).astype(np.float32)


def by_name(variables):
    """Values by layer and name, whichever Keras named them."""
    found = {}
    for variable in variables:
        path = getattr(variable, "path", variable.name).removesuffix(":0").split("/")
        layer, name = path[0].removeprefix("quant_"), path[-1]
        name = name.removeprefix("depthwise_")
        found[layer, name] = variable
    assert len(found) == len(variables)
    return found


def test_the_backward_pass_keeps_as_much():
    """A ReLU before its quantizer is computed in neither, and its output kept in neither."""
    new, old = quantized()
    assert training_memory.stored_bytes(new) == training_memory.stored_bytes(old)


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_forward_codes_are_equal(options):
    new, old = quantized(**options)
    views = [
        {view.name.removeprefix("quant_"): view for view in wrpn_tf.view(model)}
        for model in (new, old)
    ]
    assert views[0].keys() == views[1].keys()
    for name, view in views[0].items():
        other = views[1][name]
        assert (view.kind, view.grid, view.inputs and len(view.inputs)) == (
            *(other.kind, other.grid),
            other.inputs and len(other.inputs),
        )
        assert (view.kernel is None) == (other.kernel is None)
        if view.kernel is not None:
            assert_same(view.kernel.codes, other.kernel.codes)
            assert_same(view.kernel.scale, other.kernel.scale)
    grid = list(views[0].values())[-1].grid
    step = 1e-6 if grid is None else grid.scale / 100
    assert np.abs(np.asarray(new(IMAGES)) - np.asarray(old(IMAGES))).max() < step


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_gradients_are_equal_to_float_rounding(options):
    gradients = []
    for model in quantized(**options):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(IMAGES, training=True) - targets(model)) ** 2)
        variables = by_name(model.trainable_variables)
        raw = [
            getattr(v, "value", v) if isinstance(v, keras.Variable) else v
            for v in variables.values()
        ]
        found = tape.gradient(loss, raw)
        gradients.append(dict(zip(variables, found, strict=True)))
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        np.testing.assert_allclose(gradient, gradients[1][name], rtol=1e-3, atol=2e-5)


def test_five_steps_lose_the_same():
    losses = []
    for model, library in zip(quantized(), (keras, tf_keras), strict=True):
        model.compile(library.optimizers.SGD(0.02), "mse")
        losses.append([float(model.train_on_batch(IMAGES, targets(model))) for _ in range(5)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert losses[0][-1] < losses[0][0]


def test_jit_compiled_training_loses_the_same():
    losses = []
    for jit_compile in (False, True):
        model, _ = quantized()
        model.compile(keras.optimizers.SGD(0.02), "mse", jit_compile=jit_compile)
        losses.append([float(model.train_on_batch(IMAGES, targets(model))) for _ in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


@pytest.mark.parametrize("name", ["tiny", "everything"])
def test_exported_integers_are_equal(name):
    models = [wrpn_tf.quantize_model(model, 4, 4) for model in twins(name)]
    inputs = small_models.images(models[1], 8)
    for model in models:
        for layer in model.layers:  # Both Kerases drop other values.
            if "dropout" in layer.name:
                layer.rate = 0.0
        wrpn_tf.calibrate(model, inputs)
    share_scales(*models)
    graphs = [export.realize(export.lower(model)) for model in models]
    assert graphs[0].inputs == graphs[1].inputs and graphs[0].outputs == graphs[1].outputs
    assert export.to_tflite(models[0]) == export.to_tflite(models[1])
    assert export.verify(models[0], export.to_tflite(models[0]), inputs).different == 0


def test_settled_and_proven():
    models = quantized("convnet")
    for model in models:
        export.settle(model)
    assert export.to_tflite(models[0]) == export.to_tflite(models[1])
    model = models[0]
    assert not export.prove(model).failures(("xnnpack", "optimized_arm"))  # The defaults.
    found = export.verify(model, export.to_tflite(model), IMAGES)
    assert not found.failures and found.different == 0
    assert all(row.difference.different == 0 for row in found.layers)


def test_whole_network_reads_and_computes():
    new, old = twins("everything")
    inputs = small_models.images(old, 2)
    for one, other in zip(values(new(inputs)), values(old(inputs)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
