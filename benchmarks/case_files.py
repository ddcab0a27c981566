"""What `benchmarks/runtime_check.py` compares other runtimes and processors with."""

from __future__ import annotations

import io
import pathlib
from typing import Any

import numpy as np

import export
from export.flatbuffer import editing, writer
from export.ir.graph import IntegerGraph
from export.kernel_sets import rules
from wrpn_tf.files import write_bytes


def write(path: pathlib.Path, graph: IntegerGraph, images: np.ndarray) -> None:
    """Writes a graph's file with every tensor exposed, and the integers by the executor.

    Args:
      path: of the files ``path.tflite`` and ``path.npz``.
      graph: a graph with one input.
      images: int8 ``[images, ...]`` for it.
    """
    values: dict[str, Any] = {"image": images}
    for target in rules.EXECUTABLE:
        codes = export.execute(graph, {graph.inputs[0]: images}, target)
        values |= {f"{target}:{name}": codes[name] for name in graph.tensors}
    content = io.BytesIO()
    np.savez_compressed(content, **values)
    write_bytes(f"{path}.npz", content.getvalue())
    write_bytes(f"{path}.tflite", editing.expose_tensors(writer.to_flatbuffer(graph)))
