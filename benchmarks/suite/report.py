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
    from matplotlib.figure import Figure


def show(rows: Mapping[str, Sequence[Row]], console: Console) -> None:
    """Prints a table of each claim; where nothing could be measured, the reason.

    Args:
      rows: by claim: 'training step', 'export' and 'latency'.
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
            name = cell(row[_DRAWN[claim][0]])
            cells = () if "reason" in row else _CELLS[claim](row)
            table.add_row(NETWORKS[row["network"]].title, name, *cells)
        console.print(table)
        for row in found:
            if "reason" in row:
                name = row[_DRAWN[claim][0]]
                console.print(
                    f"{NETWORKS[row['network']].title}, {name}: not measured: {row['reason']}",
                    markup=False,
                )


def _spread(low: float, median: float, high: float) -> str:
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


_HEADINGS = {
    "training step": ("program", "ms", "to float tf_keras", "to float of its process"),
    "export": ("step", "s"),
    "latency": ("file", "bytes", "ms", "to float"),
}
_CELLS = {
    "training step": lambda row: (
        f"{1e3 * statistics.median(row['seconds']):,.1f}",
        _spread(*row["to_first"]),
        _spread(*row["to_float"]),
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
    "export": "Wall clock, medians with quartiles.",
    "latency": "One image, one thread, XNNPACK.",
}
_DRAWN = {
    "training step": ("program", "to_first", "step / float step of tf_keras"),
    "export": ("step", "quartiles", "s"),
    "latency": ("file", "to_float", "latency / that of the float file"),
}


def figure(rows: Mapping[str, Sequence[Row]]) -> Figure:
    """Medians and quartiles, a panel for each claim and network; see `show`."""
    from matplotlib.figure import Figure

    panels = [
        (claim, network)
        for claim, found in rows.items()
        for network in dict.fromkeys(row["network"] for row in found)
    ]
    drawn = Figure(figsize=(7.5, 2.8 * len(panels)), layout="constrained")
    for axes, (claim, network) in zip(
        drawn.subplots(len(panels), 1, squeeze=False).ravel(), panels, strict=True
    ):
        name, ratio, label = _DRAWN[claim]
        chosen = [row for row in rows[claim] if row["network"] == network and "reason" not in row]
        for place, row in enumerate(chosen):
            low, median, high = row[ratio]
            axes.plot([low, high], [place, place], color="#8a8a8a")
            axes.plot(median, place, "o", color="#2563a8")
        axes.set_yticks(range(len(chosen)), [row[name] for row in chosen], fontsize=7)
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set(title=f"{claim}, {NETWORKS[network].title}", xlabel=label)
        axes.spines[["top", "right"]].set_visible(False)
    return drawn
