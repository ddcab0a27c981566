"""A proof as a table."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from export.kernel_sets.rules import TARGETS
from export.proof.result import OperatorProof, Proof
from wrpn_tf.terminal import cell

_HEADINGS = {
    "xnnpack": "XNNPACK",
    "optimized": "x86",
    "optimized_arm": "ARM",
    "reference": "ref.",
    "reference_2_14": "2.14",
    "tflm": "TFLM",
}


def show(proof: Proof, console: Console | None = None) -> None:
    """Prints what is proven, operator by operator and in sum."""
    write = (console or Console()).print
    table = Table(
        title="Cases with another code than the training for some input (by how much)",
        caption="w/a: bits of weights and output. Cases: channels, each over all its accumulators; "
        "code pairs of a sum; window sums of an average. x86, ARM: optimized kernels; ref., 2.14: "
        "reference kernels, and those of tflite-runtime 2.14. TFLM: TensorFlow Lite Micro.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("operator", overflow="fold", min_width=25)
    for heading in ("w/a", "cases", *_HEADINGS.values()):
        table.add_column(heading, justify="right")
    for row in proof.operators:
        if row.cases or row.problems or not row.covered:
            table.add_row(*_cells(row))
    write(table)
    for bits, what in ((range(1, 8), "weights below 8 bits"), ((8,), "weights of 8 bits")):
        total = proof.share((), bits)[1]
        if total:
            shares = {_HEADINGS[t]: proof.share((t,), bits)[0] for t in TARGETS}
            shares["all kernels"] = proof.share(TARGETS, bits)[0]
            parts = [f"{name} {_percent(count, total)}" for name, count in shares.items()]
            write(f"Channels with {what}, proven of {total:,}: {', '.join(parts)}")
    copied = [row for row in proof.operators if not row.cases and row.proven()]
    write(f"Inputs, and operators that copy codes within one grid: {len(copied)}, proven")
    for row in proof.operators:
        if not row.covered:
            write(cell(f"Outside the proof: {row.name} ({row.kind})"))


def _cells(row: OperatorProof) -> list[str | Text]:
    cells: list[str | Text] = [
        cell(row.name),
        f"{row.weight_bits or '-'}/{row.output_bits}",
        f"{row.cases:,}" if row.cases else "",
    ]
    if row.problems or not row.covered:
        return [*cells, *("wrong" if row.problems else "-" for _ in TARGETS)]
    return cells + [
        f"{row.different[target]:,} ({row.worst[target]})" if row.different[target] else "0"
        for target in TARGETS
    ]


def _percent(count: int, total: int) -> str:
    """Rounded down: 100 % means all."""
    return f"{count * 10000 // total / 100:.2f} %"
