"""Saving and loading: the same outputs, and the same training afterwards."""

import numpy as np
import pytest
from equality import assert_same
from small_models import everything, images, tiny, train_step

import wrpn_tf

MODELS = [
    pytest.param({"weight_bits": 2, "activation_bits": 4}, id="learned"),
    pytest.param({"weight_bits": 1, "activation_bits": 1}, id="binary"),
    pytest.param({"weight_bits": 3, "activation_bits": 4, "method": "paper"}, id="paper"),
    pytest.param({"weight_bits": 4, "activation_bits": 4, "first_last": "paper"}, id="edges"),
    pytest.param(
        {"weight_bits": 2, "weight_method": "dorefa", "activation_method": "pact"}, id="related"
    ),
]


def trained(**options):
    model = wrpn_tf.quantize_model(tiny(), **options)
    wrpn_tf.calibrate(model, [images(model)])
    train_step(model, images(model))
    return model


def assert_same_model(loaded, model):
    inputs = images(model, seed=3)
    assert_same(loaded(inputs), model(inputs))
    names, expected = (
        [variable.name.split("/")[-1] for variable in m.trainable_variables]
        for m in (loaded, model)
    )
    assert names == expected
    assert train_step(loaded, inputs) == train_step(model, inputs)
    for new, old in zip(loaded.weights, model.weights, strict=True):
        assert_same(new, old)
    assert_same(loaded(inputs), model(inputs))


@pytest.mark.parametrize("options", MODELS)
@pytest.mark.parametrize("name", ["model.h5", "model"])
def test_a_loaded_model_computes_and_trains_alike(options, name, tmp_path):
    model = trained(**options)
    model.save(tmp_path / name)
    loaded = wrpn_tf.load_model(tmp_path / name)
    assert_same_model(loaded, model)


@pytest.mark.parametrize("name", ["model.h5", "model"])
def test_a_loaded_model_can_be_saved_again(name, tmp_path):
    model = loaded = trained(weight_bits=2, activation_bits=4)
    for generation in ("first", "second"):
        loaded.save(tmp_path / f"{generation}_{name}")
        loaded = wrpn_tf.load_model(tmp_path / f"{generation}_{name}")
    assert_same_model(loaded, model)


def test_weights_fit_a_model_quantized_alike(tmp_path):
    options = {"weight_bits": 2, "activation_bits": 4}
    model = trained(**options)
    model.save_weights(tmp_path / "weights.h5")
    fresh = wrpn_tf.quantize_model(tiny(), **options)
    fresh.load_weights(tmp_path / "weights.h5")
    assert_same_model(fresh, model)


def test_every_layer_is_saved(tmp_path):
    model = wrpn_tf.quantize_model(everything(), 2, 4)
    wrpn_tf.calibrate(model, [images(model)])
    model.save(tmp_path / "model.h5")
    loaded = wrpn_tf.load_model(tmp_path / "model.h5")
    for new, old in zip(loaded(images(model)), model(images(model)), strict=True):
        assert_same(new, old)


def test_what_was_saved_is_visible_again(tmp_path):
    model = trained(weight_bits=2, activation_bits=4, input_range=(-1.0, 1.0))
    model.save(tmp_path / "model.h5")
    loaded = wrpn_tf.view(wrpn_tf.load_model(tmp_path / "model.h5"))
    for new, old in zip(loaded, wrpn_tf.view(model), strict=True):
        assert (new.name, new.kind, new.inputs, new.grid) == (
            old.name,
            old.kind,
            old.inputs,
            old.grid,
        )
        if old.kernel:
            assert_same(new.kernel.codes, old.kernel.codes)
            assert_same(new.kernel.scale, old.kernel.scale)


def test_a_loaded_model_can_be_compiled_on_request(tmp_path):
    model = trained(weight_bits=2, activation_bits=4)
    model.save(tmp_path / "model.h5")
    assert wrpn_tf.load_model(tmp_path / "model.h5", compile=True).optimizer is not None


def test_float_models_load_too(tmp_path):
    model = tiny()
    model.save(tmp_path / "model.h5")
    assert_same(wrpn_tf.load_model(tmp_path / "model.h5")(images(model)), model(images(model)))


def test_no_such_model(tmp_path):
    with pytest.raises(ValueError, match=r"No model at .*absent\.h5"):
        wrpn_tf.load_model(tmp_path / "absent.h5")


@pytest.mark.parametrize("name", ["garbage.h5", "garbage", "garbage.keras"])
def test_a_file_that_is_no_model(name, tmp_path):
    (tmp_path / name).write_bytes(np.arange(100, dtype=np.uint8).tobytes())
    with pytest.raises(ValueError, match=name):
        wrpn_tf.load_model(tmp_path / name)


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(ValueError, match=tmp_path.name):
        wrpn_tf.load_model(tmp_path)


def test_a_file_with_weights_only(tmp_path):
    tiny().save_weights(tmp_path / "weights.h5")
    with pytest.raises(ValueError, match=r"Cannot load a model from .*weights\.h5"):
        wrpn_tf.load_model(tmp_path / "weights.h5")
