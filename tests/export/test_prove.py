"""``python -m export.prove`` as it is typed."""

import subprocess
import sys

import numpy as np
from trained_layers import changed, layer

from export.ir.saving import save


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


def test_a_mistake_gets_one_sentence(tmp_path):
    result = run(f"--model-graph={tmp_path}/none.npz")
    assert result.returncode == 1
    assert f"error: Cannot read {tmp_path}/none.npz" in result.stderr
    assert "Traceback" not in result.stderr
