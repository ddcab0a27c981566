"""Compilations as tables and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from export.ethos_u.compiler import Compilation
from export.ethos_u.remedies import remedy
from wrpn_tf.terminal import cell

ESTIMATE = "Cycles and times are the compiler's estimate: nothing was run on a device."


def show(console: Console, files: Sequence[tuple[str, Compilation]], *, layers: bool) -> None:
    """Prints files side by side, what is left on the CPU, and with `layers` every operator."""
    if layers:
        for path, compiled in files:
            console.print(_layers(path, compiled))
    console.print(_files(files))
    for path, compiled in files:
        for layer in compiled.on_cpu:
            text = f"{path}: {layer.operator} {layer.output!r} is on the CPU. "
            console.print(cell(f"{text}{_sentence(layer.reason)}{remedy(layer)}"))
    console.print(ESTIMATE)


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:].rstrip('.')}. " if reason else ""


def _files(files: Sequence[tuple[str, Compilation]]) -> Table:
    """A column for each file."""
    first = files[0][1]
    title = f"{first.accelerator}, {first.system}, {first.memory}: compiled by Vela"
    table = Table(title=cell(title), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    for path, _ in files:
        table.add_column(cell(path), justify="right", overflow="fold")
    for heading, value in _ROWS.items():
        table.add_row(heading, *(value(compiled) for _, compiled in files))
    return table


_ROWS: dict[str, Callable[[Compilation], str]] = {
    "operators on the NPU": lambda each: str(len(each.layers) - len(each.on_cpu)),
    "operators on the CPU": lambda each: str(len(each.on_cpu)),
    "weights": lambda each: f"{each.weights:,}",
    "bytes of coded weights": lambda each: f"{each.encoded_bytes:,}",
    "bits a weight": lambda each: f"{each.bits:.2f}",
    "entropy of a weight, bits": lambda each: f"{each.entropy:.2f}",
    "bytes in flash or DRAM": lambda each: f"{each.outside_bytes:,}",
    "bytes in SRAM": lambda each: f"{each.sram_bytes:,}",
    "cycles, estimated": lambda each: f"{each.cycles:,}",
    "milliseconds, estimated": lambda each: f"{each.seconds * 1e3:.3f}",
}
"""What is shown of each file."""


def _layers(path: str, compiled: Compilation) -> Table:
    table = Table(title=cell(path), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("operator", "output"):
        table.add_column(heading, overflow="fold")
    for heading in ("on", "weights", "coded", "bits", "entropy", "est. cycles"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in compiled.layers:
        coded = layer.weights and layer.on_npu
        table.add_row(
            cell(layer.operator),
            cell(layer.output),
            "NPU" if layer.on_npu else "CPU",
            f"{layer.weights:,}" if layer.weights else "",
            f"{layer.encoded_bytes:,}" if coded else "",
            f"{layer.bits:.2f}" if coded else "",
            f"{layer.entropy:.2f}" if layer.weights else "",
            f"{layer.cycles:,}" if layer.cycles else "",
        )
    return table


def record(path: str, compiled: Compilation) -> dict[str, Any]:
    """A file for JSON."""
    on_cpu = len(compiled.on_cpu)
    return {
        "model": path,
        "basis": "compiled by Vela; cycles and seconds are its estimate",
        "accelerator": compiled.accelerator,
        "system": compiled.system,
        "memory": compiled.memory,
        "npu_operators": len(compiled.layers) - on_cpu,
        "cpu_operators": on_cpu,
        "weights": compiled.weights,
        "encoded_bytes": compiled.encoded_bytes,
        "bits_per_weight": compiled.bits,
        "entropy": compiled.entropy,
        "outside_bytes": compiled.outside_bytes,
        "sram_bytes": compiled.sram_bytes,
        "compiled_file_bytes": compiled.file_bytes,
        "estimated_cycles": compiled.cycles,
        "estimated_seconds": compiled.seconds,
        "layers": [
            dataclasses.asdict(layer)
            | {"bits": layer.bits, "remedy": "" if layer.on_npu else remedy(layer)}
            for layer in compiled.layers
        ],
    }
