"""Networks that the package carries: what their records say is so."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_data import DATA, needs

import export
import wrpn_tf
from train.config import Config, UserError
from train.publish import publish
from train.trainer import train
from wrpn_tf import datasets, models
from wrpn_tf.files import WriteError
from wrpn_tf.models import published as module

RECORDS = models.pretrained()
ON_CIFAR10 = [name for name, record in RECORDS.items() if record["dataset"]["name"] == "cifar10"]
ON_DIGITS = [name for name, record in RECORDS.items() if record["dataset"]["name"] == "digits"]
FLOAT = [name for name, record in RECORDS.items() if record["quantization"] is None]


@pytest.mark.parametrize("front", ["keras", "tf_keras"])
@pytest.mark.parametrize("name", ON_DIGITS)
def test_accuracy_and_file_are_those_of_the_record(name: str, front: str) -> None:
    record, data = RECORDS[name], datasets.load("digits")
    assert (data.scale, data.zero_point) == tuple(
        record["dataset"][key] for key in ("scale", "zero_point")
    )
    model = models.load_pretrained(name, front=front)
    (logits,) = wrpn_tf.infer(model, [data.normalize(data.test_images)])
    assert (np.argmax(logits, axis=1) == data.test_labels).mean() == pytest.approx(
        record["test_accuracy"], abs=1e-6
    )
    found = export.verify(model, export.to_tflite(model), data.test_images[:50])
    assert found.verified
    assert (found.integers > 0, found.different) == (True, 0)


@pytest.mark.parametrize("name", sorted(RECORDS.keys() - set(ON_DIGITS) - set(FLOAT)))
def test_every_other_network_has_its_integers_in_a_file(name: str) -> None:
    record, model = RECORDS[name], models.load_pretrained(name)
    images = np.random.default_rng(0).integers(0, 256, (4, *record["input_shape"]), np.uint8)
    found = export.verify(model, export.to_tflite(model), images)
    assert (found.verified, found.different) == (True, 0)


@needs("cifar10")
@pytest.mark.parametrize("name", ON_CIFAR10)
def test_accuracy_on_cifar10_is_that_of_the_record(name: str) -> None:
    data = datasets.load("cifar10", DATA)
    model = models.load_pretrained(name)
    logits = model.predict(data.normalize(data.test_images), batch_size=500, verbose=0)
    right = (logits.argmax(axis=1) == data.test_labels).sum()
    assert abs(right - 10_000 * RECORDS[name]["test_accuracy"]) < 1.5


def test_a_damaged_file_and_an_unknown_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"there is no network 'resnet9'; known: .*digits-cnn"):
        models.load_pretrained("resnet9")
    (tmp_path / "a.json").write_text(json.dumps({"sha256": "0"}))
    (tmp_path / "a.npz").write_bytes(b"half")
    monkeypatch.setattr(module, "folder", lambda: tmp_path)
    with pytest.raises(ValueError, match=r"a\.npz is damaged"):
        models.load_pretrained("a")


TINY = {"dataset": "digits", "arch": "digits_cnn", "width": 0.5, "train_images": 64}
TINY |= {"epochs": 1, "batch_size": 32}


def test_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = (wrpn_tf.Rule(name="conv3", weight_bits=1),)
    train(Config(workdir=tmp_path / "run", wbits=2, abits=4, rules=rules, **TINY), verbose=0)
    path = publish(str(tmp_path / "run"), "tiny", str(tmp_path))
    monkeypatch.setattr(module, "folder", lambda: tmp_path)
    assert path.stat().st_size < 20_000
    model = models.load_pretrained("tiny", front="tf_keras")
    trained = wrpn_tf.load_model(tmp_path / "run" / "model.h5")
    images = np.random.default_rng(0).uniform(0, 1.99, (8, 8, 8, 1)).astype(np.float32)
    (found,), (expected,) = wrpn_tf.infer(model, [images]), wrpn_tf.infer(trained, [images])
    assert np.array_equal(found, expected)
    assert export.to_tflite(model) == export.to_tflite(trained)
    with pytest.raises(UserError, match="must be lower-case"):
        publish(str(tmp_path / "run"), "No Name", str(tmp_path))
    with pytest.raises(WriteError, match=r"^Cannot write .*tiny\.npz"):
        publish(str(tmp_path / "run"), "tiny", str(path))
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"tiny\.json is a network already; give another name"):
        publish(str(tmp_path / "run"), "tiny", str(tmp_path))
    assert path.read_bytes() == before
    record = tmp_path / "run" / "record.json"
    contents = json.loads(record.read_text())
    del contents["metrics"]
    record.write_text(json.dumps(contents))
    with pytest.raises(UserError, match="run: the training has not finished"):
        publish(str(tmp_path / "run"), "tinier", str(tmp_path))


def test_a_published_float_network_is_where_trainings_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(Config(workdir=tmp_path / "float", **TINY), verbose=0)
    publish(str(tmp_path / "float"), "tiny", str(tmp_path))
    monkeypatch.setattr(module, "folder", lambda: tmp_path)
    trained = wrpn_tf.load_model(tmp_path / "float")
    model = models.load_pretrained("tiny", front="tf_keras")
    assert models.pretrained()["tiny"]["quantization"] is None
    assert_same_weights(model, trained)

    options = TINY | {"width": 1.0, "wbits": 4, "abits": 4, "learning_rate": 1e-9}
    for start, folder in (("pretrained:tiny", "a"), (tmp_path / "float", "b")):
        train(Config(workdir=tmp_path / folder, init_from=start, **options), verbose=0)
    assert_same_weights(*(wrpn_tf.load_model(tmp_path / folder) for folder in "ab"))
    publish(str(tmp_path / "a"), "wide", str(tmp_path))
    publish(str(tmp_path / "b"), "wider", str(tmp_path))
    said = [models.pretrained()[name]["training"].get("init_from") for name in ("wide", "wider")]
    assert said == ["pretrained:tiny", None]

    teacher = Config(workdir=tmp_path / "c", teacher="pretrained:tinier", **TINY)
    with pytest.raises(UserError, match=r"^teacher: there is no network 'tinier'; known: tiny"):
        train(teacher, verbose=0)


def assert_same_weights(model: Any, other: Any) -> None:
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    assert all(np.array_equal(one, another) for one, another in pairs)
