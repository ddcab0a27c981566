"""Every operator against LiteRT: random graphs of one operator with extreme parameters.

    python -m benchmarks.operator_sweep --results=sweep.jsonl

Each graph (`benchmarks.extreme_operators`) is run by the NumPy executor and by LiteRT, with each of
the kernel sets, and every integer is compared. LiteRT runs in a process of its own: what kills it,
or does not end, is counted and does not end the sweep. The same command again goes on where it was
stopped. Prints each difference with the seed that repeats it (`--operators=MUL --seed=17
--graphs=1`), and a table; exits with status 1 where an integer differs.
"""

from __future__ import annotations

import collections
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from absl import flags
from rich.console import Console
from rich.table import Table

from benchmarks.extreme_operators import KINDS
from benchmarks.operator_trial import OUTCOMES, Outcome, Trial
from export.kernel_sets.rules import KERNEL_SETS
from export.runtime.isolation import Isolated
from wrpn_tf import command_line
from wrpn_tf.progress import ProgressLine

_RESULTS = flags.DEFINE_string("results", None, "Results, a line for each chunk of graphs.")
_GRAPHS = flags.DEFINE_integer("graphs", 10_000, "Graphs of each operator.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first graph; the next has the next.", 0)
_OPERATORS = flags.DEFINE_list("operators", list(KINDS), "Which operators.")
_KERNELS = flags.DEFINE_list("kernels", list(KERNEL_SETS), "Which kernel sets.")
_CHUNK = 50
_SECONDS = 120  # For a chunk.
_SHOWN = 20


class Isolation:
    """Trials in a child process, which is started again when a graph has killed it."""

    def __init__(self) -> None:
        self._child: Isolated | None = None

    def __call__(self, kind: str, seeds: list[int], kernel_set: str) -> list[Outcome]:
        """What becomes of graphs: all at once, one by one where that kills the child."""
        try:
            if self._child is None:
                self._child = Isolated(Trial, seconds=_SECONDS)
            return self._child(kind, seeds, kernel_set)
        except ValueError as error:
            self.close()
            if len(seeds) == 1:
                what = "hung" if "did not finish" in str(error) else "aborted"
                return [Outcome(seeds[0], what, message=str(error))]
        middle = len(seeds) // 2
        halves = seeds[:middle], seeds[middle:]
        return [outcome for half in halves for outcome in self(kind, half, kernel_set)]

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._child.close()
            self._child = None


def sweep(
    kinds: list[str], kernels: list[str], seeds: range, done: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yields the rows that are not in `done`: dictionaries, each of a chunk of graphs."""
    known = {(row["operator"], row["kernels"], row["first"], row["graphs"]) for row in done}
    chunks = [list(seeds[start : start + _CHUNK]) for start in range(0, len(seeds), _CHUNK)]
    missing = [
        (kind, kernel_set, chunk)
        for chunk in chunks
        for kind in kinds
        for kernel_set in kernels
        if (kind, kernel_set, chunk[0], len(chunk)) not in known
    ]
    trials = Isolation()
    try:
        with ProgressLine("sweep", sum(len(chunk) for _, _, chunk in missing)) as line:
            for kind, kernel_set, chunk in missing:
                line.begin(f"{kind}, {kernel_set}, seeds {chunk[0]} to {chunk[-1]}")
                yield _row(kind, kernel_set, chunk, trials(kind, chunk, kernel_set))
                line.advance(len(chunk))
    finally:
        trials.close()


def _row(kind: str, kernel_set: str, seeds: list[int], outcomes: list[Outcome]) -> dict[str, Any]:
    counts = collections.Counter(outcome.what for outcome in outcomes)
    told = [each for each in outcomes if each.what != "compared"]
    return {
        "operator": kind,
        "kernels": kernel_set,
        "first": seeds[0],
        "graphs": len(seeds),
        **{what: counts[what] for what in OUTCOMES},
        "integers": sum(outcome.integers for outcome in outcomes),
        "wrong": sum(outcome.wrong for outcome in outcomes),
        "told": [(outcome.seed, outcome.what, outcome.message) for outcome in told],
    }


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Prints the table by operator and kernel set."""
    table = Table(title="Random graphs of one operator, LiteRT against the NumPy executor")
    for heading in ("operator", "kernels", "graphs", *OUTCOMES[1:], "integers", "wrong"):
        table.add_column(heading, justify="left" if heading in ("operator", "kernels") else "right")
    totals: dict[tuple[str, str], collections.Counter[str]] = {}
    for row in rows:
        key = row["operator"], row["kernels"]
        counts = {name: row[name] for name in ("graphs", *OUTCOMES[1:], "integers", "wrong")}
        totals.setdefault(key, collections.Counter()).update(counts)
    order = {kind: index for index, kind in enumerate(KINDS)}
    for key in sorted(totals, key=lambda key: (order.get(key[0], -1), KERNEL_SETS.index(key[1]))):
        numbers = (f"{totals[key][name]:,}" for name in ("graphs", *OUTCOMES[1:]))
        table.add_row(*key, *numbers, *(f"{totals[key][name]:,}" for name in ("integers", "wrong")))
    console.print(table)


def main() -> int:
    """Runs the program."""
    for kind in _OPERATORS.value:
        if kind not in KINDS:
            raise ValueError(f"--operators must be of {', '.join(KINDS)}; {kind!r} is not")
    for kernel_set in _KERNELS.value:
        if kernel_set not in KERNEL_SETS:
            raise ValueError(
                f"--kernels must be of {', '.join(KERNEL_SETS)}; {kernel_set!r} is not"
            )
    path = pathlib.Path(_RESULTS.value) if _RESULTS.value else None
    rows: list[dict[str, Any]] = []
    if path is not None and path.exists():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    seeds = range(_SEED.value, _SEED.value + _GRAPHS.value)
    for row in sweep(_OPERATORS.value, _KERNELS.value, seeds, rows):
        rows.append(row)
        for seed, what, message in row["told"][:_SHOWN]:
            if not what.startswith("refused"):
                name = f"{row['operator']}, {row['kernels']}, seed {seed}"
                print(f"{name}: {what}: {message}", file=sys.stderr)
        if path is not None:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    show(rows, Console(width=150))
    return 1 if any(row["wrong"] for row in rows) else 0


if __name__ == "__main__":
    command_line.run(main)
