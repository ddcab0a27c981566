"""What fuzzers share: hostile values, one file after the other, and what each took."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import pathlib
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from absl import flags

MUTATIONS = flags.DEFINE_integer("mutations", 10_000, "How many files to try.", 1)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the mutations.")
_KEEP = flags.DEFINE_string("keep", None, "Folder for the files that failed.")
FLAGS = {"Fuzzing": ("mutations", "seed", "keep")}
NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 8, 127, 128, -128, 255, 256, 1000, 2**15, 20_000, 2**16, 2**24, 10**6),
    *(2**30, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, -(2**63)),
)
"""Integers at which sizes, products and types break."""
REALS = (
    *(float(np.float32(value)) for value in (1e-45, 1.2e-38, 1e-7, 1e-3, 1e9, 1e20, 3.4e38)),
    *(0.0, -0.0, 2.0**-20, 0.5, 1.0, 255.0, -1.0, 1e300, 5e-324),
)
"""Scales and parameters, most of them in float32, beside those that are no numbers."""
NO_NUMBERS = (float("nan"), float("inf"), float("-inf"))
TEXTS = (
    "",
    "[/x]",
    "[bold]",
    "[link=file:///etc]",
    "\x1b[2J\x1b]0;title\x07",
    "*/ static int hostile; /*",
    "*\\\n/ int hostile;",
    "??/",
    "../../name",
    "%s%n",
    "$x^$",
    "\u202ename",
    "a" * 5000,
    "\0",
    ":smile:",
)
"""Names."""


@dataclasses.dataclass(kw_only=True)
class Report:
    """What became of the files.

    Attributes:
      counts: how often each outcome came.
      failures: tracebacks of what was no clear refusal.
      over: of files that took more than the limits: which and what.
      slowest: seconds of the slowest file.
      largest: bytes that this process grew by over the largest file.
    """

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failures: list[str] = dataclasses.field(default_factory=list)
    over: list[str] = dataclasses.field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0

    def show(self, seconds: float) -> int:
        """Prints the report; returns 1 if a file did what it must not."""
        for outcome, count in self.counts.most_common():
            print(f"{count:7,}  {outcome}")
        print(
            f"{sum(self.counts.values()):7,}  in {seconds:.0f} s; the slowest took "
            f"{self.slowest:.1f} s, the largest {self.largest / 2**20:,.0f} MiB; "
            f"{len(self.failures)} tracebacks, {len(self.over)} over the limits"
        )
        for text in [*dict.fromkeys(self.failures), *self.over]:
            print(text, file=sys.stderr)
        return 1 if self.failures or self.over else 0


def fuzz(
    files: Iterable[bytes],
    attempt: Callable[[bytes, int], str],
    *,
    seconds: float,
    memory: int,
    failed: Callable[[], None] = lambda: None,
    keep: pathlib.Path | None = None,
) -> Report:
    """Tries one file after the other.

    Args:
      files: their contents.
      attempt: says what became of a file, given its number too; what it raises is a failure.
      seconds: what a file may take.
      memory: bytes by which this process may grow over a file.
      failed: called after a failure.
      keep: folder for the files that failed.
    """
    report = Report()
    for number, content in enumerate(files):
        taken = Meter()
        try:
            with taken, _alarm(seconds):
                outcome = attempt(content, number)
        except Exception:
            outcome = "NOT A CLEAR ERROR"
            report.failures.append(traceback.format_exc())
            failed()
        report.counts[outcome] += 1
        report.slowest = max(report.slowest, taken.seconds)
        report.largest = max(report.largest, taken.grown)
        if taken.seconds > seconds or taken.grown > memory:
            report.over.append(
                f"file {number} ({outcome}): {taken.seconds:.1f} s, {taken.grown / 2**20:,.0f} MiB"
            )
        if keep is not None and (outcome.isupper() or taken.seconds > seconds):
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{number}.bin").write_bytes(content)
    return report


def keep() -> pathlib.Path | None:
    """The folder for files that failed, where the program was given one."""
    return pathlib.Path(_KEEP.value) if flags.FLAGS.is_parsed() and _KEEP.value else None


class Meter:
    """Measures a block: seconds, and bytes by which the resident memory of the process grew."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.grown = 0

    def __enter__(self) -> Meter:
        with contextlib.suppress(OSError):  # Sets the peak to what the process has now.
            pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before = _status("VmRSS")
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self._start
        self.grown = _status("VmHWM") - self._before


def _status(field: str) -> int:
    """Bytes, as the system tells; 0 where it does not."""
    try:
        text = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(rf"{field}:\s+(\d+)", text)
    return int(found[1]) * 1024 if found else 0


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in a block that takes too long."""

    def expire(*_: Any) -> None:
        raise TimeoutError(f"more than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, 2 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def mutate_bytes(content: bytes, random: np.random.Generator) -> bytes:
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


_MAX_FLIPS = 8


def pick(values: Any, random: np.random.Generator) -> Any:
    """One of some values."""
    return values[int(random.integers(len(values)))]
