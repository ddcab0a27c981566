"""Reading .tflite files back: constants, and a variant that shows every tensor."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export import storage

_WEIGHTED = (
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
)
_KERNEL_BITS = {
    schema.TensorType.INT8: 8,
    schema.TensorType.INT4: 4,
    schema.TensorType.INT2: 2,
}


def kernels(model: bytes) -> dict[str, np.ndarray]:
    """The kernels of a .tflite file as int8, by the name of the tensor that their operator writes.

    Raises:
      ValueError: a buffer is not of its tensor's size.
    """
    parsed = _parse(model)
    (graph,) = parsed.subgraphs
    found = {}
    for operator in graph.operators:
        if parsed.operatorCodes[operator.opcodeIndex].builtinCode in _WEIGHTED:
            tensor = graph.tensors[operator.inputs[1]]
            data = np.asarray(parsed.buffers[tensor.buffer].data, np.uint8)
            name = graph.tensors[operator.outputs[0]].name.decode()
            found[name] = storage.unpack(data, _KERNEL_BITS[tensor.type], tuple(tensor.shape))
    return found


def weights(model: bytes) -> str:
    """The storage of a .tflite file's kernels, by its narrowest: 'int8', 'int4' or 'int2'."""
    (graph,) = _parse(model).subgraphs
    bits = min(_KERNEL_BITS.get(tensor.type, 8) for tensor in graph.tensors)
    return next(name for name, value in storage.WEIGHTS.items() if value == bits)


def tensor_names(model: bytes) -> set[str]:
    """Names of all tensors of a .tflite file."""
    return {tensor.name.decode() for graph in _parse(model).subgraphs for tensor in graph.tensors}


def float_tensors(model: bytes) -> list[str]:
    """Names of the tensors of a .tflite file that are not integers."""
    integers = (*_KERNEL_BITS, schema.TensorType.INT32)
    return [
        tensor.name.decode()
        for graph in _parse(model).subgraphs
        for tensor in graph.tensors
        if tensor.type not in integers
    ]


def expose_tensors(model: bytes) -> bytes:
    """The same model with every tensor that an operator writes as an output.

    XNNPACK does not fill tensors between its own nodes; as outputs it must. Operators, constants
    and arithmetic stay those of the file.
    """
    parsed = _parse(model)
    (graph,) = parsed.subgraphs
    graph.outputs = [tensor for operator in graph.operators for tensor in operator.outputs]
    parsed.signatureDefs = []
    builder = flatbuffers.Builder(len(model))
    builder.Finish(parsed.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _parse(model: bytes) -> Any:
    return schema.ModelT.InitFromPackedBuf(model, 0)
