"""Figures: memory by batch size, cost against accuracy, histograms of codes and activations.

Each function returns a matplotlib `Figure` without touching pyplot's state; `save` writes it.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wrpn_tf.files import replacing
from wrpn_tf.reporting.results import Result, by_network, mean_results, pareto_front
from wrpn_tf.terminal import printable

if TYPE_CHECKING:  # Figures of results need no model, and so no TensorFlow.
    from wrpn_tf.costs.memory import Memory
    from wrpn_tf.graph.views import LayerView
    from wrpn_tf.quantization.inspection import Model

SUFFIXES = (".png", ".svg")
_COLORS = ("#2563a8", "#d1603d", "#3f8f5f", "#7a5195", "#b08a1e", "#555555")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLES = ("-", "--", ":", "-.")
_GREY = "#8a8a8a"
_COLUMNS = 4
_LONGEST = 60  # Characters of a name.


def save(figure: Figure, path: str | pathlib.Path) -> None:
    """Writes a figure as PNG or SVG, by the file's suffix; a file there is replaced when done.

    Raises:
      ValueError: for another suffix.
      WriteError: if the file cannot be written.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: figures are written as {' or '.join(SUFFIXES)} files.")
    with replacing(path) as partial:
        figure.savefig(partial, format=path.suffix[1:].lower(), dpi=150)


def memory_shares(networks: Mapping[str, Sequence[Memory]]) -> Figure:
    """Activations' share of the memory footprint by batch size (WRPN's figure 1).

    Args:
      networks: by label, one network's memory at rising batch sizes.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    batches = sorted({memory.batch_size for row in networks.values() for memory in row})
    for axes, use in zip(panels, ("training", "inference"), strict=True):
        for index, (label, memories) in enumerate(networks.items()):
            sizes = [memory.batch_size for memory in memories]
            shares = [100 * getattr(memory, f"{use}_share") for memory in memories]
            axes.plot(sizes, shares, "o-", color=_color(index), label=_name(label), markersize=4)
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.set(title=use.capitalize(), xlabel="batch size", ylim=(0, 100))
        _tidy(axes)
    panels[0].set_ylabel("activations in memory, %")
    panels[1].legend(handles=panels[1].lines, frameon=False)
    return figure


def cost_accuracy(results: Sequence[Result]) -> Figure:
    """Accuracy against cost (logarithmic), with the Pareto front; one colour for each name.

    Of results that differ in nothing but accuracy, a dot shows the mean and a bar the extremes.
    """
    groups = by_network(results)
    results = mean_results(results)
    names = list(dict.fromkeys(result.name for result in results))
    many = len(names) > len(_COLORS)
    rows = max(4.8, 0.2 * len(names)) if many else 4.8
    figure = Figure(figsize=(10.5 if many else 7.5, rows), layout="constrained")
    axes = figure.subplots()
    front = pareto_front(results)
    axes.plot(
        [result.cost for result in front],
        [100 * result.accuracy for result in front],
        drawstyle="steps-post",
        color=_GREY,
        linewidth=1,
        linestyle="--",
        label="Pareto front",
    )
    for index, name in enumerate(names):
        marker = _MARKERS[index // len(_COLORS) % len(_MARKERS)]
        own = [result for result in results if result.name == name]
        costs, accuracies = [r.cost for r in own], [100 * r.accuracy for r in own]
        axes.plot(costs, accuracies, marker, color=_color(index), label=_name(name))
        for group in groups:
            if group[0].name == name and len(group) > 1:
                extremes = [100 * bound(r.accuracy for r in group) for bound in (min, max)]
                axes.vlines(group[0].cost, *extremes, color=_color(index), linewidth=1)
    # Labels of all would lie over each other.
    lowest = {
        (result.width, result.abits, result.wbits, result.cost): result
        for result in sorted(results, key=lambda result: -result.accuracy)
    }
    for result in front if many else lowest.values():
        axes.annotate(
            f"{result.width:g}x {result.abits}/{result.wbits}",
            (result.cost, 100 * result.accuracy),
            xytext=(5, -4),
            textcoords="offset points",
            va="top",
            fontsize=7,
            color="#444444",
        )
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.1)
    ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if _within(t, results)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(
        xlabel="cost: FMAs x (activation bits + weight bits), relative to float32 at width 1",
        ylabel="top-1, %",
        title="Labels: width, activation/weight bits",
    )
    axes.title.set_fontsize(9)
    _tidy(axes)
    if many:
        figure.legend(handles=axes.lines, frameon=False, loc="outside right upper", fontsize=7)
    else:
        axes.legend(handles=axes.lines, frameon=False, loc="lower right")
    return figure


def learning_curves(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Test accuracy after each epoch; a label looks alike in all panels.

    Args:
      panels: by title, a panel's curves by label: accuracies in [0, 1] of epochs 1, 2, ...
    """
    labels = list(dict.fromkeys(label for curves in panels.values() for label in curves))
    figure = Figure(figsize=(4.2 * len(panels) + 1.2, 3.8), layout="constrained")
    known = {}
    for axes, (title, curves) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False).ravel(),
        panels.items(),
        strict=True,
    ):
        for label, accuracies in curves.items():
            epochs = range(1, len(accuracies) + 1)
            percent = [100 * accuracy for accuracy in accuracies]
            index = labels.index(label)
            style = _STYLES[index // len(_COLORS) % len(_STYLES)]
            (known[label],) = axes.plot(
                epochs, percent, style, color=_color(index), label=_name(label)
            )
        axes.set(title=_name(title), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _tidy(axes)
    figure.axes[0].set_ylabel("top-1, %")
    lines = [known[label] for label in labels]
    figure.legend(handles=lines, frameon=False, loc="outside right upper", fontsize=8)
    return figure


def code_histograms(model: Model) -> Figure:
    """How often each trained weight code occurs, a panel for each quantized kernel.

    Raises:
      ValueError: if no layer has a quantized kernel.
    """
    from wrpn_tf.quantization.inspection import view

    layers = [layer for layer in view(model) if layer.kernel is not None]
    if not layers:
        raise ValueError(f"Model {model.name!r} has no quantized kernels.")
    figure, panels = _grid(len(layers))
    for layer, axes in zip(layers, panels, strict=True):
        assert layer.kernel is not None
        _histogram(axes, layer.kernel.codes, signed=True)
        axes.set_title(f"{_name(layer.name)}, {layer.kernel.bits} bits", fontsize=8, wrap=True)
    figure.supxlabel("weight code", fontsize=9)
    figure.supylabel("share of kernel, %", fontsize=9)
    return figure


def activation_histograms(model: Model, images: np.ndarray) -> Figure:
    """How often each activation code occurs over some images, a panel for each quantized output.

    Args:
      model: quantized model with one input, calibrated or trained.
      images: float32 ``[images, height, width, channels]``, normalized.

    Raises:
      ValueError: if no layer has a calibrated grid.
    """
    from wrpn_tf.fronts import front_of
    from wrpn_tf.models.namespaces import keras_of
    from wrpn_tf.quantization.inspection import view

    layers = [layer for layer in view(model) if layer.grid is not None and layer.inputs]
    if not layers:
        raise ValueError(f"Model {model.name!r} has no calibrated outputs.")
    tensors = front_of(model, "read").output_tensors(model)
    outputs = [tensors[layer.name] for layer in layers]
    observed = keras_of(outputs[0]).Model(model.inputs, outputs)
    values = observed.predict(images, verbose=0)
    figure, panels = _grid(len(layers))
    for layer, axes, value in zip(
        layers, panels, values if isinstance(values, list) else [values], strict=True
    ):
        assert layer.grid is not None
        codes = np.rint(np.asarray(value) / layer.grid.scale).astype(np.int64)
        _histogram(axes, codes, signed=layer.grid.low < 0)
        axes.set_title(_output_title(layer), fontsize=8)
    figure.supxlabel("activation code", fontsize=9)
    figure.supylabel("share of output, %", fontsize=9)
    return figure


def _output_title(layer: LayerView) -> str:
    assert layer.grid is not None
    return f"{_name(layer.layer.name)}, {layer.grid.bits} bits"


def _histogram(axes, codes: np.ndarray, *, signed: bool) -> None:
    low, high = int(codes.min()), int(codes.max())
    shares = 100 * np.bincount((codes - low).ravel(), minlength=high - low + 1) / codes.size
    positions = np.arange(low, high + 1)
    colors = [_COLORS[1] if code == 0 else _COLORS[0] for code in positions]
    axes.bar(positions, shares, width=0.85 if high - low < 32 else 1.0, color=colors)
    reach = max(abs(low), abs(high))
    axes.set_xlim(-reach - 1 if signed else -1, reach + 1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.tick_params(labelsize=7)
    _tidy(axes)


def _grid(count: int):
    """A figure with `count` panels."""
    columns = min(_COLUMNS, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(2.4 * columns, 1.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _tidy(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)


def _name(name: str) -> str:
    """A name as Matplotlib shows it: no mathematics between dollars, no more than has room."""
    return printable(name[:_LONGEST]).replace("$", r"\$")


def _color(index: int) -> str:
    return _COLORS[index % len(_COLORS)]


def _within(tick: float, results: Sequence[Result]) -> bool:
    costs = [result.cost for result in results]
    return min(costs) / 1.5 <= tick <= max(costs) * 1.5
