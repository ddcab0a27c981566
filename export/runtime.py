"""Runs a .tflite file in the LiteRT (or TFLite) Interpreter, with a chosen set of kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

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


def run(
    model: bytes, inputs: Mapping[str, np.ndarray], kernels: str = "xnnpack"
) -> dict[str, np.ndarray]:
    """Runs a model on one batch.

    XNNPACK does not fill the tensors between its nodes: to read them, run a file written with
    ``to_flatbuffer(graph, expose_all=True)``, in which all of them are outputs.

    Args:
      model: the bytes of a .tflite file.
      inputs: ``[batch, ...]`` by input tensor name, of the model's dtype; any batch.
      kernels: 'xnnpack' (the Interpreter's default), 'optimized' or 'reference'.

    Returns:
      The model's inputs and outputs by tensor name.

    Raises:
      ValueError: the file is not a model the Interpreter can run, or the inputs do not fit it.
    """
    interpreter = load(model, kernels)
    details = {detail["name"]: detail for detail in interpreter.get_input_details()}
    if set(details) != set(inputs):
        raise ValueError(f"inputs are {sorted(inputs)}, the model takes {sorted(details)}")
    for name, detail in details.items():
        array = np.asarray(inputs[name])
        if array.dtype != detail["dtype"] or array.shape[1:] != tuple(detail["shape"][1:]):
            raise ValueError(
                f"input {name!r} is {array.dtype} {array.shape}, the model takes "
                f"{np.dtype(detail['dtype'])} {tuple(detail['shape'])}"
            )
        if array.shape != tuple(detail["shape"]):
            interpreter.resize_tensor_input(detail["index"], array.shape)
    _allocate(interpreter)
    for name, detail in details.items():
        interpreter.set_tensor(detail["index"], np.ascontiguousarray(inputs[name]))
    try:
        interpreter.invoke()
    except RuntimeError as error:
        raise ValueError(f"the Interpreter cannot run this model: {error}") from error
    result = {name: np.asarray(inputs[name]) for name in details}
    for detail in interpreter.get_output_details():
        result[detail["name"]] = interpreter.get_tensor(detail["index"])
    return result


def load(model: bytes, kernels: str = "xnnpack") -> Any:
    """An Interpreter over `model`, not allocated yet.

    Raises:
      ValueError: the bytes are not a TFLite model.
    """
    if kernels not in _RESOLVERS:
        raise ValueError(f"kernels must be one of {', '.join(_RESOLVERS)}, not {kernels!r}")
    if bytes(model[_IDENTIFIER]) != b"TFL3":
        raise ValueError("not a TFLite model: the identifier TFL3 is missing")
    try:
        return _litert.Interpreter(
            model_content=bytes(model),
            experimental_op_resolver_type=_RESOLVERS[kernels],
            num_threads=1,
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"not a TFLite model: {error}") from error


def delegated_operators(model: bytes) -> int:
    """How many of the model's operators XNNPACK takes on this machine."""
    interpreter = load(model, "xnnpack")
    _allocate(interpreter)
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


def _allocate(interpreter: Any) -> None:
    try:
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"the Interpreter cannot run this model: {error}") from error
