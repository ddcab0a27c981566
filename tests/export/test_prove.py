"""``python -m export.prove`` as it is typed."""

import json
import subprocess
import sys

import keras
import numpy as np
from keras import layers
from trained_layers import changed, layer

import wrpn_tf
from export.ir.saving import save
from export.proof.training import training_problems
from export.verification.workdir import Workdir


def run(*arguments):
    command = [sys.executable, "-m", "export.prove", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_proven_graph(tmp_path):
    save(layer(0), tmp_path / "model.npz")
    result = run(f"--model-graph={tmp_path / 'model.npz'}", "--kernels=all")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "proven"
    assert result.stderr == ""


def test_a_wrong_bias_is_named(tmp_path):
    graph = layer(0)
    bias = (graph.operators[0].bias + 127).astype(np.int32)
    save(changed(graph, bias=bias), tmp_path / "model.npz")
    result = run(f"--model_graph={tmp_path / 'model.npz'}")
    assert result.returncode == 1
    assert "FAILED: output: channels" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_training_is_settled_for_the_kernels_that_its_file_was_exported_for(tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 2), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(image)
    model = wrpn_tf.quantize_model(keras.Model(image, x), 2, 8)
    wrpn_tf.calibrate(model, np.random.default_rng(0).normal(size=(8, 4, 4, 2)).astype("float32"))
    model.save(tmp_path / "model.keras")
    record = {
        "dataset": {"name": "digits", "data_dir": None, "class_names": [*"abcdefgh"]},
        "flags": {},
    }
    (tmp_path / "record.json").write_text(json.dumps(record))
    workdir = Workdir.load(tmp_path)
    unsettled, graph = workdir.graph(), workdir.graph(kernel_sets=("tflm",))
    assert training_problems(graph, unsettled)
    save(graph, tmp_path / "model.npz")
    result = run(
        f"--workdir={tmp_path}", f"--model-graph={tmp_path / 'model.npz'}", "--kernel_sets=tflm"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "proven"


def test_a_mistake_gets_one_sentence(tmp_path):
    result = run(f"--model-graph={tmp_path}/none.npz")
    assert result.returncode == 1
    assert f"error: Cannot read {tmp_path}/none.npz" in result.stderr
    assert "Traceback" not in result.stderr
