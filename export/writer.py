"""Writes an integer graph as a TFLite flatbuffer, directly over the TFLite schema.

No operator is added, merged or rounded again: every integer in the graph is in the file. Kernel
and bias constants carry quantization parameters (XNNPACK drops a node whose bias has none),
buffers are inline, and operator versions are the lowest that mean int8, which is what
fixed-function compilers and older runtimes parse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export import metadata
from export.graph import (
    Add,
    Concatenate,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Grid,
    IntegerGraph,
    Operator,
    Pad,
    Pool2D,
    Reshape,
    Softmax,
    Weighted,
)
from export.kernels import is_per_tensor
from export.tflite_edit import pack

SIGNATURE = "serving_default"
_SCHEMA_VERSION = 3
# Every int8 operator below was in TensorFlow Lite 1.14.
_MIN_RUNTIME_VERSION = "1.14.0"
_TYPES = {
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int32): schema.TensorType.INT32,
}
_VERSIONS = {
    schema.BuiltinOperator.CONV_2D: 3,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: 3,
    schema.BuiltinOperator.FULLY_CONNECTED: 4,
    schema.BuiltinOperator.ADD: 2,
    schema.BuiltinOperator.MAX_POOL_2D: 2,
    schema.BuiltinOperator.AVERAGE_POOL_2D: 2,
    schema.BuiltinOperator.CONCATENATION: 2,
    schema.BuiltinOperator.PAD: 2,
    schema.BuiltinOperator.RESHAPE: 1,
    schema.BuiltinOperator.SOFTMAX: 2,
}


def to_flatbuffer(graph: IntegerGraph, *, expose_all: bool = False) -> bytes:
    """The graph as the bytes of a .tflite file.

    Args:
      graph: the graph; validated first. ``graph.metadata`` may hold 'name', 'description',
        'labels' and 'normalization' (``{'mean': [...], 'std': [...]}``) for the file's metadata.
      expose_all: make every tensor that an operator writes an output of the model. XNNPACK keeps
        the tensors between its nodes to itself, so a reader of intermediate codes needs this
        variant; its operators, constants and arithmetic are those of the plain file.

    Returns:
      A flatbuffer with identifier TFL3, with the labels (if any) appended as a zip archive.

    Raises:
      ValueError: the graph is not valid.
    """
    graph.validate()
    return _Writer(graph, expose_all).write()


class _Writer:
    """Collects buffers, tensors and operators of one model."""

    def __init__(self, graph: IntegerGraph, expose_all: bool) -> None:
        self._graph = graph
        self._expose_all = expose_all
        self._buffers: list[Any] = [schema.BufferT()]  # buffer 0 is the empty one
        self._tensors: list[Any] = []
        self._codes: dict[int, int] = {}
        self._index = {
            name: self._tensor(
                name, tensor.shape, schema.TensorType.INT8, _quantization(tensor.grid)
            )
            for name, tensor in graph.tensors.items()
        }

    def write(self) -> bytes:
        graph = self._graph
        operators = [self._operator(operator) for operator in graph.operators]
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
        model.operatorCodes = [_operator_code(code) for code in self._codes]
        model.subgraphs = [subgraph]
        model.signatureDefs = [self._signature(outputs)]
        model.metadata = [
            self._metadata("min_runtime_version", _MIN_RUNTIME_VERSION.encode().ljust(16, b"\0")),
            self._metadata("TFLITE_METADATA", metadata.model_metadata(graph, outputs)),
        ]
        model.buffers = self._buffers
        return metadata.append_labels(pack(model), graph)

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

    def _operator(self, operator: Operator) -> Any:
        code, options_type, options = _options(operator)
        inputs = [self._index[name] for name in operator.inputs]
        if isinstance(operator, DepthwiseConv2D):
            depth = self._graph.tensors[operator.inputs[0]].shape[3]
            options.depthMultiplier = operator.kernel.shape[3] // depth
        if isinstance(operator, Weighted):
            inputs += self._weights(operator)
        elif isinstance(operator, Pad):
            amounts = np.array([(0, 0), *operator.padding, (0, 0)], np.int32)
            inputs.append(self._constant(f"{operator.output}/padding", amounts))
        elif isinstance(operator, Reshape):
            # -1 for the batch, so that the model runs after resize_tensor_input.
            shape = np.array([-1, *self._graph.tensors[operator.output].shape[1:]], np.int32)
            inputs.append(self._constant(f"{operator.output}/shape", shape))
            options.newShape = shape.tolist()
        result = schema.OperatorT()
        result.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        result.inputs = inputs
        result.outputs = [self._index[operator.output]]
        result.builtinOptionsType = options_type
        result.builtinOptions = options
        return result

    def _weights(self, operator: Weighted) -> list[int]:
        input_scale = np.float32(self._graph.tensors[operator.inputs[0]].grid.scale)
        scale = operator.kernel_scale
        if is_per_tensor(operator):
            scale = scale[:1]
        axis = 3 if isinstance(operator, DepthwiseConv2D) else 0
        name = operator.output
        return [
            self._constant(f"{name}/kernel", operator.kernel, _per_channel(scale, axis)),
            self._constant(f"{name}/bias", operator.bias, _per_channel(input_scale * scale, 0)),
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


def _operator_code(code: int) -> Any:
    result = schema.OperatorCodeT()
    result.builtinCode = code
    result.deprecatedBuiltinCode = code  # all in use are below 127
    result.version = _VERSIONS[code]
    return result


def _activation(relu: bool) -> int:
    kinds = schema.ActivationFunctionType
    return kinds.RELU if relu else kinds.NONE


def _padding(padding: str) -> int:
    return schema.Padding.SAME if padding == "SAME" else schema.Padding.VALID


def _options(operator: Operator) -> tuple[int, int, Any]:
    """Builtin code, options type and options table of an operator."""
    codes, kinds = schema.BuiltinOperator, schema.BuiltinOptions
    options: Any
    if isinstance(operator, (Conv2D, DepthwiseConv2D)):
        depthwise = isinstance(operator, DepthwiseConv2D)
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        options.padding = _padding(operator.padding)
        options.strideH, options.strideW = operator.strides
        options.dilationHFactor, options.dilationWFactor = operator.dilation
        options.fusedActivationFunction = _activation(operator.relu)
        if depthwise:
            return codes.DEPTHWISE_CONV_2D, kinds.DepthwiseConv2DOptions, options
        return codes.CONV_2D, kinds.Conv2DOptions, options
    if isinstance(operator, FullyConnected):
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = _activation(operator.relu)
        return codes.FULLY_CONNECTED, kinds.FullyConnectedOptions, options
    if isinstance(operator, Add):
        options = schema.AddOptionsT()
        options.fusedActivationFunction = _activation(operator.relu)
        return codes.ADD, kinds.AddOptions, options
    if isinstance(operator, Pool2D):
        options = schema.Pool2DOptionsT()
        options.padding = _padding(operator.padding)
        options.strideH, options.strideW = operator.strides
        options.filterHeight, options.filterWidth = operator.window
        code = codes.MAX_POOL_2D if operator.kind == "max" else codes.AVERAGE_POOL_2D
        return code, kinds.Pool2DOptions, options
    if isinstance(operator, Concatenate):
        options = schema.ConcatenationOptionsT()
        options.axis = operator.axis
        return codes.CONCATENATION, kinds.ConcatenationOptions, options
    if isinstance(operator, Pad):
        return codes.PAD, kinds.PadOptions, schema.PadOptionsT()
    if isinstance(operator, Reshape):
        return codes.RESHAPE, kinds.ReshapeOptions, schema.ReshapeOptionsT()
    if isinstance(operator, Softmax):
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return codes.SOFTMAX, kinds.SoftmaxOptions, options
    raise TypeError(f"{type(operator).__name__} has no TFLite operator")
