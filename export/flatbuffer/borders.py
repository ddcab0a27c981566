"""What a file takes and gives: int8, or uint8 or float32 by an operator at each end.

The network between is the same int8 network, tensor for tensor. A uint8 code is the int8 code plus
128, so for images it is the pixel itself; scales are those of the int8 tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.flatbuffer.editing import edit
from export.flatbuffer.reader import Model, Unsound, read

TYPES = ("int8", "uint8", "float32")

_OFFSET = 128
_KINDS = {"uint8": schema.TensorType.UINT8, "float32": schema.TensorType.FLOAT32}


def with_borders(content: bytes, io: str) -> bytes:
    """An int8 file that takes and gives other types.

    A tensor ``image`` stays where it is; the file's input is then ``image/uint8``, and in the
    signature still ``image``.

    Args:
      content: a .tflite file whose inputs and outputs are int8.
      io: one of `TYPES`.

    Raises:
      ValueError: there is no such type, the file is not one of int8, or its signature names
        tensors that are none of its inputs and outputs.
    """
    if io not in TYPES:
        raise ValueError(f"io must be one of {', '.join(TYPES)}, not {io!r}")
    model = read(content)
    others = sorted({tensor.type for tensor in (*model.inputs, *model.outputs)} - {"INT8"})
    if others:
        raise ValueError(f"the inputs and outputs of the file are {', '.join(others)}, not INT8")
    return content if io == "int8" else edit(model, lambda parsed: _add(parsed, io))


def _add(parsed: Any, io: str) -> None:
    graph = parsed.subgraphs[0]
    before = {int(index): _border(graph, int(index), io) for index in graph.inputs}
    after = {int(index): _border(graph, int(index), io) for index in graph.outputs}
    quantize = _code(parsed, schema.BuiltinOperator.QUANTIZE, 1)
    back = quantize
    if io == "float32":
        back = _code(parsed, schema.BuiltinOperator.DEQUANTIZE, 2)
    graph.operators = [
        *(_operator(quantize, border, index) for index, border in before.items()),
        *graph.operators,
        *(_operator(back, index, border) for index, border in after.items()),
    ]
    graph.inputs = [before[int(index)] for index in graph.inputs]
    graph.outputs = [after[int(index)] for index in graph.outputs]
    _move_signatures(parsed, before, after)


def _move_signatures(parsed: Any, before: Mapping[int, int], after: Mapping[int, int]) -> None:
    """Makes signatures name other tensors: by those that they named as inputs and as outputs."""
    for signature in parsed.signatureDefs or ():
        for end, names, moved in (
            ("input", signature.inputs, before),
            ("output", signature.outputs, after),
        ):
            for entry in names or ():
                if entry.tensorIndex not in moved:
                    raise Unsound(
                        f"its signature has tensor {entry.tensorIndex} as the {end} "
                        f"{bytes(entry.name or b'').decode()!r}, which is no {end} of the file"
                    )
                entry.tensorIndex = moved[entry.tensorIndex]


def _border(graph: Any, index: int, io: str) -> int:
    """A new tensor at an end, by the int8 tensor behind or before it."""
    inner = graph.tensors[index]
    tensor = schema.TensorT()
    tensor.name = bytes(inner.name) + f"/{io}".encode()
    tensor.shape = inner.shape
    tensor.shapeSignature = inner.shapeSignature
    tensor.type = _KINDS[io]
    tensor.buffer = 0
    if io == "uint8":
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = [float(scale) for scale in inner.quantization.scale]
        tensor.quantization.zeroPoint = [int(inner.quantization.zeroPoint[0]) + _OFFSET]
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _code(parsed: Any, builtin: int, version: int) -> int:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = version
    parsed.operatorCodes.append(code)
    return len(parsed.operatorCodes) - 1


def _operator(code: int, source: int, output: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.inputs, operator.outputs = [source], [output]
    return operator


def core(content: bytes) -> tuple[bytes, str]:
    """The int8 network of a file that `with_borders` made, and the type that the file takes.

    Of a file without borders, the file itself and the type of its first input.

    Raises:
      ValueError: the file is not a sound TFLite model.
    """
    model = read(content)
    io = model.inputs[0].type.lower() if model.inputs else "int8"
    if io not in _KINDS or not _is_bordered(model):
        return content, io
    return edit(model, _remove), io


def _is_bordered(model: Model) -> bool:
    """Whether every input goes into a QUANTIZE to int8 alone, and every output comes from one."""
    graph = model.main
    return all(
        len(found) == 1 and found[0].name in ("QUANTIZE", "DEQUANTIZE")
        for found in (
            *([op for op in graph.operators if index in op.inputs] for index in graph.inputs),
            *([op for op in graph.operators if index in op.outputs] for index in graph.outputs),
        )
    )


def _remove(parsed: Any) -> None:
    graph = parsed.subgraphs[0]
    ends = {int(index) for index in (*graph.inputs, *graph.outputs)}
    moved = {}
    kept = []
    for operator in graph.operators:
        source, output = int(operator.inputs[0]), int(operator.outputs[0])
        if source in graph.inputs:
            moved[source] = output
        elif output in ends:
            moved[output] = source
        else:
            kept.append(operator)
    graph.operators = kept
    graph.inputs = [moved[int(index)] for index in graph.inputs]
    graph.outputs = [moved[int(index)] for index in graph.outputs]
    while len(graph.tensors) - 1 in moved:  # Those that `with_borders` appended.
        graph.tensors.pop()
    _move_signatures(parsed, moved, moved)


def to_border(codes: np.ndarray, io: str, scale: float, zero_point: int) -> np.ndarray:
    """What a border has for int8 codes of a tensor behind or before it.

    Args:
      codes: int8.
      io: one of `TYPES`.
      scale: of the int8 tensor.
      zero_point: of the int8 tensor.
    """
    if io == "int8":
        return codes
    if io == "uint8":
        return (codes.astype(np.int16) + _OFFSET).astype(np.uint8)
    return (codes.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
