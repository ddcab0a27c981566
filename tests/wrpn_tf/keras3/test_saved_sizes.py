"""Files of Keras 3 that ask for more than they are worth."""

import json
import zipfile

import keras
import pytest

import wrpn_tf


@pytest.fixture(name="archive", scope="module")
def archive_fixture(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save(path)
    return path


def copied(archive, path, change=lambda config: None, zeros=0):
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            new.writestr(name, content)
        if zeros:
            new.writestr("zeros", bytes(zeros), zipfile.ZIP_DEFLATED)
    return path


def test_what_fits_is_loaded(archive, tmp_path):
    loaded = wrpn_tf.load_model(copied(archive, tmp_path / "model.keras"))
    assert loaded.count_params() == 6


def test_layers_of_any_size_are_refused(archive, tmp_path):
    def widen(config):
        config["config"]["layers"][-1]["config"]["units"] = 10**9

    with pytest.raises(ValueError, match=r"its layers have weights of more than [\d,]+ bytes"):
        wrpn_tf.load_model(copied(archive, tmp_path / "model.keras", widen))


def test_archives_of_zeros_are_refused(archive, tmp_path):
    with pytest.raises(ValueError, match="bytes uncompressed, more than"):
        wrpn_tf.load_model(copied(archive, tmp_path / "model.keras", zeros=2**27))
