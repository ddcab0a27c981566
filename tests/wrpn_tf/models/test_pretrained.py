"""Networks that the package carries: what their records say is so."""

import json
from pathlib import Path

import numpy as np
import pytest

import export
import wrpn_tf
from train.config import Config, UserError
from train.publish import publish
from train.trainer import train
from wrpn_tf import datasets, models
from wrpn_tf.models import published as module

ON_DIGITS = [
    name for name, record in models.pretrained().items() if record["dataset"]["name"] == "digits"
]


@pytest.mark.parametrize("front", ["keras", "tf_keras"])
@pytest.mark.parametrize("name", ON_DIGITS)
def test_accuracy_and_file_are_those_of_the_record(name: str, front: str) -> None:
    record, data = models.pretrained()[name], datasets.load("digits")
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


@pytest.mark.parametrize("name", sorted(models.pretrained().keys() - set(ON_DIGITS)))
def test_every_other_network_has_its_integers_in_a_file(name: str) -> None:
    record, model = models.pretrained()[name], models.load_pretrained(name)
    images = np.random.default_rng(0).integers(0, 256, (4, *record["input_shape"]), np.uint8)
    found = export.verify(model, export.to_tflite(model), images)
    assert (found.verified, found.different) == (True, 0)


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


def test_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"dataset": "digits", "arch": "digits_cnn", "width": 0.5, "train_images": 64}
    rules = (wrpn_tf.Rule(name="conv3", weight_bits=1),)
    quantized = Config(
        workdir=tmp_path / "run", epochs=1, batch_size=32, wbits=2, abits=4, rules=rules, **options
    )
    train(quantized, verbose=0)
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
    train(Config(workdir=tmp_path / "float", epochs=1, batch_size=32, **options), verbose=0)
    with pytest.raises(UserError, match="not a finished training of a quantized network"):
        publish(str(tmp_path / "float"), "float", str(tmp_path))
