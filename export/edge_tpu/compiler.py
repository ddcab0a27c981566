"""Coral's `edgetpu_compiler`, where it is installed: what it really makes of a file."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile

from export.edge_tpu.preflight import COMPILED_OPERATOR
from export.flatbuffer import reader
from export.flatbuffer.reader import Model

COMMAND = "edgetpu_compiler"
_SECONDS = 600


def is_installed() -> bool:
    """Whether the compiler is on PATH."""
    return shutil.which(COMMAND) is not None


def compile_model(path: str | os.PathLike[str]) -> Model | None:
    """The compiled file, or None where the compiler rejects it.

    Raises:
      ValueError: if the compiler cannot be run or writes no readable file.
    """
    path = pathlib.Path(path)
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = subprocess.run(
                [COMMAND, "-s", "-o", folder, str(path.absolute())],  # No option.
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ValueError(f"{COMMAND} cannot be run on {path}: {error}") from error
        output = pathlib.Path(folder) / f"{path.stem}_edgetpu.tflite"
        if run.returncode or not output.exists():
            return None
        return reader.read_path(output)


def left_on_cpu(model: Model, compiled: Model) -> set[int]:
    """Indices of the model's operators that are still operators in the compiled file.

    What the Edge TPU runs is one custom operator there; the others keep the names of their outputs.
    """
    names = {
        compiled.main.tensors[output].name
        for operator in compiled.main.operators
        if operator.name != COMPILED_OPERATOR
        for output in operator.outputs
    }
    return {
        index
        for index, operator in enumerate(model.main.operators)
        if names.intersection(model.main.tensors[output].name for output in operator.outputs)
    }
