"""Runs a .tflite file in TensorFlow Lite Micro's interpreter, the package `tflite-micro`.

Its kernels are the portable ones of microcontrollers, compiled for this machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from export.flatbuffer import reader
from export.runtime.isolation import Isolated

MISSING = (
    "the package tflite-micro is not installed (pip install tflite-micro; it comes for Linux on "
    "x86-64)"
)

REFUSED = "TensorFlow Lite Micro cannot load this model"
"""How the error of a file starts that the interpreter does not take."""

_SPARE_BYTES = 1 << 20  # For what the interpreter keeps beside tensors.
_OPERATOR_BYTES = 1 << 12  # Likewise, for each operator.
_TENSOR_BYTES = 256
_TOTAL = re.compile(r"Arena allocation total (\d+) bytes")


def is_installed() -> bool:
    """Whether there is an interpreter."""
    return importlib.util.find_spec("tflite_micro") is not None


class MicroRunner:
    """A model ready to run, with every tensor kept.

    It runs in this process: give files of others to ``Isolated(MicroRunner, content)``.

    Args:
      model: the bytes of a .tflite file, with integer tensors of batch 1.

    Raises:
      ValueError: it is no such file, the interpreter cannot load it, or there is no interpreter.
    """

    def __init__(self, model: bytes) -> None:
        self._graph = reader.read(model).main
        self._interpreter = _interpreter(model, self._graph, "kPreserveAllTensors")

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the model on one image after the other.

        Args:
          inputs: ``[batch, ...]`` by input tensor name, of the model's dtype; any batch.

        Returns:
          ``[batch, ...]`` of every tensor that an operator writes, by name.

        Raises:
          ValueError: the inputs do not fit, or the interpreter cannot run them.
        """
        graph = self._graph
        names = [graph.tensors[index].name for index in graph.inputs]
        if sorted(names) != sorted(inputs):
            raise ValueError(f"inputs are {sorted(inputs)}, the model takes {sorted(names)}")
        written = [index for operator in graph.operators for index in operator.outputs]
        images: list[list[np.ndarray]] = []
        for image in range(max((len(array) for array in inputs.values()), default=1)):
            with _sentences("TensorFlow Lite Micro cannot run this model"):
                for position, name in enumerate(names):
                    part = np.ascontiguousarray(inputs[name][image : image + 1])
                    self._interpreter.set_input(part, position)
                self._interpreter.invoke()
            images.append([self._tensor(index) for index in written])
        columns = zip(*images, strict=True)
        return {
            graph.tensors[index].name: np.concatenate(column)
            for index, column in zip(written, columns, strict=True)
        }

    def _tensor(self, index: int) -> np.ndarray:
        found = self._interpreter.GetTensor(index, 0)["tensor_data"]
        return np.array(found).reshape(self._graph.tensors[index].shape)


class Arena:
    """Measures what a model takes; `Isolated` makes one for one file after the other."""

    def __call__(self, model: bytes) -> int:
        """Bytes of RAM that the interpreter takes to run a model once.

        Activations, and structures of which some hold pointers: of 8 bytes here, of 4 on a
        microcontroller, which takes a little less.

        Raises:
          ValueError: see `MicroRunner`.
        """
        graph = reader.read(model).main
        interpreter = _interpreter(model, graph, "kAllocationRecording")
        with _sentences("TensorFlow Lite Micro cannot run this model"):
            for position, index in enumerate(graph.inputs):
                tensor = graph.tensors[index]
                interpreter.set_input(np.zeros(tensor.shape, tensor.dtype), position)
            interpreter.invoke()
        with _standard_error() as lines:
            interpreter.print_allocations()
        total = _TOTAL.search("\n".join(lines))
        assert total, lines
        return int(total[1])


def arena_bytes(model: bytes) -> int:
    """`Arena` of one file, measured in a process of its own."""
    with Isolated(Arena) as measure:
        return measure(model)


def check_loads(model: bytes) -> None:
    """Raises ValueError where TensorFlow Lite Micro does not load a file; the message says why."""
    with Isolated(MicroRunner, model):
        pass


def _interpreter(model: bytes, graph: reader.Subgraph, config: str) -> Any:
    if not is_installed():
        raise ValueError(MISSING)
    from tflite_micro import runtime

    tensors = sum(
        (0 if tensor.data is not None else tensor.size * reader.BITS[tensor.type] // 8)
        + _TENSOR_BYTES
        for tensor in graph.tensors
    )
    arena = tensors + len(graph.operators) * _OPERATOR_BYTES + _SPARE_BYTES
    with _sentences(REFUSED):
        return runtime.Interpreter.from_bytes(
            bytes(model),
            arena_size=arena,
            intrepreter_config=getattr(runtime.InterpreterConfig, config),
        )


@contextlib.contextmanager
def _sentences(what: str) -> Iterator[None]:
    """Makes one error of an exception and of what native code prints before it."""
    lines: list[str] = []
    try:
        with _standard_error() as lines:
            yield
    except (RuntimeError, ValueError) as error:
        said = " ".join(lines) or str(error)
        raise ValueError(f"{what}: {said}") from error


@contextlib.contextmanager
def _standard_error() -> Iterator[list[str]]:
    """The lines that native code prints, known at the end."""
    lines: list[str] = []
    with tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            lines += file.read().decode(errors="replace").strip().splitlines()
