"""Reads any .tflite file: every offset, index and size is checked before anything is believed.

The flatbuffer is read through the accessors of the generated schema into plain records. What does
not fit together (an offset behind the end of the file, an index of a tensor that is not there, a
constant whose bytes do not fill its shape, an operator that reads what nothing wrote) is one
`ValueError`: TFLite's loaders accept some of these files and crash on them.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.flatbuffer.records import BITS, CUSTOM, Model, Operator, Subgraph, Tensor
from export.ir import weight_dtypes
from wrpn_tf.files import read_bytes

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_IDENTIFIER = slice(4, 8)
_MAX_RANK = 16
_MAX_TENSOR_BYTES = 2**31
MOST_TABLES = 2**18
"""Tensors, operators, buffers and what else a file may list, together."""
MOST_COMPUTED_BYTES = 2**28
"""Of one tensor that is no constant, and of all inputs together."""
# Tables may share what they point to. Read once for each, it must not be much more than the file.
_TEXT_SHARE, _DATA_SHARE = 2, 64
_TYPE_NAMES = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
_OPERATOR_NAMES = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()
}
# Inputs that an operator cannot do without.
_LEAST_INPUTS = {
    **dict.fromkeys(
        "AVERAGE_POOL_2D MAX_POOL_2D QUANTIZE SOFTMAX LOGISTIC RESHAPE PACK".split(), 1
    ),
    **dict.fromkeys("CONCATENATION SQUEEZE TANH RELU RELU6 RSQRT SPACE_TO_DEPTH".split(), 1),
    **dict.fromkeys(("ADD SUB MUL MAXIMUM MINIMUM SQUARED_DIFFERENCE PRELU SPLIT".split()), 2),
    **dict.fromkeys(("MEAN SUM REDUCE_MAX REDUCE_MIN PAD TILE EXPAND_DIMS TRANSPOSE".split()), 2),
    **dict.fromkeys((*WEIGHTED, "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), 2),
    **dict.fromkeys(("SLICE", "TRANSPOSE_CONV", "PADV2"), 3),
    "STRIDED_SLICE": 4,
}
# What reading past the end, or a text that is not one, raises in flatbuffers, struct and NumPy.
UNREADABLE = (struct.error, ValueError, TypeError, IndexError, OverflowError, AttributeError)
_Read = TypeVar("_Read")


def read(content: bytes) -> Model:
    """Reads and checks the bytes of a .tflite file.

    Raises:
      ValueError: they are not a sound TFLite model; the message says what is wrong.
    """
    if not content:
        raise ValueError("not a TFLite model: the file is empty")
    if bytes(content[_IDENTIFIER]) != b"TFL3":
        raise ValueError("not a TFLite model: the identifier TFL3 is missing")
    try:
        return _Reader(bytes(content)).model()
    except Unsound as error:
        raise ValueError(f"not a sound TFLite model: {error}") from error
    except UNREADABLE as error:
        raise ValueError("not a sound TFLite model: cut short or overwritten") from error


class Unsound(Exception):
    """What does not fit together in a file whose tables can be read."""


class _Reader:
    """Reads one file. Counts what it reads: tables that share their parts can be endless."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._indices = len(content) // 4
        self._tables = min(MOST_TABLES, len(content) // 4)  # Each takes 4 bytes where it is listed.
        self._text = _TEXT_SHARE * len(content)
        self._data = _DATA_SHARE * len(content)
        self._root = schema.Model.GetRootAs(content, 0)

    def model(self) -> Model:
        root = self._root
        self._count_the_rest()
        subgraphs = self._each(root.SubgraphsLength(), lambda i: self._subgraph(root.Subgraphs(i)))
        if not subgraphs:
            raise Unsound("it holds no network")
        entries = self._each(root.MetadataLength(), lambda i: self._metadata(root.Metadata(i)))
        return Model(subgraphs=subgraphs, metadata=dict(entries), content=self._content)

    def _each(self, length: int, item: Callable[[int], _Read]) -> tuple[_Read, ...]:
        return tuple(item(index) for index in range(self._count(length)))

    def _count(self, length: int) -> int:
        """Counts tables that are listed."""
        self._tables -= length
        if self._tables < 0:
            if len(self._content) > 4 * MOST_TABLES:
                raise Unsound(f"it has more than {MOST_TABLES:,} parts")
            raise Unsound("it claims more parts than its bytes can hold")
        return length

    def _spend(self, text: int = 0, data: int = 0) -> None:
        """Counts bytes that are read once more."""
        self._text -= text
        self._data -= data
        if self._text < 0 or self._data < 0:
            raise Unsound("its parts share their bytes too often")

    def _string(self, content: bytes | None) -> str:
        self._spend(text=len(content or b""))
        return (content or b"").decode()

    def _count_the_rest(self) -> None:
        """Counts the parts that are not read here, but by what changes files."""
        root, text = self._root, self._string
        text(root.Description())
        buffers = [root.Buffers(index) for index in range(self._count(root.BuffersLength()))]
        for buffer in buffers:
            self._spend(data=buffer.DataLength() + (buffer.Size() if buffer.Offset() > 1 else 0))
        for index in range(self._count(root.OperatorCodesLength())):
            text(root.OperatorCodes(index).CustomCode())
        for index in range(self._count(root.SignatureDefsLength())):
            signature = root.SignatureDefs(index)
            text(signature.SignatureKey())
            for length, entry in (
                (signature.InputsLength(), signature.Inputs),
                (signature.OutputsLength(), signature.Outputs),
            ):
                for place in range(self._count(length)):
                    text(entry(place).Name())

    def _metadata(self, entry: Any) -> tuple[str, bytes]:
        data, _ = self._buffer(entry.Buffer())
        content = bytes(data or b"")
        self._spend(text=len(content))
        return self._string(entry.Name()), content

    @functools.cache  # noqa: B019  A reader lives as long as one file is read.
    def _buffer(self, index: int) -> tuple[memoryview | None, bool]:
        """A buffer's content, None where it is empty, and whether it lies outside."""
        if index >= self._root.BuffersLength():
            raise Unsound(f"there is no buffer {index}")
        buffer = self._root.Buffers(index)
        if buffer.Offset() > 1:  # 1 marks a buffer whose place was never filled in
            start, size = buffer.Offset(), buffer.Size()
            if start + size > len(self._content):
                raise Unsound(f"buffer {index} reaches behind the end of the file")
            return memoryview(self._content)[start : start + size], True
        if not buffer.DataLength():
            return None, False
        return memoryview(buffer.DataAsNumpy()), False  # type: ignore[arg-type]

    def _subgraph(self, table: Any) -> Subgraph:
        tensors = self._each(table.TensorsLength(), lambda i: self._tensor(table.Tensors(i)))

        def indices(values: Any, optional: bool = False) -> tuple[int, ...]:
            found = () if values is None else tuple(np.atleast_1d(values).tolist())
            low = -1 if optional else 0
            for index in found:
                if not low <= index < len(tensors):
                    raise Unsound(f"there is no tensor {index}")
            return found

        def vector(length: int, array: Callable[[], Any]) -> Any:
            self._indices -= length
            if self._indices < 0:
                raise Unsound("it claims more parts than its bytes can hold")
            return array() if length else None

        def operator(index: int) -> Operator:
            item = table.Operators(index)
            code, name, version = self._code(item.OpcodeIndex())
            return Operator(
                code=code,
                name=name,
                version=version,
                inputs=indices(vector(item.InputsLength(), item.InputsAsNumpy), optional=True),
                outputs=indices(vector(item.OutputsLength(), item.OutputsAsNumpy)),
                options=_options(item),
            )

        subgraph = Subgraph(
            tensors=tensors,
            operators=self._each(table.OperatorsLength(), operator),
            inputs=indices(vector(table.InputsLength(), table.InputsAsNumpy)),
            outputs=indices(vector(table.OutputsLength(), table.OutputsAsNumpy)),
        )
        _check_order(subgraph)
        _check_inputs(subgraph)
        return subgraph

    @functools.cache  # noqa: B019
    def _code(self, index: int) -> tuple[int, str, int]:
        """Builtin code, name and version of an operator code."""
        if index >= self._root.OperatorCodesLength():
            raise Unsound(f"there is no operator code {index}")
        code = self._root.OperatorCodes(index)
        # Files from before 2020 have the deprecated field alone, which ends at 127.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if number == CUSTOM:
            return number, self._string(code.CustomCode()), code.Version()
        return number, _OPERATOR_NAMES.get(number, f"BUILTIN_{number}"), code.Version()

    def _tensor(self, table: Any) -> Tensor:
        name = self._string(table.Name())
        kind = _TYPE_NAMES.get(table.Type())
        if kind is None:
            raise Unsound(f"tensor {name!r} is of the unknown type {table.Type()}")
        if max(table.ShapeLength(), table.ShapeSignatureLength()) > _MAX_RANK:
            raise Unsound(f"tensor {name!r} has more than {_MAX_RANK} dimensions")
        shape = tuple(table.Shape(i) for i in range(table.ShapeLength()))
        signature = tuple(table.ShapeSignature(i) for i in range(table.ShapeSignatureLength()))
        quantization = table.Quantization()
        if quantization is not None:
            self._spend(data=4 * quantization.ScaleLength() + 8 * quantization.ZeroPointLength())
        scale, zero_point, axis = _quantization(quantization, name, shape)
        data, external = self._buffer(table.Buffer())
        self._spend(data=len(data or b""))
        sparsity = table.Sparsity()
        self._count(table.VariantTensorsLength())
        self._count(0 if sparsity is None else sparsity.DimMetadataLength())
        tensor = Tensor(
            name=name,
            type=kind,
            shape=shape,
            signature=signature or None,
            scale=scale,
            zero_point=zero_point,
            axis=axis,
            data=data,
            external=external,
            variable=bool(table.IsVariable()),
        )
        _check_size(tensor, sparse=sparsity is not None)
        return tensor


def _quantization(
    table: Any, name: str, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Scales, zero points and their dimension."""
    empty = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    if table is None or not table.ScaleLength():
        return empty
    scale = np.asarray(table.ScaleAsNumpy())
    zero_point = np.asarray(table.ZeroPointAsNumpy()) if table.ZeroPointLength() else empty[1]
    axis = table.QuantizedDimension()
    if len(scale) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scale)):
        raise Unsound(f"tensor {name!r} has {len(scale)} scales for its shape {list(shape)}")
    if len(zero_point) not in (0, 1, len(scale)):
        raise Unsound(f"tensor {name!r} has {len(zero_point)} zero points, {len(scale)} scales")
    if not np.isfinite(scale).all() or (scale < 0).any():
        raise Unsound(f"tensor {name!r} has a scale that is not a positive number")
    return scale, zero_point, axis


def _check_size(tensor: Tensor, sparse: bool) -> None:
    if any(size < 0 for size in tensor.shape):
        raise Unsound(f"tensor {tensor.name!r} has the shape {list(tensor.shape)}")
    if tensor.type not in BITS:
        return
    expected = (tensor.size * BITS[tensor.type] + 7) // 8
    if expected > (MOST_COMPUTED_BYTES if tensor.data is None or sparse else _MAX_TENSOR_BYTES):
        raise Unsound(f"tensor {tensor.name!r} would take {expected:,} bytes")
    if tensor.data is not None and not sparse and len(tensor.data) != expected:
        raise Unsound(
            f"tensor {tensor.name!r} has {len(tensor.data):,} bytes of data, "
            f"its shape {list(tensor.shape)} of {tensor.type} takes {expected:,}"
        )


def _check_order(subgraph: Subgraph) -> None:
    """Operators have what they write, and what they read was written or given before."""
    tensors = subgraph.tensors
    ready = {
        index
        for index, tensor in enumerate(tensors)
        if tensor.data is not None or tensor.variable or not tensor.size
    } | {-1, *subgraph.inputs}
    for number, operator in enumerate(subgraph.operators):
        needed = operator.inputs[: _LEAST_INPUTS.get(operator.name, 0)]
        complete = len(needed) == _LEAST_INPUTS.get(operator.name, 0) and -1 not in needed
        if not complete or not operator.outputs:
            raise Unsound(f"operator {number} ({operator.name}) lacks inputs or outputs")
        for index in operator.inputs:
            if index not in ready:
                raise Unsound(
                    f"operator {number} ({operator.name}) reads {tensors[index].name!r}, "
                    "which nothing has written"
                )
        ready.update(operator.outputs)
    for index in subgraph.outputs:
        if index not in ready:
            raise Unsound(f"nothing writes the output {tensors[index].name!r}")


def _check_inputs(subgraph: Subgraph) -> None:
    tensors = [subgraph.tensors[index] for index in subgraph.inputs]
    total = sum(tensor.size * BITS.get(tensor.type, 8) for tensor in tensors) // 8
    if total > MOST_COMPUTED_BYTES:
        raise Unsound(f"its inputs would take {total:,} bytes")


def _options(operator: Any) -> dict[str, Any]:
    union = operator.BuiltinOptions()
    if union is None:
        return {}
    options = schema.BuiltinOptionsCreator(operator.BuiltinOptionsType(), union)
    return {} if options is None else dict(vars(options))


def read_path(path: str | os.PathLike[str]) -> Model:
    """Reads and checks a .tflite file.

    Raises:
      ValueError: it cannot be read or is not a sound TFLite model; the message names it.
    """
    content = read_bytes(path)
    try:
        return read(content)
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from error


def kernels(content: bytes) -> dict[str, np.ndarray]:
    """The kernels of a model, by the name of the tensor that their operator writes.

    INT4 and INT2 kernels are unpacked to int8. A RELU behind a kernel is part of its operator.
    """
    graph = read(content).main
    clipped = {op.inputs[0]: op.outputs[0] for op in graph.operators if op.name == "RELU"}
    found = {}
    for operator in graph.operators:
        if operator.name in WEIGHTED:
            output = clipped.get(operator.outputs[0], operator.outputs[0])
            kernel = operator.inputs[1]
            found[graph.tensors[output].name] = graph.tensors[kernel].array()
    return found


def weights(content: bytes) -> str:
    """The storage of a model's kernels, by its narrowest tensor: 'int8', 'int4' or 'int2'."""
    bits = min((BITS.get(tensor.type, 8) for tensor in read(content).main.tensors), default=8)
    return weight_dtypes.choice(min(bits, 8))


def float_tensors(content: bytes) -> list[str]:
    """Names of the tensors of a model that are not integers."""
    integers = ("INT2", "INT4", "INT8", "INT32")
    return [tensor.name for tensor in _all_tensors(content) if tensor.type not in integers]


def _all_tensors(content: bytes) -> Iterator[Tensor]:
    return (tensor for subgraph in read(content).subgraphs for tensor in subgraph.tensors)
