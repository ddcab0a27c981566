"""Writes an integer graph as a TFLite flatbuffer, directly over the TFLite schema.

No operator is added, merged or rounded again: every integer in the graph is in the file. Kernel
and bias constants carry quantization parameters (XNNPACK drops a node whose bias has none), and
buffers are inline.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.flatbuffer import metadata_writer
from export.flatbuffer.editing import pack
from export.flatbuffer.opcodes import (
    Opcode,
    constants,
    min_runtime_version,
    opcode,
    relu_opcode,
)
from export.ir import weight_dtypes
from export.ir.graph import IntegerGraph
from export.ir.operators import Operator, Pad, TransposeConv2D, Weighted
from export.ir.validation import check_integers, validate
from export.kernel_sets.rules import is_per_tensor
from wrpn_tf import QuantizationParameters

SIGNATURE = "serving_default"
_SCHEMA_VERSION = 3
_KERNEL_TYPES = {
    8: schema.TensorType.INT8,
    4: schema.TensorType.INT4,
    2: schema.TensorType.INT2,
}
_TYPES = {
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int32): schema.TensorType.INT32,
}


def to_flatbuffer(graph: IntegerGraph) -> bytes:
    """The graph as the bytes of a .tflite file.

    Args:
      graph: the graph; validated first. ``graph.metadata`` may hold 'name', 'description',
        'labels' and 'normalization' (by input, ``{'mean': [...], 'std': [...]}``) for the file's
        metadata.

    Returns:
      A flatbuffer with identifier TFL3, with the labels (if any) appended as a zip archive.

    Raises:
      TypeError: the graph is a trained one, without integers.
      ValueError: the graph is not valid.
    """
    check_integers(graph)
    validate(graph)
    return _Writer(graph).write()


class _Writer:
    """Collects buffers, tensors and operators of one model."""

    def __init__(self, graph: IntegerGraph) -> None:
        self._graph = graph
        self._buffers: list[Any] = [schema.BufferT()]  # buffer 0 is the empty one
        self._tensors: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._index = {
            name: self._tensor(
                name, tensor.shape, schema.TensorType.INT8, _per_tensor(tensor.quantization)
            )
            for name, tensor in graph.tensors.items()
        }

    def write(self) -> bytes:
        graph = self._graph
        operators = [each for operator in graph.operators for each in self._operators(operator)]
        subgraph = schema.SubGraphT()
        subgraph.name = "main"
        subgraph.tensors = self._tensors
        subgraph.operators = operators
        subgraph.inputs = [self._index[name] for name in graph.inputs]
        subgraph.outputs = [self._index[name] for name in graph.outputs]

        model = schema.ModelT()
        model.version = _SCHEMA_VERSION
        model.description = graph.metadata.get("description") or graph.metadata.get("name") or ""
        model.operatorCodes = [_operator_code(*code) for code in self._codes]
        model.subgraphs = [subgraph]
        model.signatureDefs = [self._signature()]
        model.metadata = [
            self._metadata("min_runtime_version", self._runtime_version().ljust(16, b"\0")),
            self._metadata("TFLITE_METADATA", metadata_writer.model_metadata(graph)),
        ]
        model.buffers = self._buffers
        return metadata_writer.append_labels(pack(model), graph)

    def _tensor(self, name: str, shape: tuple[int, ...], kind: int, quantization: Any) -> int:
        tensor = schema.TensorT()
        tensor.name = name
        tensor.shape = list(shape)
        tensor.type = kind
        tensor.buffer = 0
        tensor.quantization = quantization
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _buffer(self, data: bytes) -> int:
        buffer = schema.BufferT()
        buffer.data = data
        self._buffers.append(buffer)
        return len(self._buffers) - 1

    def _constant(self, name: str, array: np.ndarray, quantization: Any = None) -> int:
        index = self._tensor(name, array.shape, _TYPES[array.dtype], quantization)
        little_endian = array.astype(array.dtype.newbyteorder("<"))
        self._tensors[index].buffer = self._buffer(little_endian.tobytes())
        return index

    def _kernel(self, operator: Weighted, quantization: Any) -> int:
        name = f"{operator.output}/kernel"
        kind = _KERNEL_TYPES[operator.dtype_bits]
        index = self._tensor(name, operator.kernel.shape, kind, quantization)
        packed = weight_dtypes.pack(operator.kernel, operator.dtype_bits)
        self._tensors[index].buffer = self._buffer(packed.tobytes())
        return index

    def _runtime_version(self) -> bytes:
        return ".".join(map(str, min_runtime_version(self._graph))).encode()

    def _metadata(self, name: str, data: bytes) -> Any:
        entry = schema.MetadataT()
        entry.name = name
        entry.buffer = self._buffer(data)
        return entry

    def _signature(self) -> Any:
        signature = schema.SignatureDefT()
        signature.signatureKey = SIGNATURE
        signature.subgraphIndex = 0
        signature.inputs = [self._tensor_map(name) for name in self._graph.inputs]
        signature.outputs = [self._tensor_map(name) for name in self._graph.outputs]
        return signature

    def _tensor_map(self, name: str) -> Any:
        entry = schema.TensorMapT()
        entry.name = name
        entry.tensorIndex = self._index[name]
        return entry

    def _operators(self, operator: Operator) -> list[Any]:
        """One operator; two for a transposed convolution with a ReLU."""
        found, output = opcode(self._graph, operator), self._index[operator.output]
        inputs = [self._index[name] for name in operator.inputs]
        if isinstance(operator, Weighted):
            inputs += self._weights(operator)
        inputs += [
            self._constant(f"{operator.output}/{name}", np.array(values, np.int32))
            for name, values in constants(self._graph, operator).items()
        ]
        if isinstance(operator, Pad) and operator.lowest:
            inputs.append(self._fill(operator))
        if isinstance(operator, TransposeConv2D):
            return self._transposed(operator, found, inputs, output)
        return [self._operator(found, inputs, output)]

    def _fill(self, operator: Pad) -> int:
        """The code that PADV2 pads with, on the grid of its output."""
        quantization = self._graph.tensors[operator.output].quantization
        value = np.array([operator.value(quantization)], np.int8)
        return self._constant(f"{operator.output}/fill", value, _per_tensor(quantization))

    def _transposed(
        self, operator: TransposeConv2D, found: Opcode, inputs: list[int], output: int
    ) -> list[Any]:
        """TRANSPOSE_CONV has its inputs in another order, and no fused activation."""
        source, kernel, bias, shape = inputs
        inputs = [shape, kernel, source, bias]
        if not operator.relu:
            return [self._operator(found, inputs, output)]
        tensor = self._graph.tensors[operator.output]
        linear = self._tensor(
            f"{operator.output}/linear",
            tensor.shape,
            schema.TensorType.INT8,
            _per_tensor(tensor.quantization),
        )
        return [
            self._operator(found, inputs, linear),
            self._operator(relu_opcode(), [linear], output),
        ]

    def _operator(self, found: Opcode, inputs: list[int], output: int) -> Any:
        key = (found.code, found.version)
        result = schema.OperatorT()
        result.opcodeIndex = self._codes.setdefault(key, len(self._codes))
        result.inputs = inputs
        result.outputs = [output]
        result.builtinOptionsType = found.options_type
        result.builtinOptions = found.options
        return result

    def _weights(self, operator: Weighted) -> list[int]:
        input_scale = np.float32(self._graph.tensors[operator.inputs[0]].quantization.scale)
        scale = operator.kernel_scale
        if is_per_tensor(type(operator), operator.kernel_scale, operator.dtype_bits):
            scale = scale[:1]
        bias_scale = _per_channel(input_scale * scale, 0)
        return [
            self._kernel(operator, _per_channel(scale, operator.channel_axis)),
            self._constant(f"{operator.output}/bias", operator.bias, bias_scale),
        ]


def _per_channel(scale: np.ndarray, axis: int) -> Any:
    quantization = schema.QuantizationParametersT()
    quantization.scale = scale.astype(np.float32)
    quantization.zeroPoint = np.zeros(len(scale), np.int64)
    quantization.quantizedDimension = axis
    return quantization


def _per_tensor(parameters: QuantizationParameters) -> Any:
    quantization = schema.QuantizationParametersT()
    quantization.scale = [float(parameters.scale)]
    quantization.zeroPoint = [int(parameters.zero_point)]
    return quantization


def _operator_code(code: int, version: int) -> Any:
    result = schema.OperatorCodeT()
    result.builtinCode = code
    result.deprecatedBuiltinCode = code
    result.version = version
    return result
