"""Drawings as inline SVG, whose colours are the page's: histograms, curves and bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement

import numpy as np

_WIDTH, _HEIGHT, _TOP = 160, 70, 13
_CURVES = (380, 190)


def histogram(counts: np.ndarray, low: int, label: str) -> Element:
    """How often each code occurs, from `low` on; code 0 in a colour of its own."""
    used = np.flatnonzero(counts)
    first, last = (int(used[0]), int(used[-1])) if len(used) else (0, 0)
    shares = counts[first : last + 1] / max(1, counts.sum())
    top = float(shares.max(initial=0)) or 1.0
    step = _WIDTH / len(shares)
    svg = _svg(_WIDTH, _TOP + _HEIGHT + 14, label)
    for index, share in enumerate(shares):
        height = _HEIGHT * float(share) / top
        name = "zero" if low + first + index == 0 else "bar"
        # Narrow bars overlap a little: gaps of less than a pixel would only make them pale.
        x, width = index * step, step * 0.86 if step > 4 else step + 0.4
        _add(svg, "rect", name, x=x, y=_TOP + _HEIGHT - height, width=width, height=height)
    _text(svg, low + first, 0, _TOP + _HEIGHT + 12, "start")
    _text(svg, low + last, _WIDTH, _TOP + _HEIGHT + 12, "end")
    _text(svg, f"{top:.0%}", _WIDTH, 9, "end")
    return svg


def curves(lines: Mapping[str, Sequence[float]], label: str) -> Element:
    """Lines over epochs 1, 2, ...; values are shares, shown in percent."""
    width, height = _CURVES
    left, bottom, right, top = 44, height - 22, width - 8, 10
    values = [value for line in lines.values() for value in line if math.isfinite(value)]
    low, high = min(values), max(values)
    if high - low < 0.01:
        low, high = max(0.0, low - 0.01), min(1.0, high + 0.01)
    digits = 0 if high - low >= 0.04 else 1
    most = max(map(len, lines.values()))
    svg = _svg(width, height, label)
    for part in range(5):
        value = low + (high - low) * part / 4
        y = bottom - (bottom - top) * part / 4
        _add(svg, "line", "grid", x1=left, x2=right, y1=y, y2=y)
        _text(svg, f"{value:.{digits}%}", left - 4, y + 3, "end")
    _text(svg, "epoch 1", left, height - 6, "start")
    if most > 1:
        _text(svg, most, right, height - 6, "end")
    scale = (bottom - top) / (high - low)
    for index, line in enumerate(lines.values()):
        step = (right - left) / max(1, most - 1)
        points = [
            (left + step * epoch, bottom - scale * (value - low))
            for epoch, value in enumerate(line)
            if math.isfinite(value)
        ]
        if len(points) == 1:  # A line of one point is invisible.
            _add(svg, "circle", f"line{index}", cx=points[0][0], cy=points[0][1], r=3)
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        SubElement(svg, "polyline", {"class": f"line{index}", "points": text})
    return svg


def bars(values: Sequence[tuple[str, float]], largest: float) -> Element:
    """One bar under the other, with their values in dB."""
    svg = _svg(260, 15 * len(values), ", ".join(f"{name} {value:.1f} dB" for name, value in values))
    for index, (name, value) in enumerate(values):
        length = 190 * min(1.0, max(0.0, value / largest)) if largest > 0 else 0.0
        length = 190.0 if math.isinf(value) and value > 0 else length
        _add(svg, "rect", name, x=0, y=15 * index + 2, width=max(1.0, length), height=11)
        text = "exact" if math.isinf(value) and value > 0 else f"{value:.1f} dB"
        _text(svg, text, max(1.0, length) + 5, 15 * index + 11, "start")
    return svg


def _svg(width: int, height: int, label: str) -> Element:
    size = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": label}
    return Element("svg", size)


def _add(svg: Element, kind: str, name: str, **numbers: float) -> None:
    SubElement(svg, kind, {"class": name} | {key: f"{each:.2f}" for key, each in numbers.items()})


def _text(svg: Element, text: object, x: float, y: float, anchor: str) -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    SubElement(svg, "text", place).text = str(text)
