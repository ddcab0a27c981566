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
from export.flatbuffer.opcodes import Opcode, opcode, relu_opcode
from export.ir import weight_dtypes
from export.ir.graph import (
    DepthwiseConv2D,
    Grid,
    IntegerGraph,
    Operator,
    Pad,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    Slice,
    TransposeConv2D,
    Weighted,
)
from export.ir.validation import validate
from export.kernel_sets.rules import is_per_tensor

SIGNATURE = "serving_default"
_SCHEMA_VERSION = 3
# Most int8 operators were in TensorFlow Lite 1.14, INT4 kernels came with 2.11 (TFLite
# tools/versioning/runtime_version.cc).
_MIN_RUNTIME_VERSION = {8: (1, 14, 0), 4: (2, 11, 0), 2: (2, 11, 0)}
_OPERATOR_VERSIONS = {TransposeConv2D: (2, 3, 0), ResizeBilinear: (2, 2, 0)}
_KERNEL_TYPES = {
    8: schema.TensorType.INT8,
    4: schema.TensorType.INT4,
    2: schema.TensorType.INT2,
}
_TYPES = {
    np.dtype(np.int32): schema.TensorType.INT32,
}


def to_flatbuffer(graph: IntegerGraph, *, expose_all: bool = False) -> bytes:
    """The graph as the bytes of a .tflite file.

    Args:
      graph: the graph; validated first. ``graph.metadata`` may hold 'name', 'description',
        'labels' and 'normalization' (by input, ``{'mean': [...], 'std': [...]}``) for the file's
        metadata.
      expose_all: make every tensor that an operator writes an output of the model. XNNPACK keeps
        the tensors between its nodes to itself, so a reader of intermediate codes needs this
        variant; its operators, constants and arithmetic are those of the plain file.

    Returns:
      A flatbuffer with identifier TFL3, with the labels (if any) appended as a zip archive.

    Raises:
      ValueError: the graph is not valid.
    """
    validate(graph)
    return _Writer(graph, expose_all).write()


class _Writer:
    """Collects buffers, tensors and operators of one model."""

    def __init__(self, graph: IntegerGraph, expose_all: bool) -> None:
        self._graph = graph
        self._expose_all = expose_all
        self._buffers: list[Any] = [schema.BufferT()]  # buffer 0 is the empty one
        self._tensors: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._index = {
            name: self._tensor(
                name, tensor.shape, schema.TensorType.INT8, _quantization(tensor.grid)
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
        outputs = list(graph.outputs)
        if self._expose_all:
            written = (operator.output for operator in graph.operators)
            outputs += [name for name in written if name not in graph.outputs]
        subgraph.outputs = [self._index[name] for name in outputs]

        model = schema.ModelT()
        model.version = _SCHEMA_VERSION
        model.description = graph.metadata.get("description") or graph.metadata.get("name") or ""
        model.operatorCodes = [_operator_code(*code) for code in self._codes]
        model.subgraphs = [subgraph]
        model.signatureDefs = [self._signature(outputs)]
        model.metadata = [
            self._metadata("min_runtime_version", self._runtime_version().ljust(16, b"\0")),
            self._metadata("TFLITE_METADATA", metadata_writer.model_metadata(graph, outputs)),
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
        weighted = (op for op in self._graph.operators if isinstance(op, Weighted))
        narrowest = min((operator.dtype_bits for operator in weighted), default=8)
        needed = [_MIN_RUNTIME_VERSION[narrowest]]
        needed += [_OPERATOR_VERSIONS.get(type(op), (0, 0, 0)) for op in self._graph.operators]
        return ".".join(map(str, max(needed))).encode()

    def _metadata(self, name: str, data: bytes) -> Any:
        entry = schema.MetadataT()
        entry.name = name
        entry.buffer = self._buffer(data)
        return entry

    def _signature(self, outputs: list[str]) -> Any:
        signature = schema.SignatureDefT()
        signature.signatureKey = SIGNATURE
        signature.subgraphIndex = 0
        signature.inputs = [self._tensor_map(name) for name in self._graph.inputs]
        signature.outputs = [self._tensor_map(name) for name in outputs]
        return signature

    def _tensor_map(self, name: str) -> Any:
        entry = schema.TensorMapT()
        entry.name = name
        entry.tensorIndex = self._index[name]
        return entry

    def _operators(self, operator: Operator) -> list[Any]:
        """One operator; two for a transposed convolution with a ReLU."""
        found, output = opcode(self._graph, operator), self._index[operator.output]
        sources = [self._index[name] for name in operator.inputs]
        if not isinstance(operator, TransposeConv2D):
            return [self._operator(found, sources + self._constants(operator), output)]
        tensor = self._graph.tensors[operator.output]
        kernel, bias = self._weights(operator)
        inputs = [self._integers(f"{operator.output}/shape", tensor.shape), kernel, *sources, bias]
        if not operator.relu:
            return [self._operator(found, inputs, output)]
        linear = self._tensor(
            f"{operator.output}/linear",
            tensor.shape,
            schema.TensorType.INT8,
            _quantization(tensor.grid),
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

    def _constants(self, operator: Operator) -> list[int]:
        """The operator's constant inputs, which follow its tensors."""
        name, shape = operator.output, self._graph.tensors[operator.output].shape
        if isinstance(operator, Weighted):
            return self._weights(operator)
        if isinstance(operator, Pad):
            return [self._integers(f"{name}/padding", [(0, 0), *operator.padding, (0, 0)])]
        if isinstance(operator, Slice):
            begin = np.array([0, *operator.begin])
            return [
                self._integers(f"{name}/begin", begin),
                self._integers(f"{name}/end", begin + shape),
                self._integers(f"{name}/strides", np.ones(len(shape))),
            ]
        if isinstance(operator, (ResizeBilinear, ResizeNearest)):
            return [self._integers(f"{name}/size", shape[1:3])]
        if isinstance(operator, Reshape):
            return [self._integers(f"{name}/shape", [-1, *shape[1:]])]
        return []

    def _integers(self, name: str, values: Any) -> int:
        return self._constant(name, np.array(values, np.int32))

    def _weights(self, operator: Weighted) -> list[int]:
        input_scale = np.float32(self._graph.tensors[operator.inputs[0]].grid.scale)
        scale = operator.kernel_scale
        if is_per_tensor(type(operator), operator.kernel_scale, operator.dtype_bits):
            scale = scale[:1]
        axis = 3 if isinstance(operator, DepthwiseConv2D) else 0
        bias_scale = _per_channel(input_scale * scale, 0)
        return [
            self._kernel(operator, _per_channel(scale, axis)),
            self._constant(f"{operator.output}/bias", operator.bias, bias_scale),
        ]


def _per_channel(scale: np.ndarray, axis: int) -> Any:
    quantization = schema.QuantizationParametersT()
    quantization.scale = scale.astype(np.float32).tolist()
    quantization.zeroPoint = [0] * len(scale)
    quantization.quantizedDimension = axis
    return quantization


def _quantization(grid: Grid) -> Any:
    quantization = schema.QuantizationParametersT()
    quantization.scale = [float(grid.scale)]
    quantization.zeroPoint = [int(grid.zero_point)]
    return quantization


def _operator_code(code: int, version: int) -> Any:
    result = schema.OperatorCodeT()
    result.builtinCode = code
    result.deprecatedBuiltinCode = code
    result.version = version
    return result
