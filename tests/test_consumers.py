"""Exported files in the libraries that users have."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import consumer_classes, consumers
from export.flatbuffer import borders, writer
from tests.export import random_graphs


@pytest.fixture(name="python", scope="module")
def python_fixture(tmp_path_factory):
    """A Python for which pip has nothing."""
    path = tmp_path_factory.mktemp("bin") / "python"
    path.write_text("#!/bin/sh\necho 'ERROR: first' >&2; echo 'ERROR: nothing' >&2; exit 1\n")
    path.chmod(0o755)
    return str(path)


def test_what_pip_does_not_have_is_said(python, tmp_path):
    (old,) = [each for each in consumers.CONSUMERS if each.function == "tflite_runtime"]
    found = consumers.classify(old, "no.tflite", "no.npy", tmp_path, python)
    assert found.package == "tflite-runtime==2.14.0"
    assert (found.top1, found.problem) == (None, "ERROR: nothing")


def test_pixels_reach_the_network_through_uint8_and_int8(tmp_path):
    graph = random_graphs.one_operator("conv", 0)
    content = writer.to_flatbuffer(graph)
    shape = graph.tensors[graph.inputs[0]].shape[1:]
    images = np.random.default_rng(0).integers(0, 256, (20, *shape), dtype=np.uint8)
    classes = {}
    for io in ("uint8", "int8"):
        path = tmp_path / f"{io}.tflite"
        path.write_bytes(borders.with_borders(content, io))
        classes[io] = consumer_classes.litert(str(path), images)
    assert len(set(classes["int8"])) > 1
    assert classes["uint8"] == classes["int8"]


def test_a_mistake_is_one_line():
    script = pathlib.Path(consumer_classes.__file__)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("usage: ") and done.stderr.count("\n") == 1
