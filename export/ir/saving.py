"""IntegerGraph to and from one .npz file.

Members: ``graph`` is a JSON string with the structure, every other member is one array of one
operator, named ``<operator index>.<field>``. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import io
import json
import lzma
import math
import os
import typing
import zipfile
import zlib
from typing import Any, TypeVar, cast

import numpy as np

from export.ir import packed_kernels
from export.ir.graph import IntegerGraph
from export.ir.operators import OPERATORS, Operator, Weighted
from export.ir.provenance import Provenance, SplitConvolution, check_trained
from export.ir.tensors import Tensor
from export.ir.validation import check_integers, validate
from wrpn_tf import QuantizationParameters
from wrpn_tf.files import read_bytes, write_bytes
from wrpn_tf.saved_sizes import check_members, read_member

FORMAT_VERSION = 2
MOST_BYTES = 2**30
"""What a saved graph may have uncompressed."""
MOST_OPERATORS = 10_000
"""The operators, and the tensors, that a saved graph may have."""
_MOST_STRUCTURE_BYTES = 2**26
_LARGEST_NUMBER = float(np.finfo(np.float32).max)
_LZMA_MEMORY = 2**27  # Twice what the highest level takes.
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What malformed archives, headers and structures raise.
_UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    EOFError,
    NotImplementedError,
    RuntimeError,  # An encrypted member.
    RecursionError,
    ArithmeticError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
_Value = TypeVar("_Value")
_XZ = b"\xfd7zXZ\0"


def save(graph: IntegerGraph, path: str | os.PathLike[str], *, compressed: bool = False) -> None:
    """Writes `graph` to `path`, completely or not at all.

    Args:
      graph: the graph; validated first.
      path: file to write or to replace; no suffix is added.
      compressed: leave out what only `export.prove` needs, and compress the whole by LZMA, to 1.2
        to 1.4 times the entropy of the codes: ``xz -d`` makes it a .npz file again.

    Raises:
      TypeError: the graph is a trained one, without integers.
      ValueError: the graph is not valid, or the file cannot be written (`WriteError`).
    """
    check_integers(graph)
    validate(graph)
    arrays: dict[str, Any] = {}
    operators = []
    for index, operator in enumerate(graph.operators):
        fields: dict[str, Any] = {"type": type(operator).__name__}
        for field in dataclasses.fields(operator):
            value = getattr(operator, field.name)
            if compressed and field.name == "trained":
                continue
            if isinstance(value, np.ndarray):
                arrays[f"{index}.{field.name}"] = value
            else:
                fields[field.name] = value
        operators.append(fields)
    structure = {
        "format_version": FORMAT_VERSION,
        "tensors": {name: dataclasses.asdict(tensor) for name, tensor in graph.tensors.items()},
        "operators": operators,
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "metadata": graph.metadata,
        "provenance": dataclasses.asdict(graph.provenance),
    }
    text = np.array(json.dumps(structure, default=_plain))
    content = io.BytesIO()
    if compressed:
        np.savez(content, graph=text, **arrays)
        write_bytes(path, lzma.compress(content.getvalue()))
        return
    np.savez_compressed(content, graph=text, **arrays)
    write_bytes(path, content.getvalue())


def load(path: str | os.PathLike[str]) -> IntegerGraph:
    """Reads a graph that `save` wrote.

    Nothing is believed before it is checked: what the file says of sizes before memory is taken,
    and the type of every field before it is used.

    Raises:
      ValueError: the file is not an integer graph, has more than `MOST_BYTES` or `MOST_OPERATORS`,
        or is one of another format version.
      OSError: the file cannot be read.
    """
    name = os.fspath(path)
    os.stat(path)
    content = read_bytes(path)
    try:
        structure, arrays = _members(content)
        del content
        version = structure["format_version"]
        if version == 1:
            structure = _from_version_1(structure)
        if version in (1, FORMAT_VERSION):
            graph = _build(structure, arrays)
    except _TooLarge as error:
        raise ValueError(f"{name} {error}.") from error
    except _UNREADABLE as error:
        raise ValueError(
            f"{name} is not a saved integer graph, which export.tflite writes with "
            "--graph=model.npz."
        ) from error
    if version not in (1, FORMAT_VERSION):
        raise ValueError(
            f"{name} has integer graph format {version!r}; this version reads 1 to "
            f"{FORMAT_VERSION}."
        )
    try:
        validate(graph)
        for operator in graph.weighted:
            if operator.trained is not None:
                check_trained(operator.trained)
    except ValueError as error:
        raise ValueError(f"{name} holds a broken integer graph: {error}") from error
    return graph


class _TooLarge(Exception):
    """What a file has more of than is read."""


def _members(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The structure, and the arrays by name."""
    if content.startswith(_XZ):
        content = _decompressed(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        check_members(archive, MOST_BYTES)
        members = {each.filename.removesuffix(".npy"): each for each in archive.infolist()}
        if members["graph"].file_size > _MOST_STRUCTURE_BYTES:
            raise _TooLarge(f"has a structure of more than {_MOST_STRUCTURE_BYTES:,} bytes")
        structure = json.loads(str(_array(read_member(archive, members.pop("graph")))))
        arrays = {name: _array(read_member(archive, each)) for name, each in members.items()}
    return structure, arrays


def _decompressed(content: bytes) -> bytes:
    """What LZMA compressed, as `lzma.decompress` gives it, as long as it is not too large."""
    parts, size = [], 0
    while content.startswith(_XZ):
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, _LZMA_MEMORY)
        part = decompressor.decompress(content, MOST_BYTES - size + 1)
        size += len(part)
        if size > MOST_BYTES:
            raise _TooLarge(f"has more than {MOST_BYTES:,} bytes uncompressed")
        if not decompressor.eof:
            raise ValueError("cut short")
        parts.append(part)
        content = decompressor.unused_data.lstrip(b"\0")  # Streams are padded with zeros.
    return b"".join(parts)


def _array(content: bytes) -> np.ndarray:
    """The array of a .npy file; its header is checked before memory is taken for what it says."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"a .npy file of version {version}")
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"an array of {dtype} {shape}")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError("an array of another size than its header says")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _build(structure: dict[str, Any], arrays: dict[str, np.ndarray]) -> IntegerGraph:
    if max(len(structure["operators"]), len(structure["tensors"])) > MOST_OPERATORS:
        raise _TooLarge(f"has more than {MOST_OPERATORS:,} operators or tensors")
    tensors = {
        name: Tensor(
            shape=_typed(tuple(fields["shape"]), tuple[int, ...]),
            quantization=_quantization(fields["quantization"]),
        )
        for name, fields in structure["tensors"].items()
    }
    operators: list[Operator] = []
    left = MOST_BYTES
    for index, fields in enumerate(structure["operators"]):
        operator_type = OPERATORS[fields.pop("type")]
        values = {key: _tuples(value) for key, value in fields.items()}
        hints = typing.get_type_hints(operator_type)
        for field in dataclasses.fields(operator_type):
            key = f"{index}.{field.name}"
            if key in arrays:
                values[field.name] = arrays[key]
            elif f"{key}.digits" in arrays:
                packed = {part: arrays[f"{key}.{part}"] for part in packed_kernels.FIELDS}
                kernel_type = cast(type[Weighted], operator_type)
                kernel = packed_kernels.unpack(packed, kernel_type, left)
                left -= kernel.size
                values[field.name] = kernel
            if field.name in values:
                values[field.name] = _typed(values[field.name], hints[field.name])
        operators.append(operator_type(**values))
    return IntegerGraph(
        tensors=tensors,
        operators=operators,
        inputs=_typed(tuple(structure["inputs"]), tuple[str, ...]),
        outputs=_typed(tuple(structure["outputs"]), tuple[str, ...]),
        metadata=_metadata(structure["metadata"]),
        provenance=_provenance(structure["provenance"]),
    )


def _quantization(fields: dict[str, Any]) -> QuantizationParameters:
    quantization = QuantizationParameters(**fields)
    for name, hint in typing.get_type_hints(QuantizationParameters).items():
        _typed(getattr(quantization, name), hint)
    return quantization


def _metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata, where what a .tflite file has of it is of the right types."""
    for name in ("name", "description"):
        _typed(metadata.get(name), str | None)
    labels = metadata.get("labels")
    _typed(labels and tuple(labels), tuple[str, ...] | None)
    for values in (metadata.get("normalization") or {}).values():
        for name in ("mean", "std"):
            numbers = _typed(tuple(values[name]), tuple[float, ...])
            if not all(abs(number) <= _LARGEST_NUMBER for number in numbers):
                raise ValueError(f"{name} beyond float32")
    return metadata


def _provenance(fields: dict[str, Any]) -> Provenance:
    provenance = Provenance(
        layers=fields["layers"],
        quantization={
            name: _quantization(values) for name, values in fields["quantization"].items()
        },
        inexact_channels=fields["inexact_channels"],
        split_convolutions={
            name: SplitConvolution(
                source=_typed(values["source"], str),
                parts=_typed(tuple(values["parts"]), tuple[str, ...]),
            )
            for name, values in fields["split_convolutions"].items()
        },
    )
    _typed(tuple(provenance.layers.values()), tuple[str, ...])
    for counts in provenance.inexact_channels.values():
        _typed(tuple(counts.values()), tuple[int, ...])
    return provenance


def _from_version_1(structure: dict[str, Any]) -> dict[str, Any]:
    """The structure of a file of version 1, whose provenance was part of its metadata."""
    bits = {name: fields["bits"] for name, fields in structure["tensors"].items()}
    if not all(type(each) is int and 1 <= each <= 8 for each in bits.values()):
        raise ValueError("bits outside 1 to 8")
    tensors = {}
    for name, fields in structure["tensors"].items():
        quantization = QuantizationParameters.int8(**fields["grid"], bits=bits[name])
        tensors[name] = {
            "shape": fields["shape"],
            "quantization": dataclasses.asdict(quantization),
        }
    renamed = {"stretch": "code_multiplier", "storage": "dtype_bits"}
    operators = [
        {renamed.get(key, key): value for key, value in fields.items()}
        for fields in structure["operators"]
    ]
    metadata = dict(structure["metadata"])
    trained = metadata.pop("trained_grids", {})
    provenance = {
        "layers": metadata.pop("keras_layers", {}),
        "quantization": {
            name: {"scale": scale, "low": low, "high": high, "bits": bits[name]}
            for name, (scale, low, high) in trained.items()
        },
        "inexact_channels": metadata.pop("inexact_channels", {}),
        "split_convolutions": metadata.pop("split_groups", {}),
    }
    return structure | {
        "tensors": tensors,
        "operators": operators,
        "metadata": metadata,
        "provenance": provenance,
    }


def _typed(value: _Value, hint: Any) -> _Value:
    """The value, if it is of the type that a field is declared with.

    Raises:
      TypeError: it is not, or an integer has more than 32 bits.
    """
    if not _conforms(value, hint):
        raise TypeError(f"a field is no {hint}")
    return value


def _conforms(value: Any, hint: Any) -> bool:
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            return False
        expected = parts[:1] * len(value) if parts[-1] is ... else parts
        return len(value) == len(expected) and all(map(_conforms, value, expected))
    if parts:  # A union.
        return any(_conforms(value, part) for part in parts)
    if hint is float and type(value) is int:
        return True
    return type(value) is hint and (hint is not int or abs(value) < 2**31)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """NumPy scalars as the Python numbers JSON knows."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
