"""What a saved model may bring along: no code, and nothing that is no model."""

import json
import os
import shlex
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from equality import assert_same
from small_models import tiny
from tf_keras import layers

import wrpn_tf
from wrpn_tf.tfmot.trust import check_config

NAMES = ["model.keras", "model.h5", "model"]
INPUTS = np.ones((1, 2), np.float32)


def save(model, path):
    """Saves, without the traces of a SavedModel."""
    model.save(path, **({} if path.suffix else {"save_traces": False}))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A small float model as a .keras file."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    keras.Sequential([layers.Dense(2, input_shape=(2,), name="dense")]).save(path)
    return path


def edited(archive, path, *, config=None, metadata=None):
    """A copy of a .keras file with other JSON in it."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json" and config:
                content = json.dumps(config(json.loads(content))).encode()
            if name == "metadata.json" and metadata:
                content = json.dumps(metadata).encode()
            new.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize("name", NAMES)
def test_a_lambda_is_refused(name, tmp_path):
    model = keras.Sequential([layers.Lambda(lambda x: x + 1.0, input_shape=(2,), name="plus")])
    save(model, tmp_path / name)
    with pytest.raises(
        ValueError, match=rf"{name}: .*layer 'plus' holds Python bytecode.*trust_code"
    ):
        wrpn_tf.load_model(tmp_path / name)
    loaded = wrpn_tf.load_model(tmp_path / name, trust_code=True)
    assert_same(loaded(INPUTS), INPUTS + 1.0)


def test_no_module_is_imported(archive, tmp_path, monkeypatch):
    (tmp_path / "brought.py").write_text("Dense = None\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def config(model):
        model["config"]["layers"][1]["module"] = "brought"
        return model

    edited(archive, tmp_path / "model.keras", config=config)
    with pytest.raises(ValueError, match=r"layer 'dense' needs the class brought\.Dense"):
        wrpn_tf.load_model(tmp_path / "model.keras")
    assert "brought" not in sys.modules


def test_what_is_checked_is_what_is_loaded(archive, tmp_path):
    def config(model):
        model["config"]["layers"][1]["module"] = "brought"
        return model

    keras.Sequential([layers.Dense(2, input_shape=(2,))]).save(tmp_path / "model.h5")
    two_forms = edited(archive, tmp_path / "model.keras", config=config)
    two_forms.write_bytes((tmp_path / "model.h5").read_bytes() + two_forms.read_bytes())
    with pytest.raises(ValueError, match=r"the class brought\.Dense"):
        wrpn_tf.load_model(two_forms)


class Doubled(layers.Layer):
    def call(self, inputs):
        return 2.0 * inputs


@pytest.mark.parametrize("name", NAMES)
def test_layers_of_the_process_load(name, tmp_path):
    save(keras.Sequential([Doubled(input_shape=(2,), name="twice")]), tmp_path / name)
    with pytest.raises(ValueError, match=r"layer 'twice' needs the class .*Doubled"):
        wrpn_tf.load_model(tmp_path / name)
    with keras.saving.custom_object_scope({"Doubled": Doubled}):
        assert_same(wrpn_tf.load_model(tmp_path / name)(INPUTS), 2.0 * INPUTS)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def test_a_graph_is_not_executed(tmp_path):
    model = Subclassed(name="subclassed")
    model(INPUTS)
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="only there as a graph"):
        wrpn_tf.load_model(tmp_path / "model")
    assert_same(wrpn_tf.load_model(tmp_path / "model", trust_code=True)(INPUTS), INPUTS)


@pytest.mark.parametrize("name", NAMES)
def test_operations_that_compute_load(name, tmp_path):
    inputs = keras.Input((4,))
    outputs = tf.reshape(tf.nn.relu(inputs[:, :2] * 2.0 - 1.0), (-1, 2, 1))
    save(keras.Model(inputs, outputs), tmp_path / name)
    values = np.ones((1, 4), np.float32)
    assert_same(wrpn_tf.load_model(tmp_path / name)(values), np.ones((1, 2, 1)))


def layer(class_name, **config):
    return {"class_name": class_name, "config": {"name": "odd", **config}}


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (layer("Lambda"), "bytecode"),
        (layer("Lambda") | {"registered_name": "WeightQuantizer"}, "bytecode"),
        (layer("TimeDistributed", layer=layer("Lambda")), "bytecode"),
        (layer("Activation", activation={"class_name": "__lambda__", "config": {}}), "bytecode"),
        (layer("Popen", module="subprocess"), "the class Popen"),
        (layer("Popen") | {"module": "subprocess"}, r"the class subprocess\.Popen"),
        (layer("Dense") | {"module": "kerasx"}, r"the class kerasx\.Dense"),
        (layer("Dense", activation=function("os", "system")), r"the function os\.system"),
        (layer("Dense", activation=function("builtins", "eval")), r"the function builtins\.eval"),
        (layer("Dense", activation=function("keras.utils", "get_file")), "get_file"),
        (
            layer("Dense", activation=function("os", "system") | {"config": "relu"}),
            r"the function os\.system",
        ),
        (layer("TFOpLambda", function="io.write_file"), r"runs TensorFlow's io\.write_file"),
        (layer("TFOpLambda", function="load_op_library"), "load_op_library"),
        (layer("SlicingOpLambda", function="py_function"), "py_function"),
        (layer("TensorFlowOpLayer", node_def="WriteFile"), "the class TensorFlowOpLayer"),
        (layer("InstanceProperty", attr_name="x"), "the class InstanceProperty"),
        (layer("StringLookup", vocabulary="/etc/passwd"), "the class StringLookup"),
        (layer("Dense") | {"registered_name": "a>b", "module": "a"}, r"the class a\.Dense"),
        ({"class_name": ["Dense"], "config": {}}, "a class without a name"),
        ([{"deep": [layer("Lambda")]}], "layer 'odd'"),
    ],
)
def test_configurations_that_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        check_config(config, wrpn_tf.custom_objects())


@pytest.mark.parametrize(
    "config",
    [
        layer("Dense", activation=function("builtins", "relu")) | {"module": "keras.layers"},
        layer("Functional") | {"module": "tf_keras.src.engine.functional"},
        layer("QuantizeWrapperV2") | {"module": "anything", "registered_name": "QuantizeWrapperV2"},
        layer("wrpn_tf>WeightQuantizer"),
        layer("TFOpLambda", function="math.multiply"),
        {"optimizer": layer("Adam"), "loss": function("builtins", "mse")},
        None,
    ],
)
def test_configurations_that_pass(config):
    check_config(config, wrpn_tf.custom_objects())


@pytest.mark.parametrize(
    ("version", "writer"),
    [("9.0.0", "Keras 9.0.0"), (None, "an unknown Keras")],
)
def test_another_keras(version, writer, archive, tmp_path):
    edited(archive, tmp_path / "new.keras", metadata={"keras_version": version})
    message = rf"new\.keras: {writer} wrote it, .*Keras 3 and of tf_keras"
    with pytest.raises(ValueError, match=message):
        wrpn_tf.load_model(tmp_path / "new.keras")


def test_archives_that_are_no_models(archive, tmp_path):
    edited(archive, tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"model\.zip: .*rename it to end in \.keras"):
        wrpn_tf.load_model(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as empty:
        empty.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"empty\.keras: the archive has no metadata\.json"):
        wrpn_tf.load_model(tmp_path / "empty.keras")


def test_a_saved_model_without_keras(tmp_path):
    tf.saved_model.save(tf.Module(), tmp_path / "module")
    with pytest.raises(ValueError, match="module: it is a SavedModel without a Keras model"):
        wrpn_tf.load_model(tmp_path / "module")


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_file(name, tmp_path):
    save(tiny(), tmp_path / name)
    broken = tmp_path / name
    if broken.is_dir():
        (broken / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
    else:
        broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"Cannot load a model from .*{name}"):
        wrpn_tf.load_model(broken)


def test_a_saved_model_without_a_variable(tmp_path):
    save(tiny(), tmp_path / "model")
    save(keras.Sequential([layers.Dense(1, input_shape=(1,))]), tmp_path / "other")
    (tmp_path / "model" / "variables").rename(tmp_path / "away")
    (tmp_path / "other" / "variables").rename(tmp_path / "model" / "variables")
    with pytest.raises(ValueError, match="Cannot load a model from"):
        wrpn_tf.load_model(tmp_path / "model")


def test_constants_alone_are_not_computed(tmp_path):
    """`tf.fill([100_000, 100_000], 1.0)` would take 40 GB while the model is built."""
    inputs = keras.Input((2,))
    keras.Model(inputs, 1.0 - tf.fill((2, 2), 3.0) * inputs).save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        first = next(x for x in config["config"]["layers"] if x["class_name"] == "TFOpLambda")
        first["config"]["function"] = "fill"
        first["inbound_nodes"] = [["_CONSTANT_VALUE", -1, [100_000] * 2, {"value": 1.0}]]
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(ValueError, match="computes fill of constants alone"):
        wrpn_tf.load_model(tmp_path / "model.h5")


@pytest.mark.parametrize("name", NAMES)
def test_layers_of_any_size_are_refused(name, tmp_path):
    model = keras.Sequential([layers.Dense(5_123, input_shape=(2,), name="dense")])
    save(model, tmp_path / name)
    wrpn_tf.load_model(tmp_path / name)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in files:  # The same length, so that every form stays whole.
        if path.suffix == ".keras":
            edited(path, tmp_path / "edited", config=lambda config: _wide(config))
            os.replace(tmp_path / "edited", path)
        else:
            path.write_bytes(path.read_bytes().replace(b'"units": 5123', b'"units": 9E9 '))
    with pytest.raises(ValueError, match=r"its layers have weights of more than [\d,]+ bytes"):
        wrpn_tf.load_model(tmp_path / name)


def _wide(config):
    config["config"]["layers"][1]["config"]["units"] = 10**9
    return config


def test_arrays_of_zeros_are_refused(archive, tmp_path):
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(tmp_path / "model.keras", "w") as new:
        for member in old.namelist():
            new.writestr(member, old.read(member))
        new.writestr("zeros", bytes(2**27), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"its files have 134,[\d,]+ bytes uncompressed"):
        wrpn_tf.load_model(tmp_path / "model.keras")
    keras.Sequential([layers.Dense(2, input_shape=(2,))]).save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        file.create_dataset("zeros", (2**30,), "f4", chunks=(2**20,))
    with pytest.raises(ValueError, match="its arrays take more than"):
        wrpn_tf.load_model(tmp_path / "model.h5")


def test_links_into_other_files_are_refused(tmp_path):
    for kind in ("external", "soft", "raw"):
        path = tmp_path / f"{kind}.h5"
        keras.Sequential([layers.Dense(2, input_shape=(2,))]).save(path)
        with h5py.File(path, "r+") as file:
            if kind == "raw":
                file.create_dataset("x", (4,), "u1", external=[(str(path), 0, 4)])
            else:
                file["x"] = (
                    h5py.ExternalLink(str(path), "/")
                    if kind == "external"
                    else (h5py.SoftLink("/model_weights"))
                )
        with pytest.raises(ValueError, match=r"'x' (is a link to another place|lie in another)"):
            wrpn_tf.load_model(path)


def test_a_tighter_limit_of_the_process_stays(tmp_path):
    path = str(tmp_path / "model.h5")
    keras.Sequential([layers.Dense(2, input_shape=(2,))]).save(path)
    reader = f"from wrpn_tf.saved_sizes import read_alone; read_alone({path!r}, '999999')"
    limited = f"ulimit -v 4000000; exec {sys.executable} -c {shlex.quote(reader)}"
    done = subprocess.run(["sh", "-c", limited], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_whose_reader_hangs_is_a_sentence(tmp_path, monkeypatch):
    """What happens to one in a thousand files with other bytes, within HDF5."""
    keras.Sequential([layers.Dense(2, input_shape=(2,))]).save(tmp_path / "model.h5")
    monkeypatch.setattr("wrpn_tf.saved_sizes._CHECK", "import time; time.sleep(60)")
    monkeypatch.setattr("wrpn_tf.saved_sizes.SECONDS", 1)
    with pytest.raises(ValueError, match="it cannot be read within 1 seconds"):
        wrpn_tf.load_model(tmp_path / "model.h5")
    monkeypatch.setattr("wrpn_tf.saved_sizes._CHECK", "import os; os.abort()")
    monkeypatch.setattr("wrpn_tf.saved_sizes.SECONDS", 60)
    with pytest.raises(ValueError, match="it is damaged: its reader died"):
        wrpn_tf.load_model(tmp_path / "model.h5")
