"""Changes that make the Edge TPU take more of a file and keep every integer it computes.

Each fix changes the schema's object model and says what it did. It is kept only where LiteRT then
computes the same outputs, with each kernel set, on random inputs.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from export.edge_tpu.rules import MAPPED_VERSIONS
from export.flatbuffer import editing, reader
from export.flatbuffer.reader import Model
from export.kernel_sets.rules import KERNEL_SETS
from export.runtime import runner
from export.runtime.isolation import Isolated

_DRAWS = 3
# Operators that copy codes one by one, whatever the quantization says.
_COPIES = ("RESHAPE", "SPLIT", "STRIDED_SLICE", "TRANSPOSE")
_OLD_TYPES = ("INT8", "UINT8", "INT32", "INT64")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fixed:
    """A file after its fixes.

    Attributes:
      content: the file.
      done: a sentence for each change.
      left: a sentence for each that was not made, since integers would change or an operator needs
        its version, and for each kernel set that does not run the file.
    """

    content: bytes
    done: tuple[str, ...]
    left: tuple[str, ...]


def fix(model: Model) -> Fixed:
    """Applies the fixes that change no integer.

    Raises:
      ValueError: if LiteRT runs the model with no kernel set, so that no change could be checked.
    """
    expected, left = _outputs(model)
    done: list[str] = []
    for change in _FIXES:
        said: list[str] = []
        content = editing.edit(model, functools.partial(change, model, said.append))
        if not said:
            continue
        changed = reader.read(content)
        if expected == _outputs(changed, list(expected))[0]:
            model = changed
            done += said
        else:
            left += [f"Not done, for integers would change: {sentence}" for sentence in said]
    left += _needed_versions(model)
    return Fixed(content=model.content, done=tuple(done), left=tuple(left))


Outputs = dict[str, list[dict[str, str]]]
"""By kernel set: of each run the digests of its outputs, by name."""


def _outputs(model: Model, kernel_sets: Sequence[str] = KERNEL_SETS) -> tuple[Outputs, list[str]]:
    """Digests of the outputs, over a few random inputs that are the same at every call.

    A kernel set that does not run the model is left out, with a sentence.

    Raises:
      ValueError: none runs it.
    """
    random = np.random.default_rng(0)
    inputs = [
        {tensor.name: _draw(tensor, random) for tensor in model.inputs} for _ in range(_DRAWS)
    ]
    results: Outputs = {}
    problems: list[str] = []
    for kernel_set in kernel_sets:
        try:
            with Isolated(runner.Runner, model.content, kernel_set) as run:
                results[kernel_set] = [
                    {name: _digest(array) for name, array in run(one).items()} for one in inputs
                ]
        except ValueError as error:
            problems.append(f"Not compared with {kernel_set} kernels: {error}.")
    if not results:
        raise ValueError(problems[0])
    return results, problems


def _digest(array: np.ndarray) -> str:
    """What tells an array from others: its shape, type and values; all that is no number is one."""
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), np.nan, array + 0.0)  # And 0 is -0.
    content = hashlib.blake2b(np.ascontiguousarray(array).tobytes()).hexdigest()
    return f"{array.dtype} {array.shape} {content}"


def _draw(tensor: reader.Tensor, random: np.random.Generator) -> np.ndarray:
    dtype = tensor.dtype
    if dtype.kind == "f":
        return random.normal(size=tensor.shape).astype(dtype)
    low, high = (0, 255) if dtype == np.uint8 else (-128, 127)
    return random.integers(low, high, tensor.shape, endpoint=True).astype(dtype)


def _inline_buffers(model: Model, say: Callable[[str], None], parsed: Any) -> None:
    """`export.flatbuffer.editing.edit` writes every buffer inline."""
    outside = [tensor.name for tensor in model.main.tensors if tensor.external]
    if outside:
        say(f"{len(outside)} constants moved into the flatbuffer.")


def _lower_versions(model: Model, say: Callable[[str], None], parsed: Any) -> None:
    graph = model.main
    users: dict[int, list[reader.Operator]] = {}
    for operator, table in zip(graph.operators, parsed.subgraphs[0].operators, strict=True):
        users.setdefault(table.opcodeIndex, []).append(operator)
    for index, operators in users.items():
        name, version = operators[0].name, operators[0].version
        lower = MAPPED_VERSIONS.get(name, version)
        if version > lower and not any(_newer_part(graph, operator) for operator in operators):
            parsed.operatorCodes[index].version = lower
            say(f"{name}: version {lower} instead of {version}.")


def _needed_versions(model: Model) -> list[str]:
    """A sentence for each operator whose version stays above the mapped one, and why."""
    said = []
    for operator in model.main.operators:
        if operator.version <= MAPPED_VERSIONS.get(operator.name, operator.version):
            continue
        if part := _newer_part(model.main, operator):
            said.append(
                f"Not lowered: {operator.name} needs version {operator.version} for {part}."
            )
    return list(dict.fromkeys(said))


def _newer_part(graph: reader.Subgraph, operator: reader.Operator) -> str:
    """What an operator uses that the mapped version did not have; empty: nothing."""
    indices = (*operator.inputs, *operator.outputs)
    tensors = [graph.tensors[index] for index in indices if index >= 0]
    grouped = operator.name == "CONV_2D" and tensors[0].shape[-1:] != tensors[1].shape[-1:]
    if grouped:
        return "its groups"
    if operator.options.get("keepNumDims") and len(tensors[0].shape) > 2:
        return "keep_num_dims"
    # Version 4 is the first that applies it.
    if operator.name == "TRANSPOSE_CONV" and operator.options.get("fusedActivationFunction"):
        return "the activation that it fuses"
    newer = sorted({tensor.type for tensor in tensors} - set(_OLD_TYPES))
    return f"tensors of {' and '.join(newer)}" if newer else ""


def _drop_keep_num_dims(model: Model, say: Callable[[str], None], parsed: Any) -> None:
    graph = model.main
    for operator, table in zip(graph.operators, parsed.subgraphs[0].operators, strict=True):
        flat = len(graph.tensors[operator.inputs[0]].shape) == 2 if operator.inputs else False
        if operator.name == "FULLY_CONNECTED" and operator.options.get("keepNumDims") and flat:
            table.builtinOptions.keepNumDims = False
            name = graph.tensors[operator.outputs[0]].name
            say(f"{name}: keep_num_dims left out, it does nothing.")


def _dense_per_tensor(model: Model, say: Callable[[str], None], parsed: Any) -> None:
    graph, tables = model.main, parsed.subgraphs[0].tensors
    for operator in graph.operators:
        if operator.name != "FULLY_CONNECTED":
            continue
        constants = [index for index in operator.inputs[1:3] if index >= 0]
        scales = [graph.tensors[index].scale for index in constants]
        if len(scales[0]) > 1 and all((scale == scale[0]).all() for scale in scales if len(scale)):
            for index in constants:
                quantization = tables[index].quantization
                quantization.scale = quantization.scale[:1]
                quantization.zeroPoint = quantization.zeroPoint[:1]
                quantization.quantizedDimension = 0
            name = graph.tensors[operator.outputs[0]].name
            say(f"{name}: one scale for the dense weights, whose channels all had the same.")


def _equal_grids(model: Model, say: Callable[[str], None], parsed: Any) -> None:
    """An operator that copies codes gives an output that only the user reads its input's grid."""
    graph, tables = model.main, parsed.subgraphs[0].tensors
    read = {index for operator in graph.operators for index in operator.inputs}
    for operator in graph.operators:
        if operator.name not in _COPIES:
            continue
        source = operator.inputs[1 if operator.name == "SPLIT" else 0]
        for output in operator.outputs:
            if output in read:
                continue
            if graph.tensors[output].quantization != graph.tensors[source].quantization:
                tables[output].quantization = tables[source].quantization
                say(f"{graph.tensors[output].name}: the scale and zero point of its input.")


_FIXES = (_inline_buffers, _drop_keep_num_dims, _lower_versions, _dense_per_tensor, _equal_grids)
