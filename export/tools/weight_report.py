"""What a smaller storage of the weights saves, and what it costs, in words."""

from __future__ import annotations

import os
import statistics
import time

import numpy as np

from export.ir.graph import IntegerGraph
from export.runtime import runner

_ROUNDS = 7
_SECONDS = 0.05  # of a round, for each file
_FLOAT_BYTES = 4


def transport(graph: IntegerGraph, path: str | os.PathLike[str]) -> str:
    """The size of a file that `export.save` wrote, beside float32 kernels and biases."""
    size = os.path.getsize(path)
    reals = _FLOAT_BYTES * sum(op.kernel.size + op.bias.size for op in graph.weighted)
    return f"{path}: {size:,} bytes, 1/{reals / size:.1f} of the weights in float32"


def beside_int8(graph: IntegerGraph, file: bytes, int8_file: bytes, weights: str) -> str:
    """Size and latency of a file beside that with int8 kernels, and which layers stayed int8.

    Latencies are medians over single images in interleaved rounds, one thread, default kernels.

    Args:
      graph: the integer graph of the file.
      file: the .tflite file.
      int8_file: that of the same network with int8 kernels.
      weights: 'int4' or 'int2'.
    """
    kept = [operator.output for operator in graph.weighted if operator.dtype_bits == 8]
    if len(kept) == len(graph.weighted):
        return (
            f"Nothing is stored in {weights}: no layer's codes fit and run as fast, within a "
            "third, as in int8 (docs/deploy.md); the file is the int8 one."
        )
    times = _latencies(graph, {"int8": int8_file, weights: file})
    lines = [
        f"{weights}: {len(file):,} bytes, {times[weights] * 1e3:.3f} ms an image; "
        f"int8: {len(int8_file):,} bytes, {times['int8'] * 1e3:.3f} ms: "
        f"{len(file) / len(int8_file):.2f} of the size at {times[weights] / times['int8']:.2f} "
        "times the latency",
        "The file is for LiteRT and its XNNPACK on CPUs; the Edge TPU, Ethos-U and TensorFlow Lite "
        "Micro take int8.",
    ]
    if kept:
        lines.append(
            f"Kept in int8, as their codes do not fit or int8 is much faster: {', '.join(kept)}."
        )
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
