"""Latency and memory of .tflite files, side by side, over kernels and threads.

    python -m export.benchmark model.tflite [others.tflite] --threads=1,2 --plot=latency.png

Every combination of file, kernels and threads runs in a process of its own; the processes take
turns, a few runs each, so that what disturbs the machine disturbs all alike. The first file with
the first kernels and threads is what the ratios are relative to.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import Any

from absl import flags
from rich.console import Console
from rich.table import Table

from export.flatbuffer import reader
from export.kernel_sets.rules import KERNEL_SETS
from export.tools.benchmarking import Measurement, measure
from wrpn_tf import command_line
from wrpn_tf.files import require_writable
from wrpn_tf.terminal import cell, printable

_MODEL = flags.DEFINE_multi_string(
    "model", [], "The .tflite file, if it is not named without a flag."
)
_THREADS = flags.DEFINE_list("threads", ["1", "2"], "Numbers of threads.")
_KERNEL_SETS = flags.DEFINE_multi_enum(
    "kernels", list(KERNEL_SETS), KERNEL_SETS, "Kernels; repeat the flag."
)
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Turns of each combination.", 1)
_RUNS = flags.DEFINE_integer("runs", 5, "Runs in a turn.", 1)
_FORMAT = flags.DEFINE_enum("format", "table", ["table", "json"], "What to print.")
_PLOT = flags.DEFINE_string("plot", None, "Also draw the latencies into this .png file.")


def main(paths: list[str]) -> None:
    """Runs the program."""
    paths = command_line.model_files("export.benchmark", paths, _MODEL.value)
    if _PLOT.value:
        command_line.require_ending(_PLOT, ".png")
        require_writable(_PLOT.value)
    models = {path: reader.read_path(path) for path in paths}
    measured, problems = measure(
        models, _KERNEL_SETS.value, _thread_counts(), rounds=_ROUNDS.value, runs=_RUNS.value
    )
    if _FORMAT.value == "json":
        print(json.dumps([_record(row) for row in measured], indent=1))
    else:
        _show(measured)
    for problem in problems:
        print(f"not measured: {printable(problem)}", file=sys.stderr)
    if _PLOT.value:
        from export.tools.latency_plot import draw  # matplotlib, which takes a second

        draw(measured, _PLOT.value)


def _thread_counts() -> list[int]:
    try:
        counts = [int(value) for value in _THREADS.value]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise ValueError(f"--threads is {','.join(_THREADS.value)!r}; expected numbers, as 1,2")
    return counts


def _record(row: Measurement) -> dict[str, Any]:
    """A measurement for JSON, its kernel set by the name of the flag."""
    fields = dataclasses.asdict(row)
    return {"model": fields.pop("model"), "kernels": fields.pop("kernel_set")} | fields


def _show(measured: list[Measurement]) -> None:
    base = measured[0].median
    console = Console()
    for model in dict.fromkeys(row.model for row in measured):
        title = f"{model}: latency in ms, {os.cpu_count()} cores"
        table = Table(title=cell(title), title_justify="left")
        for heading in ("kernels", "threads", "median", "p10-p90", "ratio", "arena", "memory"):
            table.add_column(heading, justify="left" if heading == "kernels" else "right")
        for row in measured:
            if row.model == model:
                memory = row.process_bytes
                table.add_row(
                    row.kernel_set,
                    str(row.threads),
                    f"{row.median:.3f}",
                    f"{row.low:.3f}-{row.high:.3f}",
                    f"{row.median / base:.2f}x",
                    f"{row.arena_bytes / 2**10:,.0f} KiB",
                    "" if memory is None else f"{memory / 2**20:.1f} MiB",
                )
        console.print(table)
    console.print(
        "Arena: span of the tensors the Interpreter places, without those inside XNNPACK. Memory: "
        "growth of the process, weights and delegates included."
    )


if __name__ == "__main__":
    command_line.run(main, arguments="model.tflite [more.tflite ...]")
