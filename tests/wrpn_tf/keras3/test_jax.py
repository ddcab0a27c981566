"""Keras 3 on JAX, in processes of their own."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)


def run(program, home, *arguments):
    """What a program beside this file prints."""
    result = subprocess.run(
        [sys.executable, str(pathlib.Path(__file__).with_name(program)), *arguments],
        cwd=ROOT,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


def test_from_pixels_to_a_verified_file_without_tensorflow(tmp_path):
    output = run("without_tensorflow.py", tmp_path, str(tmp_path / "model.keras"))
    assert output.endswith("done\n")


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """By network, what `export.verify` finds."""
    return json.loads(run("networks_on_jax.py", tmp_path_factory.mktemp("home")).splitlines()[-1])


@pytest.mark.parametrize("name", ["shared", "prelu", "tanh", "towers"])
def test_a_network_is_trained_and_its_file_is_exact(name, networks):
    assert networks[name] == [[], 0]
