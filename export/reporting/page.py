"""The page: one HTML file without a link to anything else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from export.edge_tpu.preflight import Prediction
from export.edge_tpu.rules import Verdict
from export.ethos_u.compiler import Compilation
from export.reporting import drawings
from export.reporting.facts import Facts
from export.reporting.signals import Signal
from export.verification.result import Verification
from wrpn_tf.terminal import printable

STYLE = """
:root { color-scheme: light dark; --text: #1d2430; --dim: #5d6675; --back: #fff; --card: #f4f6f9;
  --rule: #dfe3ea; --a: #2563a8; --b: #c8552f; --good: #2c7a4b; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --text: #e5e9f0; --dim: #9aa4b5; --back: #14181f;
  --card: #1e242e; --rule: #333c4a; --a: #6ea8e8; --b: #f0915f; --good: #6cc58f; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem; max-width: 1100px; color: var(--text);
  background: var(--back); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
h3 { font-size: .9rem; margin: 0 0 .3rem; font-weight: 600; }
p { margin: .3rem 0 .6rem; max-width: 70ch; } .dim { color: var(--dim); font-size: .88rem; }
.cards { display: grid; gap: .7rem; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr));
  margin: 1rem 0; }
.panels { display: grid; gap: .7rem; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); }
.card { background: var(--card); border-radius: 8px; padding: .7rem .8rem; min-width: 0; }
.card b { display: block; font-size: 1.25rem; } .card span { color: var(--dim); font-size: .85rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); vertical-align: top; }
th { color: var(--dim); font-weight: 600; } th:first-child, td:first-child { text-align: left;
  white-space: normal; min-width: 7rem; position: sticky; left: 0; background: var(--back); }
td:last-child, th:last-child { padding-right: 0; } th.drawn { text-align: left; }
td.words { text-align: left; white-space: normal; min-width: 14rem; }
@media (max-width: 600px) { table { font-size: .8rem; } th, td { padding-right: .45rem; } }
svg { display: block; width: 100%; }
svg text { fill: var(--dim); font: 11px system-ui, sans-serif; } td svg text { font-size: 13px; }
td svg { width: min(260px, 52vw); } body > svg { max-width: 460px; }
.bar, .network { fill: var(--a); } .zero, .alone { fill: var(--b); }
.grid { stroke: var(--rule); } .line0, .line1 { fill: none; stroke-width: 2; }
.line0 { stroke: var(--a); } .line1 { stroke: var(--b); }
.a { color: var(--a); } .b { color: var(--b); } .good { color: var(--good); }
.bad { color: var(--bad); }
"""

Cell = str | Element
_MANY_ROWS = 40
_DRAWN = "signal to noise"  # The column of bars.


def render(facts: Facts) -> str:
    """The whole file."""
    root = Element("html", {"lang": "en"})
    head = SubElement(root, "head")
    SubElement(head, "meta", {"charset": "utf-8"})
    SubElement(head, "meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"})
    SubElement(head, "title").text = printable(f"{facts.name}: report")
    SubElement(head, "style").text = STYLE
    body = SubElement(root, "body")
    _add(body, "h1", facts.name)
    _glance(body, facts)
    if facts.curves:
        _training(body, facts)
    _networks(body, facts)
    _losses(body, facts.signals, facts.images)
    _layers(body, facts)
    _codes(body, facts)
    _memory(body, facts)
    _add(body, "h2", "Verification")
    if facts.verification is None:
        _add(body, "p", f"The network has no integer form: {facts.refused}")
    else:
        _verification(body, facts.verification)
    if facts.edge_tpu is not None:
        _edge_tpu(body, facts.edge_tpu)
        _ethos_u(body, facts.ethos_u, facts.ethos_u_note)
    return "<!DOCTYPE html>\n" + ElementTree.tostring(root, encoding="unicode", method="html")


def _glance(body: Element, facts: Facts) -> None:
    own, reference = facts.networks[-1], facts.networks[0]
    cards = [
        ("weights, at their bits", _bytes(own.cost.weight_bytes), ""),
        ("of the float network's cost", f"{own.cost.compute / reference.cost.compute:.2f}x", ""),
    ]
    if own.accuracy is not None:
        cards.insert(0, (f"top-1, {facts.images:,} images", f"{own.accuracy:.2%}", ""))
    if facts.file is not None:
        cards.append(("the .tflite file", _bytes(len(facts.file)), ""))
    if facts.verification is not None:
        verified, different = facts.verification.verified, facts.verification.different
        word = "verified" if verified else "not verified"
        total = f"{different:,} of {facts.verification.integers:,} integers differ"
        cards.append((total, word, "good" if verified else "bad"))
    if facts.edge_tpu is not None:
        maps = facts.edge_tpu.maps
        cards.append(("Edge TPU, predicted", "maps" if maps else "in part", "good" * maps))
    if facts.ethos_u is not None:
        time = f"{facts.ethos_u.seconds * 1e3:.3g} ms"
        cards.append((f"{facts.ethos_u.accelerator}, estimated", time, ""))
    home = SubElement(body, "div", {"class": "cards"})
    for words, value, style in cards:
        card = SubElement(home, "div", {"class": "card"})
        _add(card, "b", value, style)
        _add(card, "span", words)


def _training(body: Element, facts: Facts) -> None:
    _add(body, "h2", "Training")
    legend = _add(body, "p", "Top-1 after each epoch: ", "dim")
    for style, name in zip("ab", facts.curves, strict=False):
        _add(legend, "b", f"{name} ", style)
    body.append(drawings.curves(facts.curves, f"top-1 by epoch: {', '.join(facts.curves)}"))


def _networks(body: Element, facts: Facts) -> None:
    _add(body, "h2", "Float beside few bits")
    base = facts.networks[0].cost
    rows = [
        (
            each.name,
            "" if each.accuracy is None else f"{each.accuracy:.2%}",
            _bytes(each.cost.weight_bytes),
            _bytes(each.cost.shipped_bytes),
            f"{each.cost.fmas:,}",
            f"{each.cost.compute / base.compute:.3f}x",
        )
        for each in facts.networks
    ]
    heads = ("network", "top-1", "weights", "as shipped", "FMAs", "cost")
    _table(body, heads, rows)
    _add(
        body,
        "p",
        "Weights: at their bits; as shipped: int8 with biases, or float32. Cost: multiply-"
        "accumulates x (activation bits + weight bits), relative to the first row.",
        "dim",
    )


def _losses(body: Element, signals: Sequence[Signal], images: int) -> None:
    _add(body, "h2", "Where accuracy is lost")
    text = (
        f"Signal-to-noise ratio of each layer's output over {images:,} images, beside the same "
        "weights without quantizers: "
    )
    legend = _add(body, "p", text)
    _add(legend, "b", "in the network", "a").tail = ", with the noise of all layers before; "
    _add(legend, "b", "alone", "b").tail = ", what the layer adds. 6 dB are one bit."
    finite = [
        value
        for signal in signals
        for value in (signal.in_network, signal.alone)
        if np.isfinite(value)
    ]
    largest = max(finite, default=1.0)
    rows = [
        (
            signal.layer,
            drawings.bars([("network", signal.in_network), ("alone", signal.alone)], largest),
        )
        for signal in signals
    ]
    _table(body, ("layer", _DRAWN), rows)


def _layers(body: Element, facts: Facts) -> None:
    _add(body, "h2", "Layers")
    own = facts.networks[-1].cost
    rows = []
    for layer in own.layers:
        kernel = facts.kernels.get(layer.name)
        rows.append(
            (
                layer.name,
                f"{layer.activation_bits}/{layer.weight_bits}",
                "" if kernel is None else _scales(kernel.scale),
                "" if kernel is None else f"{np.mean(kernel.codes == 0):.1%}",
                f"{layer.fmas:,}",
                f"{layer.compute / own.compute:.1%}",
                _bytes(layer.weight_bytes),
            )
        )
    _table(body, ("layer", "A/W bits", "scale", "zero codes", "FMAs", "cost", "weights"), rows)


def _codes(body: Element, facts: Facts) -> None:
    _add(body, "h2", "Codes")
    text = "Weights: how often each code occurs; zero in "
    _add(_add(body, "p", text, "dim"), "b", "another colour", "b").tail = "."
    home = SubElement(body, "div", {"class": "panels"})
    for name, kernel in facts.kernels.items():
        low = int(kernel.codes.min())
        counts = np.bincount((kernel.codes - low).ravel())
        _panel(home, name, f"{kernel.bits} bits", counts, low)
    _add(
        body,
        "p",
        "Outputs, over the images. Clipped: the share of positive values above the range.",
        "dim",
    )
    home = SubElement(body, "div", {"class": "panels"})
    for signal in facts.signals:
        if signal.counts is not None:
            zeros = signal.counts[-signal.low] / signal.counts.sum()
            words = f"{zeros:.1%} zero"
            if signal.layer in facts.clipped:
                words += f", {facts.clipped[signal.layer]:.2%} clipped"
            _panel(home, signal.layer, words, signal.counts, signal.low)


def _panel(home: Element, name: str, words: str, counts: np.ndarray, low: int) -> None:
    card = SubElement(home, "div", {"class": "card"})
    _add(card, "h3", name)
    card.append(drawings.histogram(counts, low, f"codes of {printable(name)}"))
    _add(card, "span", words)


def _memory(body: Element, facts: Facts) -> None:
    _add(body, "h2", "Memory of one image")
    rows = []
    for each in facts.networks:
        memory = each.cost.memory
        rows.append((each.name, _bytes(memory.training), _bytes(memory.inference)))
    _table(body, ("network", "training", "inference"), rows)


def _verification(body: Element, found: Verification) -> None:
    verified = "verified" if found.verified else "not verified"
    _add(body, "p", f"The .tflite file is {verified}.", "good" if found.verified else "bad")
    for failure in found.failures[:_MANY_ROWS]:
        _add(body, "p", failure, "bad")
    heads = ("kernels", "images", "tensors", "integers", "different", "largest")
    _table(
        body,
        heads,
        [
            (
                *(row.kernel_set, f"{row.images:,}", str(row.tensors), f"{row.integers:,}"),
                *(f"{row.different:,}", str(row.largest)),
            )
            for row in found.kernel_sets
        ],
    )
    for note in found.notes:
        _add(body, "p", note, "dim")
    _add(body, "p", "Layers against Keras, each fed the device's own input:", "dim")
    _table(
        body,
        ("tensor", "bits", "codes", "different", "largest", "unproven channels"),
        [
            (
                *(row.difference.name, str(row.bits), f"{row.difference.total:,}"),
                *(f"{row.difference.different:,}", str(row.difference.largest)),
                str(row.unproven or ""),
            )
            for row in found.layers
        ],
    )


def _edge_tpu(body: Element, found: Prediction) -> None:
    _add(body, "h2", "Edge TPU")
    counts = ", ".join(f"{count} {verdict.value}" for verdict, count in found.counts().items())
    _add(body, "p", f"Predicted, not compiled; operators: {counts}.")
    rest = [each for each in found.findings if each.verdict is not Verdict.TPU]
    if rest:
        rows = [
            (each.output, each.operator, each.verdict.value, _words(f"{each.reason} {each.fix}"))
            for each in rest[:_MANY_ROWS]
        ]
        _table(body, ("output", "operator", "verdict", "why"), rows)


def _ethos_u(body: Element, found: Compilation | None, note: str) -> None:
    _add(body, "h2", "Arm Ethos-U")
    if found is None:
        _add(body, "p", note)
        return
    _add(body, "p", f"{found.accelerator}, {found.system}: compiled by Vela, whose estimate it is.")
    rows = [
        ("operators on the NPU", f"{len(found.layers) - len(found.on_cpu)}"),
        ("operators on the CPU", f"{len(found.on_cpu)}"),
        ("coded weights", _bytes(found.encoded_bytes)),
        ("bits a weight", f"{found.bits:.2f}"),
        ("SRAM", _bytes(found.sram_bytes)),
        ("cycles", f"{found.cycles:,}"),
        ("milliseconds", f"{found.seconds * 1e3:.3f}"),
    ]
    _table(body, ("", ""), rows)


def _table(body: Element, heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    table = SubElement(SubElement(body, "div", {"class": "wide"}), "table")
    if any(heads):
        line = SubElement(table, "tr")
        for head in heads:
            _add(line, "th", head, "drawn" * (head == _DRAWN))
    for row in rows:
        line = SubElement(table, "tr")
        for value in row:
            if isinstance(value, Element) and value.tag == "td":
                line.append(value)
            elif isinstance(value, Element):
                SubElement(line, "td").append(value)
            else:
                _add(line, "td", value)


def _words(text: str) -> Element:
    cell = Element("td", {"class": "words"})
    cell.text = printable(text)
    return cell


def _add(home: Element, tag: str, text: str, style: str = "") -> Element:
    """An element with text, whose lines may break behind an underscore, as names of layers have."""
    added = SubElement(home, tag, {"class": style} if style else {})
    added.text, *rest = re.split("(?<=_)", printable(text))
    for part in rest:
        SubElement(added, "wbr").tail = part
    return added


def _scales(scale: np.ndarray) -> str:
    low, high = float(np.min(scale)), float(np.max(scale))
    return f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
