"""IntegerGraph to and from one .npz file.

Members: ``graph`` is a JSON string with the structure, every other member is one array of one
operator, named ``<operator index>.<field>``. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import io
import json
import lzma
import os
import zipfile
import zlib
from typing import Any, cast

import numpy as np

from export.ir import packed_kernels
from export.ir.files import write_bytes
from export.ir.graph import IntegerGraph
from export.ir.operators import OPERATORS, Operator, Weighted
from export.ir.provenance import Provenance, SplitConvolution
from export.ir.tensors import Tensor
from export.ir.validation import check_integers, validate
from wrpn_tf import QuantizationParameters

FORMAT_VERSION = 2
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
      ValueError: the graph is not valid, or the file cannot be written.
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

    Raises:
      ValueError: the file is not an integer graph, or one of another format version.
      OSError: the file cannot be read.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            content = file.read()
        if content.startswith(_XZ):
            content = lzma.decompress(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as members:
            structure = json.loads(str(members["graph"]))
            version = structure["format_version"]
            arrays = {key: members[key] for key in members.files if key != "graph"}
        if version == 1:
            structure = _from_version_1(structure)
        if version in (1, FORMAT_VERSION):
            graph = _build(structure, arrays)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        EOFError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        raise ValueError(f"{name} is not a saved integer graph.") from error
    if version not in (1, FORMAT_VERSION):
        raise ValueError(
            f"{name} has integer graph format {version}; this version reads 1 to {FORMAT_VERSION}."
        )
    try:
        validate(graph)
    except ValueError as error:
        raise ValueError(f"{name} holds a broken integer graph: {error}") from error
    return graph


def _build(structure: dict[str, Any], arrays: dict[str, np.ndarray]) -> IntegerGraph:
    tensors = {
        name: Tensor(
            shape=tuple(fields["shape"]),
            quantization=QuantizationParameters(**fields["quantization"]),
        )
        for name, fields in structure["tensors"].items()
    }
    operators: list[Operator] = []
    for index, fields in enumerate(structure["operators"]):
        operator_type = OPERATORS[fields.pop("type")]
        values = {key: _tuples(value) for key, value in fields.items()}
        for field in dataclasses.fields(operator_type):
            key = f"{index}.{field.name}"
            if key in arrays:
                values[field.name] = arrays[key]
            elif f"{key}.digits" in arrays:
                packed = {part: arrays[f"{key}.{part}"] for part in packed_kernels.FIELDS}
                values[field.name] = packed_kernels.unpack(
                    packed, cast(type[Weighted], operator_type)
                )
        operators.append(operator_type(**values))
    return IntegerGraph(
        tensors=tensors,
        operators=operators,
        inputs=tuple(structure["inputs"]),
        outputs=tuple(structure["outputs"]),
        metadata=structure["metadata"],
        provenance=_provenance(structure["provenance"]),
    )


def _provenance(fields: dict[str, Any]) -> Provenance:
    return Provenance(
        layers=fields["layers"],
        quantization={
            name: QuantizationParameters(**values)
            for name, values in fields["quantization"].items()
        },
        inexact_channels=fields["inexact_channels"],
        split_convolutions={
            name: SplitConvolution(source=values["source"], parts=tuple(values["parts"]))
            for name, values in fields["split_convolutions"].items()
        },
    )


def _from_version_1(structure: dict[str, Any]) -> dict[str, Any]:
    """The structure of a file of version 1, whose provenance was part of its metadata."""
    bits = {name: fields["bits"] for name, fields in structure["tensors"].items()}
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


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """NumPy scalars as the Python numbers JSON knows."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
