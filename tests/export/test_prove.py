"""``python -m export.prove`` as it is typed."""

import json
import subprocess
import sys

import keras
import numpy as np
from keras import layers
from trained_layers import changed, layer

import wrpn_tf
from export.ir.graph import stored_weights
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


def saved_training(folder, *inner):
    """The workdir of a network of 2-bit layers."""
    keras.utils.set_random_seed(0)
    image = x = keras.Input((4, 4, 2), name="image")
    for each in inner:
        x = each(x)
    model = wrpn_tf.quantize_model(keras.Model(image, x), 2, 8)
    wrpn_tf.calibrate(model, np.random.default_rng(0).normal(size=(8, 4, 4, 2)).astype("float32"))
    model.save(folder / "model.keras")
    record = {
        "dataset": {"name": "digits", "data_dir": None, "class_names": [*"abcdefgh"]},
        "flags": {},
    }
    (folder / "record.json").write_text(json.dumps(record))
    return Workdir.load(folder)


def test_a_training_is_settled_for_the_storage_of_its_graph(tmp_path):
    inner = [layers.Dense(8, activation="relu", name=name) for name in ("one", "two")]
    graph = saved_training(
        tmp_path, layers.Flatten(name="flat"), *inner, layers.Dense(4, name="logits")
    ).graph("int4")
    assert [each.dtype_bits for each in graph.weighted] == [8, 4, 8]
    assert stored_weights(graph) == "int4"
    workdir = Workdir.load(tmp_path)
    assert training_problems(graph, workdir.graph())
    assert training_problems(graph, workdir.graph(stored_weights(graph))) == []


def test_a_training_is_settled_for_the_kernels_that_its_file_was_exported_for(tmp_path):
    workdir = saved_training(tmp_path, layers.Conv2D(8, 3, activation="relu", name="conv"))
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
