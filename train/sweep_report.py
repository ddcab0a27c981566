"""A sweep's table in the form of the paper's, and its plots."""

import dataclasses
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from wrpn_tf import Result, plots, terminal
from wrpn_tf.files import write_bytes

_COLUMNS = (
    "network",
    "width",
    "A/W",
    "seeds",
    "top-1",
    "sd",
    "cost",
    ".tflite",
    "same top-1",
    "zero codes",
    "clipped",
    "weights",
)
_CAPTION = (
    "A/W: activation and weight bits, 'by layer' where rules go before them. Top-1 in %: mean over "
    "the seeds and standard deviation. "
    "Cost: FMAs x (activation bits + weight bits) relative to the 1x float network. .tflite: "
    "top-1 of the exported files; same top-1: share of images on which file and training agree. "
    "Zero codes, clipped: % of weight codes that are 0, and of positive activations above the clip "
    "(mean over layers). "
    "Weights: kernels at their trained bits."
)

Line = dict[str, Any]


def write_report(lines: Sequence[Line], path: pathlib.Path, console: Console) -> None:
    """Prints the table; writes it as Markdown, and the plots.

    Args:
        lines: See `train.sweep_record.result_line`.
        path: What the files' names begin with: '.md', '_cost.svg' and '_epochs.svg' are added.
        console: Where to print.

    Raises:
        WriteError: A file cannot be written.
    """
    lines = _told_apart(lines)
    rows = [_row(cell) for cell in _cells(lines)]
    table = Table(title="Top-1 and cost", caption=_CAPTION, box=box.SIMPLE_HEAD, padding=0)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "network" else "right")
    for name, *figures in rows:
        table.add_row(terminal.cell(name), *figures)
    console.print(table)
    markdown = [_COLUMNS, ["---"] * len(_COLUMNS), *rows]
    text = "".join(f"| {' | '.join(map(_in_markdown, row))} |\n" for row in markdown)
    write_bytes(path.with_name(f"{path.name}.md"), text.encode())
    fields = [field.name for field in dataclasses.fields(Result)]
    results = [Result(**{name: line[name] for name in fields}) for line in lines]
    drawn = {
        "cost": plots.cost_accuracy(results),
        "epochs": plots.learning_curves(_curves(lines)),
    }
    for name, figure in drawn.items():
        plots.save(figure, path.with_name(f"{path.name}_{name}.svg"))


def _told_apart(lines: Sequence[Line]) -> Sequence[Line]:
    """The lines; where they are of several architectures, these are a part of the names."""
    if len({line["arch"] for line in lines}) == 1:
        return lines
    return [line | {"name": f"{line['name']}, {line['arch']}"} for line in lines]


def _cells(lines: Sequence[Line]) -> list[list[Line]]:
    """The lines in groups that differ in nothing but the seed, in the order of the grids."""
    cells: dict[tuple, list[Line]] = {}
    for line in lines:
        key = tuple(line[name] for name in ("name", "arch", "width", "abits", "wbits"))
        cells.setdefault(key, []).append(line)
    return list(cells.values())


def _row(cell: Sequence[Line]) -> list[str]:
    first = cell[0]

    def mean(name: str, factor: float = 100, digits: int = 2) -> str:
        values = [line[name] for line in cell if line.get(name) is not None]
        return f"{factor * statistics.fmean(values):.{digits}f}" if values else ""

    accuracies = [100 * line["accuracy"] for line in cell]
    return [
        first["name"],
        f"{first['width']:g}x",
        _bits(first),
        str(len(cell)),
        mean("accuracy"),
        f"{statistics.stdev(accuracies):.2f}" if len(cell) > 1 else "",
        mean("cost", factor=1, digits=3),
        mean("tflite_accuracy"),
        mean("agreement"),
        mean("zero_codes", digits=1),
        mean("clipped_activations", digits=1),
        f"{mean('weight_bytes', factor=1 / 1024, digits=1)} KiB",
    ]


def _in_markdown(text: str) -> str:
    return terminal.printable(text).replace("|", r"\|")


def _bits(line: Line) -> str:
    bits = f"{line['abits']}/{line['wbits']}"
    return f"{bits} by layer" if line["config"].get("rules") else bits


def _curves(lines: Sequence[Line]) -> dict[str, dict[str, list[float]]]:
    """By grid and network: the mean test accuracy after each epoch."""
    panels: dict[str, dict[str, list[float]]] = {}
    for cell in _cells(lines):
        epochs = zip(*(line["epochs"] for line in cell), strict=True)
        panels.setdefault(cell[0]["name"], {})[f"{cell[0]['width']:g}x {_bits(cell[0])}"] = [
            statistics.fmean(entry["test_accuracy"] for entry in epoch) for epoch in epochs
        ]
    return panels
