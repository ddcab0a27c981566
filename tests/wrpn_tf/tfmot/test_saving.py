"""Saving and loading: the same outputs, and the same training afterwards."""

import copy
import subprocess
import sys

import h5py
import numpy as np
import pytest
import tf_keras as keras
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


NAMES = ["model.keras", "model.h5", "model"]


def trained(**options):
    model = wrpn_tf.quantize_model(tiny(), **options)
    wrpn_tf.calibrate(model, [images(model)])
    train_step(model, images(model))
    return model


def save(model, path):
    """Saves, without the traces of a SavedModel: they take most of the time, and none is read."""
    model.save(path, **({} if path.suffix else {"save_traces": False}))


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
@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_model_computes_and_trains_alike(options, name, tmp_path):
    model = trained(**options)
    save(model, tmp_path / name)
    loaded = wrpn_tf.load_model(tmp_path / name)
    assert_same_model(loaded, model)


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_model_can_be_saved_again(name, tmp_path):
    model = loaded = trained(weight_bits=2, activation_bits=4)
    for generation in ("first", "second"):
        save(loaded, tmp_path / f"{generation}_{name}")
        loaded = wrpn_tf.load_model(tmp_path / f"{generation}_{name}")
    assert_same_model(loaded, model)


@pytest.mark.parametrize("name", ["weights.h5", "model.weights.h5", "weights"])
def test_weights_fit_a_model_quantized_alike(name, tmp_path):
    options = {"weight_bits": 2, "activation_bits": 4}
    model = trained(**options)
    model.save_weights(tmp_path / name)
    fresh = wrpn_tf.quantize_model(tiny(), **options)
    fresh.load_weights(tmp_path / name)
    assert_same_model(fresh, model)


def cloned(model):
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return clone


def from_json(model):
    fresh = keras.models.model_from_json(model.to_json())
    fresh.set_weights(model.get_weights())
    return fresh


@pytest.mark.parametrize("duplicate", [copy.deepcopy, cloned, from_json])
def test_a_copy_in_memory_computes_and_trains_alike(duplicate):
    model = trained(weight_bits=2, activation_bits=4, activation_method="pact")
    assert_same_model(duplicate(model), model)


def fitted(callbacks, epochs=2):
    model = trained(weight_bits=2, activation_bits=4)
    model.compile(keras.optimizers.Adam(0.1), "mse")
    targets = np.ones((4, 3), np.float32)
    model.fit(images(model), targets, epochs=epochs, verbose=0, callbacks=callbacks)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_hold_the_optimizer_too(name, tmp_path):
    path = tmp_path / name
    model = fitted([keras.callbacks.ModelCheckpoint(str(path))])
    loaded = wrpn_tf.load_model(path, compile=True)
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
    for new, old in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        assert_same(new, old)
    inputs, targets = images(model, seed=3), np.zeros((4, 3), np.float32)
    assert loaded.train_on_batch(inputs, targets) == model.train_on_batch(inputs, targets)
    for new, old in zip(loaded.weights, model.weights, strict=True):
        assert_same(new, old)


class Worsening(keras.callbacks.Callback):
    """Logs a value that rises with every epoch, and keeps the weights at its end."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def on_epoch_end(self, epoch, logs=None):
        logs["bad"] = epoch
        self.kept.append(self.model.get_weights())


def test_early_stopping_restores_the_best_weights():
    worsening = Worsening()
    stop = keras.callbacks.EarlyStopping("bad", mode="min", patience=1, restore_best_weights=True)
    model = fitted([worsening, stop], epochs=3)
    first, second = worsening.kept
    assert any(np.any(new != old) for new, old in zip(second, first, strict=True))
    for weight, expected in zip(model.weights, first, strict=True):
        assert_same(weight, expected)


@pytest.mark.parametrize("name", NAMES)
def test_frozen_layers_keep_the_order_of_the_variables(name, tmp_path):
    model = trained(weight_bits=2, activation_bits=4)
    weights = [weight.name for weight in model.get_layer("quant_conv1").weights]
    model.get_layer("quant_conv1").trainable = False
    assert [weight.name for weight in model.get_layer("quant_conv1").weights] == weights
    assert not model.get_layer("quant_conv1").trainable_weights
    save(model, tmp_path / name)
    loaded = wrpn_tf.load_model(tmp_path / name)
    assert_same_model(loaded, model)
    loaded.get_layer("quant_conv1").trainable = True
    model.get_layer("quant_conv1").trainable = True
    assert_same_model(loaded, model)


def test_a_layer_frozen_before_quantizing_is_saved_too(tmp_path):
    network = tiny()
    network.get_layer("conv1").trainable = False
    model = wrpn_tf.quantize_model(network, 2, 4)
    wrpn_tf.calibrate(model, [images(model)])
    for name in ("model.keras", "model.h5"):
        save(model, tmp_path / name)
        loaded = wrpn_tf.load_model(tmp_path / name)
        assert_same(loaded(images(model)), model(images(model)))


def test_files_of_earlier_versions_load(tmp_path):
    model = trained(weight_bits=2, activation_bits=4)
    model.save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        assert "wrpn_tf>QuantizeWrapperV2" in file.attrs["model_config"]
        file.attrs["model_config"] = file.attrs["model_config"].replace("wrpn_tf>", "")
    assert_same_model(wrpn_tf.load_model(tmp_path / "model.h5"), model)


def test_a_new_process_loads_every_form(tmp_path):
    model = trained(weight_bits=2, activation_bits=4)
    for name in NAMES:
        save(model, tmp_path / name)
    np.save(tmp_path / "inputs.npy", images(model))
    program = (
        "import numpy, tf_keras, wrpn_tf\n"
        "inputs = numpy.load('inputs.npy')\n"
        f"for name in {NAMES}:\n"
        "    numpy.save(name + '.npy', wrpn_tf.load_model(name)(inputs))\n"
        "numpy.save('plain.npy', tf_keras.models.load_model('model.keras')(inputs))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    for name in ("plain", *NAMES):
        assert_same(np.load(tmp_path / f"{name}.npy"), model(images(model)))


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


@pytest.mark.parametrize("name", NAMES)
def test_float_models_load_too(name, tmp_path):
    model = tiny()
    save(model, tmp_path / name)
    assert_same(wrpn_tf.load_model(tmp_path / name)(images(model)), model(images(model)))


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
