"""What a smaller storage of the weights saves, and what it costs, in words."""

from __future__ import annotations

import os
import statistics
import time

import numpy as np

from export.flatbuffer.writer import to_flatbuffer
from export.ir.graph import IntegerGraph, as_int8
from export.runtime import runner

_ROUNDS = 7
_SECONDS = 0.05  # of a round, for each file
_FLOAT_BYTES = 4


def transport(graph: IntegerGraph, path: str | os.PathLike[str]) -> str:
    """The size of a file that `IntegerGraph.save` wrote, beside float32 kernels and biases."""
    size = os.path.getsize(path)
    reals = _FLOAT_BYTES * sum(op.kernel.size + op.bias.size for op in graph.weighted)
    return f"{path}: {size:,} bytes, 1/{reals / size:.1f} of the weights in float32"


def beside_int8(graph: IntegerGraph, file: bytes, weights: str) -> str:
    """Size and latency of a file beside its int8 twin, and which layers stayed int8.

    Latencies are medians over single images in interleaved rounds, one thread, default kernels.

    Args:
      graph: the integer graph of the file.
      file: the .tflite file.
      weights: 'int4' or 'int2'.
    """
    twin = to_flatbuffer(as_int8(graph))
    times = _latencies(graph, {"int8": twin, weights: file})
    ratio = times[weights] / times["int8"]
    lines = [
        f"{weights}: {len(file):,} bytes, {times[weights] * 1e3:.3f} ms an image; "
        f"int8: {len(twin):,} bytes, {times['int8'] * 1e3:.3f} ms"
    ]
    if len(file) >= len(twin):
        lines.append(f"Nothing fits {weights}: the file is no smaller than int8.")
    elif ratio > 1:
        lines.append(
            f"Smaller is slower here: {len(file) / len(twin):.2f} of the size at {ratio:.2f} times "
            "the latency. XNNPACK takes int4 and int2 in dense layers and 1x1 convolutions only."
        )
    kept = [op.output for op in graph.weighted if op.dtype_bits == 8]
    if kept:
        lines.append(f"Kept in int8, as their codes do not fit: {', '.join(kept)}.")
    return "\n".join(lines)


def _latencies(graph: IntegerGraph, files: dict[str, bytes]) -> dict[str, float]:
    """Median seconds of one image by file."""
    interpreters = {name: runner.load(file) for name, file in files.items()}
    for interpreter in interpreters.values():
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    seconds: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(_ROUNDS):
        for name, interpreter in interpreters.items():
            end = time.perf_counter() + _SECONDS
            while (start := time.perf_counter()) < end:
                interpreter.invoke()
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}
