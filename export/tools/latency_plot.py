"""Latencies of .tflite files as a bar chart."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from export.tools.benchmarking import Measurement
from wrpn_tf import plots
from wrpn_tf.terminal import printable


def _name(model: str) -> str:
    """A file's name without mathematics between dollars; Matplotlib hides what begins with `_`."""
    return printable(os.path.basename(model)).replace("$", r"\$").lstrip("_")


def draw(measured: Sequence[Measurement], path: str) -> None:
    """Draws medians as bars, one group for each kernels and threads, with the 10-90 % range.

    Raises:
      ValueError, WriteError: as `wrpn_tf.plots.save`.
    """
    models = list(dict.fromkeys(row.model for row in measured))
    groups = list(dict.fromkeys((row.kernel_set, row.threads) for row in measured))
    figure = Figure(figsize=(max(6, 1.2 + 0.5 * len(measured)), 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(models)
    for place, model in enumerate(models):
        rows = {(row.kernel_set, row.threads): row for row in measured if row.model == model}
        places = [at for at, group in enumerate(groups) if group in rows]  # Some are not measured.
        ordered = [rows[groups[at]] for at in places]
        medians = np.array([row.median for row in ordered])
        spread = [
            medians - [row.low for row in ordered],
            np.array([row.high for row in ordered]) - medians,
        ]
        shift = (place - (len(models) - 1) / 2) * width
        at = np.array(places) + shift
        bars = axes.bar(at, medians, width, yerr=spread, capsize=3, label=_name(model))
        axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=8)
    labels = [
        f"{kernel_set}\n{threads} thread{'s' * (threads > 1)}" for kernel_set, threads in groups
    ]
    axes.set_xticks(np.arange(len(groups)), labels)
    axes.set_yscale("log")
    axes.set_ylabel("ms: median, 10th to 90th percentile")
    axes.margins(y=0.15)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.15), frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    plots.save(figure, path)
