"""Malformed .tflite files through the tools: each a clear ValueError, or read, or run.

    python -m benchmarks.fuzz_tflite --mutations=10000 seed.tflite [...]

Every mutation goes through what the programs share:
the checked reader, the preflight, the classifier's interface, verification's constants and exposed
variant, and LiteRT in a process of its own with one of the kernel sets. Exits with status 1 if
anything but a ValueError comes out.
"""

from __future__ import annotations

import collections
import pathlib
import sys
import time
import traceback

import numpy as np
from absl import flags

from export.edge_tpu.preflight import predict
from export.flatbuffer import editing, reader
from export.kernel_sets.rules import KERNEL_SETS
from export.runtime import runner
from export.runtime.isolation import Isolated
from export.tools import classifier
from wrpn_tf import command_line

_MUTATIONS = flags.DEFINE_integer("mutations", 10_000, "How many files to try.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the mutations.")
_MAX_FLIPS = 8


def mutate(content: bytes, random: np.random.Generator) -> bytes:
    """A malformed variant: cut, flipped, overwritten, shifted or spliced."""
    data = bytearray(content)
    kind = random.integers(8)
    start, end = sorted(random.integers(0, len(data), 2).tolist())
    if kind == 0:
        return bytes(data[:end])
    if kind == 1:
        del data[start : start + int(random.integers(1, 64))]
    elif kind == 2:
        data[start:start] = random.bytes(int(random.integers(1, 64)))
    elif kind == 3:
        length = min(int(random.integers(1, 64)), len(data) - start)
        data[start : start + length] = random.bytes(length)
    elif kind == 4:  # A field of four bytes, to a value that offsets and sizes break at.
        at = start // 4 * 4
        value = int(random.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(data), end]))
        data[at : at + 4] = value.to_bytes(4, "little")
    else:
        for _ in range(int(random.integers(1, _MAX_FLIPS + 1))):
            data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
    return bytes(data)


class Tools:
    """The tools' common path; keeps one child process while it lives."""

    def __init__(self) -> None:
        self._child: Isolated | None = None

    def try_file(self, content: bytes, kernel_set: str) -> str:
        """What becomes of a file; raises whatever is not a clear refusal."""
        try:
            model = reader.read(content)
        except ValueError as error:
            assert str(error)
            return "refused by the reader"
        for step in (
            lambda: predict(model),
            lambda: classifier.interface(model),
            lambda: reader.kernels(content),
            lambda: editing.expose_tensors(content),
        ):
            try:
                step()
            except ValueError as error:
                assert str(error)
        inputs = {}
        try:
            for tensor in model.inputs:
                inputs[tensor.name] = np.zeros(tensor.shape, tensor.dtype)
        except ValueError:
            return "refused: inputs of a type without arrays"
        try:
            if self._child is None:
                self._child = Isolated(runner.Trial, seconds=60)
            self._child(content, inputs, kernel_set)
        except ValueError as error:
            if "did not finish" in str(error) or "died" in str(error):
                self.close()
                return "killed LiteRT, in its own process"
            return "refused by LiteRT"
        return "ran"

    def close(self) -> None:
        """Ends the child process."""
        if self._child is not None:
            self._child.close()
            self._child = None


def fuzz(
    seeds: list[bytes], mutations: int, seed: int = 0
) -> tuple[collections.Counter[str], list[str]]:
    """Tries mutations of the seeds in turn.

    Returns:
      How often each outcome came, and the tracebacks of those that were no clear refusal.
    """
    random = np.random.default_rng(seed)
    counts: collections.Counter[str] = collections.Counter()
    failures = []
    tools = Tools()
    try:
        for number in range(mutations):
            content = mutate(seeds[number % len(seeds)], random)
            try:
                counts[tools.try_file(content, KERNEL_SETS[number % len(KERNEL_SETS)])] += 1
            except Exception:
                counts["NOT A CLEAR ERROR"] += 1
                failures.append(traceback.format_exc())
                tools.close()
    finally:
        tools.close()
    return counts, failures


def main(paths: list[str]) -> int:
    """Runs the program."""
    if not paths:
        raise ValueError("name .tflite files to mutate")
    seeds = [pathlib.Path(path).read_bytes() for path in paths]
    started = time.perf_counter()
    counts, failures = fuzz(seeds, _MUTATIONS.value, _SEED.value)
    for outcome, count in counts.most_common():
        print(f"{count:7,}  {outcome}")
    print(f"{sum(counts.values()):7,}  in {time.perf_counter() - started:.0f} s")
    for text in dict.fromkeys(failures):
        print(text, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    command_line.run(main, arguments="model.tflite ...")
