"""Reads what TFLite Metadata says of a file's first input and output: normalization and labels.

Slots follow metadata_schema.fbs 1.0, as in `export.flatbuffer.metadata_writer`, which writes them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flatbuffers.number_types as types
from flatbuffers.encode import Get
from flatbuffers.packer import uoffset
from flatbuffers.table import Table

from export.flatbuffer.archive import appended_files
from export.flatbuffer.reader import UNREADABLE, Model

_ENTRY = "TFLITE_METADATA"
_NORMALIZATION_OPTIONS = 1
_LABEL_TYPES = (2, 3)  # TENSOR_AXIS_LABELS, TENSOR_VALUE_LABELS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file says of how to use it.

    Attributes:
      mean: of pixels, one for all channels or one each; None: not said.
      std: the same for the standard deviation: ``real = (pixel - mean) / std``.
      labels: names of the first output's classes; None: not said.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None


def read_metadata(model: Model) -> Metadata:
    """Reads a model's metadata; what is missing or malformed there is None."""
    content = model.metadata.get(_ENTRY)
    if not content:
        return Metadata()
    try:
        root = _Reader(Table(content, Get(uoffset, content, 0)))
        subgraph = root.tables(3)[0]
        mean, std = _normalization(subgraph.tables(2)[0])
        return Metadata(mean=mean, std=std, labels=_labels(model, subgraph.tables(3)[0]))
    except UNREADABLE:
        return Metadata()


def _normalization(tensor: _Reader) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    for unit in tensor.tables(4):
        if unit.byte(0) == _NORMALIZATION_OPTIONS:
            options = unit.table(1)
            mean, std = options.floats(0), options.floats(1)
            if mean and std and 0 not in std:
                return mean, std
    return None, None


def _labels(model: Model, tensor: _Reader) -> tuple[str, ...] | None:
    files = appended_files(model.content)
    for file in tensor.tables(6):
        if file.byte(2) in _LABEL_TYPES and file.text(0) in files:
            return tuple(files[file.text(0)].decode().splitlines())
    return None


class _Reader:
    """Fields of a flatbuffer table by slot; empty where the field is missing."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def text(self, slot: int) -> str:
        at = self._at(slot)
        return self._table.String(at).decode() if at else ""

    def byte(self, slot: int) -> int:
        at = self._at(slot)
        return self._table.Get(types.Uint8Flags, at) if at else 0

    def table(self, slot: int) -> _Reader:
        return _Reader(Table(self._table.Bytes, self._table.Indirect(self._at(slot))))

    def tables(self, slot: int) -> list[_Reader]:
        places = (self._table.Indirect(at) for at in self._vector(slot))
        return [_Reader(Table(self._table.Bytes, place)) for place in places]

    def floats(self, slot: int) -> tuple[float, ...]:
        return tuple(self._table.Get(types.Float32Flags, at) for at in self._vector(slot))

    def _at(self, slot: int) -> int:
        offset = self._table.Offset(4 + 2 * slot)
        return offset + self._table.Pos if offset else 0

    def _vector(self, slot: int) -> range:
        """Where the 4-byte entries of a vector stand."""
        offset: Any = self._table.Offset(4 + 2 * slot)
        if not offset:
            return range(0)
        start = self._table.Vector(offset)
        return range(start, start + 4 * self._table.VectorLen(offset), 4)
