"""`wrpn quantize` at a shell: a user's float model becomes two files, or none."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import wrpn_tf
from export.flatbuffer import reader

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A float model and images of it."""
    folder = tmp_path_factory.mktemp("quantize")
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((6, 6, 1)),
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
    keras.Sequential(layers).save(folder / "net.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 1), dtype=np.uint8)
    np.save(folder / "images.npy", pixels)
    return folder


def run(folder, *arguments):
    command = [sys.executable, "-m", "export.quantize", f"--model={folder / 'net.keras'}"]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_a_model_becomes_a_verified_file(folder):
    done = run(
        folder,
        *("--wbits=4", "--abits=3", "--input_range=-1,1", f"--images={folder / 'images.npy'}"),
        *(f"--quantized={folder / 'new' / 'q.keras'}", f"--output={folder / 'new' / 'q.tflite'}"),
    )
    assert done.returncode == 0, done.stderr
    assert "\nverified\n" in done.stdout
    assert "q.keras: 4-bit weights, 3-bit activations; calibrated on 40 images, top-1 is the" in (
        done.stdout
    )
    found = sorted(path.name for path in (folder / "new").iterdir())
    assert found == ["q.keras", "q.tflite"]
    quantized = wrpn_tf.load_model(folder / "new" / "q.keras")
    bits = {view.layer.name: view.kernel.bits for view in wrpn_tf.view(quantized) if view.kernel}
    assert set(bits.values()) == {8}, "the first and the last layer"
    file = reader.read_path(folder / "new" / "q.tflite")
    assert [tensor.type for tensor in (*file.inputs, *file.outputs)] == ["UINT8", "UINT8"]


def test_rules_go_before_the_bits_of_all(folder):
    rules = folder / "few.json"
    wrpn_tf.write_rules(rules, [wrpn_tf.Rule(name="dense*", weight_bits=3)])
    done = run(folder, f"--rules={rules}", "--input_range=0,1")
    assert done.returncode == 0, done.stderr
    quantized = wrpn_tf.load_model(folder / "net-w8a8-few.keras")
    assert [view.kernel.bits for view in wrpn_tf.view(quantized) if view.kernel] == [8, 3]
    assert f"8-bit activations but where {rules} says otherwise; not calibrated" in done.stdout


def test_a_place_that_cannot_be_written_is_told_before_any_work(folder):
    before = set(folder.rglob("*"))
    output = folder / "net.keras" / "q.tflite"
    done = run(
        folder, "--input_range=0,1", f"--images={folder / 'images.npy'}", f"--output={output}"
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: Cannot write {output}: Not a directory.\n"
    assert set(folder.rglob("*")) == before


def test_images_of_another_range_write_nothing(folder):
    np.save(folder / "floats.npy", np.full((4, 6, 6, 1), 2.0))
    before = set(folder.rglob("*"))
    done = run(folder, "--input_range=0,1", f"--images={folder / 'floats.npy'}")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "and the input range is 0 to 1" in done.stderr
    assert set(folder.rglob("*")) == before
