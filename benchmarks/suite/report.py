"""What people read of the rows: tables and a plot."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.suite.networks import NETWORKS
from benchmarks.suite.settings import Row
from wrpn_tf.terminal import cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def show(rows: Mapping[str, Sequence[Row]], console: Console) -> None:
    """Prints a table of each claim; where nothing could be measured, the reason.

    Args:
      rows: by claim: 'training step', 'memory', 'export' and 'latency'.
      console: where.
    """
    for claim, found in rows.items():
        first, *headings = _HEADINGS[claim]
        table = Table(title=claim, caption=_CAPTIONS[claim])
        table.add_column("network")
        table.add_column(first)
        for heading in headings:
            table.add_column(heading, justify="right")
        for row in found:
            name = cell(row[_NAMES[claim]])
            cells = () if "reason" in row else _CELLS[claim](row)
            table.add_row(NETWORKS[row["network"]].title, name, *cells)
        console.print(table)
        for row in found:
            if "reason" in row:
                name = row[_NAMES[claim]]
                console.print(
                    f"{NETWORKS[row['network']].title}, {name}: not measured: {row['reason']}",
                    markup=False,
                )


def _megabytes(count: float | None) -> str:
    return "" if count is None else f"{count / 1e6:,.0f}"


def _spread(low: float, median: float, high: float) -> str:
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


_HEADINGS = {
    "training step": ("program", "ms", "to float tf_keras", "to float of its process"),
    "memory": ("program", "width", "batch", "kept, B an image", "peak, MB", "predicted, MB", "s"),
    "export": ("step", "s"),
    "latency": ("file", "bytes", "ms", "to float"),
}
_CELLS = {
    "training step": lambda row: (
        f"{1e3 * statistics.median(row['seconds']):,.1f}",
        _spread(*row["to_first"]),
        _spread(*row["to_float"]),
    ),
    "memory": lambda row: (
        f"{row['width']:g}x",
        f"{row['batch']:,}",
        f"{row['kept']:,.0f}",
        _megabytes(row["peak"]),
        _megabytes(row["predicted"]),
        f"{row['seconds']:.2f}",
    ),
    "export": lambda row: (_spread(*row["quartiles"]),),
    "latency": lambda row: (
        f"{row['bytes']:,}",
        f"{statistics.median(row['milliseconds']):.3f}",
        _spread(*row["to_float"]),
    ),
}
_CAPTIONS = {
    "training step": "Medians over the rounds, ratios with quartiles. 4/4: weight and activation "
    "bits. Keras 3 compiles its steps with XLA, tf_keras does not.",
    "memory": "Of a training step: what the backward pass keeps, the peak of a process of its own "
    "beside what the cost model says, and one step's wall clock.",
    "export": "Wall clock, medians with quartiles.",
    "latency": "One image, one thread, XNNPACK.",
}
_NAMES = {"training step": "program", "memory": "program", "export": "step", "latency": "file"}
_DRAWN = {
    "training step": ("to_first", "step / float step of tf_keras"),
    "export": ("quartiles", "s"),
    "latency": ("to_float", "latency / that of the float file"),
}


def figure(rows: Mapping[str, Sequence[Row]]) -> Figure:
    """Medians and quartiles, a panel for each claim, network and width; see `show`."""
    from matplotlib.figure import Figure

    panels: dict[tuple[str, str, float | None], list[Row]] = {}
    for claim, found in rows.items():
        for row in found:
            if "reason" not in row:
                panels.setdefault((claim, row["network"], row.get("width")), []).append(row)
    drawn = Figure(figsize=(7.5, 2.8 * max(1, len(panels))), layout="constrained")
    for place, ((claim, network, width), chosen) in enumerate(panels.items(), start=1):
        axes = drawn.add_subplot(len(panels), 1, place)
        title = f"{claim}, {NETWORKS[network].title}"
        if width is None:
            _draw_spreads(axes, claim, chosen)
        else:
            _draw_peaks(axes, chosen)
            title += f" {width:g}x"
        axes.set_title(title)
        axes.spines[["top", "right"]].set_visible(False)
    return drawn


def _draw_spreads(axes: Axes, claim: str, rows: Sequence[Row]) -> None:
    """A line from quartile to quartile for each row, with the median on it."""
    ratio, label = _DRAWN[claim]
    for place, row in enumerate(rows):
        low, median, high = row[ratio]
        axes.plot([low, high], [place, place], color="#8a8a8a")
        axes.plot(median, place, "o", color="#2563a8")
    axes.set_yticks(range(len(rows)), [row[_NAMES[claim]] for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(label)


def _draw_peaks(axes: Axes, rows: Sequence[Row]) -> None:
    """The peak by batch size, a line for each program."""
    for program in dict.fromkeys(row["program"] for row in rows):
        points = [(row["batch"], row["peak"] / 1e6) for row in rows if row["program"] == program]
        axes.plot(*zip(*sorted(points), strict=True), "o-", markersize=3, label=program)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("batch size")
    axes.set_ylabel("peak, MB")
    axes.legend(frameon=False, fontsize=6, ncols=2)
