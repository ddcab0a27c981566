"""Runs a .tflite file in the LiteRT (or TFLite) Interpreter, with a chosen set of kernels.

The Interpreter can crash on a malformed file, fill the memory, or never return. Files that others
wrote are read by `export.flatbuffer.reader` first, which checks them, and run in a process of their
own: ``Isolated(Runner, content)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from export.runtime.isolation import restart_clock

try:
    from ai_edge_litert import interpreter as _litert
except ImportError:  # tflite-runtime: the same Interpreter under its older name
    from tflite_runtime import interpreter as _litert

_RESOLVERS = {
    "xnnpack": _litert.OpResolverType.AUTO,
    "optimized": _litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": _litert.OpResolverType.BUILTIN_REF,
}
_IDENTIFIER = slice(4, 8)
# What exceptions of C++ become in Python.
_FAILURES = (ValueError, RuntimeError, IndexError, KeyError, OverflowError, TypeError)


class Runner:
    """A model ready to run.

    Args:
      model: the bytes of a .tflite file.
      kernel_set: 'xnnpack' (the Interpreter's default), 'optimized' or 'reference'.
      threads: how many threads the kernels may use.

    Raises:
      ValueError: the file is not a model the Interpreter can run.
    """

    def __init__(self, model: bytes, kernel_set: str = "xnnpack", threads: int = 1) -> None:
        self._interpreter = load(model, kernel_set, threads)
        allocate(self._interpreter)
        operators = {detail["op_name"] for detail in self._interpreter._get_ops_details()}
        # TRANSPOSE_CONV reads its output's shape, the batch of 1 included, from a constant.
        self._one_by_one = "TRANSPOSE_CONV" in operators
        shapes = [detail["shape"] for detail in self._interpreter.get_input_details()]
        self._batch = max([1, *(int(shape[0]) for shape in shapes if len(shape))])

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs it on one batch.

        Args:
          inputs: ``[batch, ...]`` by input tensor name, of the model's dtype; any batch.

        Returns:
          The outputs by tensor name.

        Raises:
          ValueError: the inputs do not fit, or the Interpreter cannot run them.
        """
        batch = max((len(array) for array in inputs.values() if np.ndim(array)), default=1)
        if self._one_by_one and batch > self._batch == 1:
            images = [
                {name: array[i : i + 1] for name, array in inputs.items()} for i in range(batch)
            ]
            outputs = [self(image) for image in images]
            return {name: np.concatenate([each[name] for each in outputs]) for name in outputs[0]}
        interpreter = self._interpreter
        details = {detail["name"]: detail for detail in interpreter.get_input_details()}
        if set(details) != set(inputs):
            raise ValueError(f"inputs are {sorted(inputs)}, the model takes {sorted(details)}")
        resized = False
        for name, detail in details.items():
            array, shape = np.asarray(inputs[name]), tuple(detail["shape"])
            if array.dtype != detail["dtype"] or array.shape[1:] != shape[1:]:
                raise ValueError(
                    f"input {name!r} is {array.dtype} {array.shape}, the model takes "
                    f"{np.dtype(detail['dtype'])} {shape}"
                )
            if array.shape != shape:
                interpreter.resize_tensor_input(detail["index"], array.shape)
                resized = True
        if resized:
            allocate(interpreter)
        for name, detail in details.items():
            interpreter.set_tensor(detail["index"], np.ascontiguousarray(inputs[name]))
        invoke(interpreter, batch / self._batch)
        return {
            detail["name"]: interpreter.get_tensor(detail["index"])
            for detail in interpreter.get_output_details()
        }


class Trial:
    """`run` as an object that `Isolated` makes, for one file after the other."""

    def __call__(self, model: bytes, inputs: Mapping[str, np.ndarray], kernel_set: str) -> None:
        """Runs a model; ValueError where it cannot be run."""
        run(model, inputs, kernel_set)


def run(
    model: bytes, inputs: Mapping[str, np.ndarray], kernel_set: str = "xnnpack"
) -> dict[str, np.ndarray]:
    """Runs a model on one batch.

    XNNPACK does not fill the tensors between its nodes: to read them, run what
    `export.flatbuffer.editing.expose_tensors` makes of it, in which all of them are outputs.

    Args:
      model: the bytes of a .tflite file.
      inputs: ``[batch, ...]`` by input tensor name, of the model's dtype; any batch.
      kernel_set: 'xnnpack' (the Interpreter's default), 'optimized' or 'reference'.

    Returns:
      The model's inputs and outputs by tensor name.

    Raises:
      ValueError: the file is not a model the Interpreter can run, or the inputs do not fit it.
    """
    outputs = Runner(model, kernel_set)(inputs)
    return {name: np.asarray(array) for name, array in inputs.items()} | outputs


def load(model: bytes, kernel_set: str = "xnnpack", threads: int = 1) -> Any:
    """An Interpreter over `model`, not allocated yet.

    Raises:
      ValueError: the bytes are not a TFLite model.
    """
    if kernel_set not in _RESOLVERS:
        raise ValueError(f"kernels must be one of {', '.join(_RESOLVERS)}, not {kernel_set!r}")
    if bytes(model[_IDENTIFIER]) != b"TFL3":
        raise ValueError("not a TFLite model: the identifier TFL3 is missing")
    try:
        return _litert.Interpreter(
            model_content=bytes(model),
            experimental_op_resolver_type=_RESOLVERS[kernel_set],
            num_threads=threads,
        )
    except _FAILURES as error:
        raise ValueError(f"not a TFLite model: {error}") from error


def delegated_operators(model: bytes) -> int:
    """How many of the model's operators XNNPACK takes on this machine."""
    interpreter = load(model, "xnnpack")
    allocate(interpreter)
    # The list keeps the replaced operators and adds one DELEGATE for each group of them.
    details = interpreter._get_ops_details()
    writers = {
        int(output): index
        for index, detail in enumerate(details)
        if detail["op_name"] != "DELEGATE"
        for output in detail["outputs"]
    }
    delegated: set[int] = set()
    for group in details:
        if group["op_name"] != "DELEGATE":
            continue
        outside = {int(tensor) for tensor in group["inputs"]}
        pending = [int(tensor) for tensor in group["outputs"]]
        while pending:
            tensor = pending.pop()
            writer = writers.get(tensor)
            if tensor in outside or writer is None or writer in delegated:
                continue
            delegated.add(writer)
            pending += [int(tensor) for tensor in details[writer]["inputs"]]
    return len(delegated)


def allocate(interpreter: Any) -> None:
    """Allocates an Interpreter's tensors; ValueError where it cannot."""
    _attempt(interpreter.allocate_tensors)


def invoke(interpreter: Any, batch: float = 1) -> None:
    """Runs an Interpreter once; ValueError where it cannot.

    Args:
      interpreter: the Interpreter.
      batch: how many times more images it is fed than the model says.
    """
    restart_clock(batch)
    _attempt(interpreter.invoke)


def _attempt(step: Callable[[], None]) -> None:
    try:
        step()
    except _FAILURES as error:
        reason = str(error) or "it gives no reason; most likely there is too little memory"
        raise ValueError(f"the Interpreter cannot run this model: {reason}") from error
