"""Latency and memory of a .tflite file, measured in the process that runs it."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import time
from collections.abc import Sequence

import numpy as np

from export.runtime import runner

_WARM_UP = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """What a model takes, in bytes.

    Attributes:
      arena: from the first to the last byte of the tensors that the Interpreter itself places
        (activations, without constants); what a delegate keeps to itself is not in it.
      process: growth of the process's resident memory from before the model was loaded to after
        it ran: arena, packed weights, delegates and all; None: the system does not tell.
    """

    arena: int
    process: int | None


class Timed:
    """A model that times itself; made in a process of its own, so that memory is its own.

    Args:
      content: the bytes of the .tflite file.
      constants: indices of its constant tensors.
      kernel_set: 'xnnpack', 'optimized' or 'reference'.
      threads: how many threads the kernels may use.

    Raises:
      ValueError: the file is not a model the Interpreter can run.
    """

    def __init__(self, content: bytes, constants: frozenset[int], kernel_set: str, threads: int):
        before = _resident_bytes()
        self._interpreter = runner.load(content, kernel_set, threads)
        runner.allocate(self._interpreter)
        for detail in self._interpreter.get_input_details():
            zeros = np.zeros(detail["shape"], detail["dtype"])
            self._interpreter.set_tensor(detail["index"], zeros)
        for _ in range(_WARM_UP):
            runner.invoke(self._interpreter)
        arena = _arena_bytes(self._interpreter, constants)
        after = _resident_bytes()
        grown = None if before is None or after is None else after - before
        self._memory = Memory(arena=arena, process=grown)

    def __call__(self, runs: int) -> tuple[list[float], Memory]:
        """Seconds of each of some runs, and the memory."""
        seconds = []
        for _ in range(runs):
            start = time.perf_counter()
            runner.invoke(self._interpreter)
            seconds.append(time.perf_counter() - start)
        return seconds, self._memory


def _arena_bytes(interpreter: object, constants: frozenset[int]) -> int:
    """The span of the addresses of all tensors that are placed and not constant."""
    spans = []
    for detail in interpreter.get_tensor_details():  # type: ignore[attr-defined]
        if detail["index"] in constants:
            continue
        try:
            view = interpreter.tensor(detail["index"])()  # type: ignore[attr-defined]
        except ValueError:  # not placed: a delegate keeps it
            continue
        start = view.__array_interface__["data"][0]
        if view.nbytes:
            spans.append((start, start + view.nbytes))
    return arena_span(spans)


def arena_span(spans: Sequence[tuple[int, int]]) -> int:
    """Bytes from the first to the last address of tensors, in each place where there are some.

    An arena is no larger than its tensors; what lies farther away from the others than that was
    allocated by itself, as outputs of dynamic size and converted constants are.

    Args:
      spans: first address and the one behind the last, of each tensor.
    """
    most = sum(end - start for start, end in spans)
    places: list[list[int]] = []
    for start, end in sorted(spans):
        if places and start - places[-1][1] <= most:
            places[-1][1] = max(places[-1][1], end)
        else:
            places.append([start, end])
    return sum(end - start for start, end in places)


def _resident_bytes() -> int | None:
    """The memory that this process holds, where the system has a /proc to tell."""
    # Not getrusage: its peak is inherited from the parent process.
    try:
        status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    kilobytes = re.search(r"VmRSS:\s+(\d+)", status)
    return int(kilobytes[1]) * 1024 if kilobytes else None
