"""Keras 3 on JAX, in a process that cannot import TensorFlow."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_from_pixels_to_a_verified_file_without_tensorflow(tmp_path):
    program = pathlib.Path(__file__).with_name("without_tensorflow.py")
    result = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "model.keras")],
        cwd=ROOT,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout.endswith("done\n")
