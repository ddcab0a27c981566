"""Interleaved measurement of .tflite files over kernels and threads."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from export.flatbuffer.reader import Model
from export.runtime.isolation import Isolated
from export.runtime.latency import Timed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """One file with one set of kernels and number of threads.

    Attributes:
      model: the file.
      kernel_set: 'xnnpack', 'optimized' or 'reference'.
      threads: how many threads the kernels may use.
      milliseconds: of every run.
      arena_bytes: span of the tensors that the Interpreter places; see `latency.Memory`.
      process_bytes: growth of the process's resident memory, None where it is not known.
      median: of the milliseconds.
      low: their 10th percentile.
      high: their 90th percentile.
    """

    model: str
    kernel_set: str
    threads: int
    milliseconds: list[float]
    arena_bytes: int
    process_bytes: int | None
    median: float
    low: float
    high: float


def measure(
    models: Mapping[str, Model],
    kernel_sets: Sequence[str],
    thread_counts: Sequence[int],
    *,
    rounds: int,
    runs: int,
) -> tuple[list[Measurement], list[str]]:
    """Measures all combinations in turns.

    A model that does not run with one of the kernel sets is measured with the others.

    Args:
      models: by name.
      kernel_sets: of 'xnnpack', 'optimized' and 'reference'.
      thread_counts: numbers of threads.
      rounds: how often each combination has its turn.
      runs: how often it runs then.

    Returns:
      The measurements, and a sentence on each kernel set that does not run a model.

    Raises:
      ValueError: a model runs with none of the kernel sets; the message names it.
    """
    combinations: list[tuple[str, str, int]] = []
    problems: dict[tuple[str, str], str] = {}
    with contextlib.ExitStack() as stack:
        workers = []
        for name, kernel_set, threads in itertools.product(models, kernel_sets, thread_counts):
            if (name, kernel_set) in problems:
                continue
            constants = frozenset(
                index
                for index, tensor in enumerate(models[name].main.tensors)
                if tensor.data is not None
            )
            try:
                worker = Isolated(Timed, models[name].content, constants, kernel_set, threads)
            except ValueError as error:
                problems[name, kernel_set] = f"{name} does not run with {kernel_set}: {error}"
                continue
            combinations.append((name, kernel_set, threads))
            workers.append(stack.enter_context(worker))
        for name in models:
            if all((name, kernel_set) in problems for kernel_set in kernel_sets):
                raise ValueError(problems[name, kernel_sets[0]])
        seconds: list[list[float]] = [[] for _ in workers]
        for _ in range(rounds):
            for (name, _, _), worker, collected in zip(combinations, workers, seconds, strict=True):
                with _naming(name):
                    collected += worker(runs)[0]
        memories = [worker(0)[1] for worker in workers]
    measured = []
    for (name, kernel_set, threads), times, memory in zip(
        combinations, seconds, memories, strict=True
    ):
        milliseconds = [1000 * value for value in times]
        low, high = np.percentile(milliseconds, [10, 90]).tolist()
        measured.append(
            Measurement(
                model=name,
                kernel_set=kernel_set,
                threads=threads,
                milliseconds=milliseconds,
                arena_bytes=memory.arena,
                process_bytes=memory.process,
                median=statistics.median(milliseconds),
                low=low,
                high=high,
            )
        )
    return measured, list(problems.values())


@contextlib.contextmanager
def _naming(model: str) -> Iterator[None]:
    """Puts the model's name before what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{model}: {error}") from error
