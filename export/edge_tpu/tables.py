"""The verdicts of a preflight as a table."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Collection, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from export.edge_tpu.fixes import Fixed
from export.edge_tpu.preflight import CACHE_BYTES, Finding, Prediction
from export.edge_tpu.rules import Verdict
from wrpn_tf.terminal import cell

_STYLES = {Verdict.TPU: "green", Verdict.CPU: "yellow", Verdict.CPU_FROM_HERE: "red"}


def show(
    console: Console,
    path: str,
    prediction: Prediction,
    fixed: Fixed | None,
    on_cpu: Collection[int] | None,
    *,
    every: bool,
) -> None:
    """Prints one file's verdicts.

    Args:
      console: where.
      path: the file.
      prediction: its verdicts.
      fixed: what --fix did and what it did not; None: nothing was asked for.
      on_cpu: operators that the compiler left on the CPU; None: not compiled.
      every: a row for each operator, instead of one for neighbours with one verdict and reason.
    """
    table = Table(title=cell(f"{path}: predicted, not compiled"), title_justify="left")
    for heading in ("#", "operator", "verdict", "why, and what to do"):
        table.add_column(heading, justify="right" if heading == "#" else "left")
    for finding, run in _runs(prediction.findings, every):
        table.add_row(
            str(run[0].index) if len(run) == 1 else f"{run[0].index}-{run[-1].index}",
            cell(_names(run)),
            Text(finding.verdict.value, _STYLES.get(finding.verdict, "red")),
            cell(f"{finding.reason} {finding.fix}".strip()),
        )
    console.print(table)
    if fixed is not None:
        for sentence in (*(f"Fixed: {each}" for each in fixed.done), *fixed.left):
            console.print(cell(sentence))
    counts = ", ".join(f"{count} {verdict.value}" for verdict, count in prediction.counts().items())
    console.print(f"{len(prediction.findings)} operators: {counts}. Predicted, not compiled.")
    console.print(
        f"Parameters: {prediction.parameter_bytes / 2**20:.2f} MiB of the about "
        f"{CACHE_BYTES / 2**20:.1f} MiB cached on the chip"
        + (
            f"; {prediction.streamed_bytes / 2**20:.2f} MiB come from the host at every inference."
            if prediction.streamed_bytes
            else "."
        )
    )
    if on_cpu is not None:
        _show_compiled(console, prediction, on_cpu)


def _show_compiled(console: Console, prediction: Prediction, on_cpu: Collection[int]) -> None:
    console.print(f"Compiled: {len(on_cpu)} operators on the CPU.")
    for finding in prediction.findings:
        if finding.verdict is Verdict.UNUSED:
            continue
        promised = finding.verdict is Verdict.TPU
        if promised == (finding.index in on_cpu):
            real = "on the CPU" if finding.index in on_cpu else "on the TPU"
            text = f"Operator {finding.index} ({finding.operator}) is {real}; predicted: "
            console.print(cell(f"{text}{finding.verdict.value}."))


def _runs(findings: Sequence[Finding], every: bool) -> Iterator[tuple[Finding, Sequence[Finding]]]:
    """Neighbouring findings with one verdict and reason, together."""
    for _, run in itertools.groupby(
        findings, lambda finding: (finding.verdict, finding.reason, every and finding.index)
    ):
        rows = list(run)
        yield rows[0], rows


def _names(findings: Sequence[Finding]) -> str:
    counted = collections.Counter(finding.operator for finding in findings)
    if len(findings) == 1:
        return findings[0].operator
    return ", ".join(f"{count} {name}" for name, count in counted.most_common())
