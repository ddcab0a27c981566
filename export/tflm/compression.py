"""Kernels with few codes as look-up tables, which TensorFlow Lite Micro decodes as it runs.

`tflite_micro.compression` writes the indices and puts a TFLM_DECODE before each operator. Here is
what it leaves to its caller: which tensors, and how many tables. Decoders have counted the tables
by the scales of the kernel, whatever the file says: one table for a kernel of several scales gives
wrong codes, without an error. So there is one table for each scale.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.flatbuffer import reader
from export.flatbuffer.archive import append_files, appended_files
from export.flatbuffer.editing import pack
from export.flatbuffer.reader import WEIGHTED, Model, Tensor
from export.runtime.isolation import Isolated
from export.tflm.interpreter import MISSING, MicroRunner, is_installed

_MOST_BITS = 7
_HEADER_BYTES = 16
_TRIALS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compressed:
    """A file with tables.

    Attributes:
      content: the file.
      tensors: names of the kernels that became tables.
      integers: how many integers were compared with the file before, all equal.
    """

    content: bytes
    tensors: tuple[str, ...]
    integers: int

    def report(self, size: int) -> str:
        """Sizes and the comparison in words; `size` is that of the file before."""
        return (
            f"{len(self.content):,} bytes with {len(self.tensors)} kernels as look-up tables, "
            f"{size:,} before ({len(self.content) / size:.2f} of it); {self.integers:,} integers "
            "compared in TensorFlow Lite Micro's interpreter, 0 different"
        )


def compress(content: bytes) -> Compressed:
    """A file with kernels as tables where that is smaller, compared in the interpreter.

    Args:
      content: an int8 .tflite file.

    Raises:
      ValueError: TensorFlow Lite Micro does not take the file, no kernel has few enough codes, an
        integer differs, or the package is not installed.
    """
    if not is_installed():
        raise ValueError(MISSING)
    model = reader.read(content)
    floats = [tensor.name for tensor in model.inputs if np.dtype(tensor.dtype).kind == "f"]
    if floats:
        raise ValueError(
            f"look-up tables are for files of integers, and the input {floats[0]!r} is of "
            "floats: give the file int8 or uint8 borders"
        )
    found = {index: _table(model.main.tensors[index]) for index in _kernels(model)}
    chosen = {index: table for index, table in found.items() if table is not None}
    if not chosen:
        raise ValueError("no kernel of this file would be smaller as a look-up table")
    compressed = _compress(model, chosen)
    integers = _compare(content, compressed)
    names = tuple(model.main.tensors[index].name for index in chosen)
    return Compressed(content=compressed, tensors=names, integers=integers)


def _kernels(model: Model) -> list[int]:
    graph = model.main
    found = {op.inputs[1] for op in graph.operators if op.name in WEIGHTED}
    return sorted(index for index in found if graph.tensors[index].type == "INT8")


def _table(tensor: Tensor) -> dict[str, Any] | None:
    """The form of a kernel as the compressor takes it; None where it would not be smaller."""
    if tensor.data is None:
        return None
    several = len(tensor.scale) > 1
    if several and tensor.axis not in (0, len(tensor.shape) - 1):
        return None
    slices = np.moveaxis(tensor.array(), tensor.axis, 0) if several else [tensor.array()]
    stride = max(len(np.unique(part)) for part in slices)
    bits = max(1, (stride - 1).bit_length())
    size = tensor.size * bits // 8 + len(slices) * stride + _HEADER_BYTES
    if bits > _MOST_BITS or size >= tensor.size:
        return None
    mode = {"per_channel": {"axis": tensor.axis}} if several else {"per_tensor": None}
    return {"index_bitwidth": bits, **mode}


def _compress(model: Model, tables: dict[int, dict[str, Any]]) -> bytes:
    from tflite_micro import compression

    content = model.content
    entries = [
        {"subgraph": 0, "tensor": index, "compression": [{"lut": table}]}
        for index, table in tables.items()
    ]
    specification = compression.parse_yaml(json.dumps({"tensors": entries}))  # JSON is YAML.
    parsed = schema.ModelT.InitFromPackedBuf(bytes(compression.compress(content, specification)), 0)
    # The compressor leaves a kernel's scales on the indices, which have none.
    for index in tables:
        parsed.subgraphs[0].tensors[index].quantization = None
    return append_files(pack(parsed), appended_files(content))


def _compare(content: bytes, compressed: bytes) -> int:
    """How many integers both files compute, on random inputs; ValueError where one differs."""
    model = reader.read(content)
    random = np.random.default_rng(0)
    inputs = {
        tensor.name: random.integers(
            np.iinfo(tensor.dtype).min,
            np.iinfo(tensor.dtype).max,
            (_TRIALS, *tensor.shape[1:]),
            endpoint=True,
            dtype=tensor.dtype,
        )
        for tensor in model.inputs
    }
    with Isolated(MicroRunner, content) as before, Isolated(MicroRunner, compressed) as after:
        expected, actual = before(inputs), after(inputs)
    wrong = [name for name, codes in expected.items() if not np.array_equal(codes, actual[name])]
    if wrong:
        raise ValueError(
            f"the compressed file computes other integers: {', '.join(wrong)}; do not use it"
        )
    return sum(codes.size for codes in expected.values())
