"""What a verification measured, and its tables."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table

from export.verification.checks import Accuracy
from export.verification.comparison import Difference
from wrpn_tf.terminal import cell

_WIDTH = 100  # Of the tables as text.


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelSetRow:
    """An interpreter against the NumPy executor, with one kernel set.

    Attributes:
      kernel_set: 'xnnpack', 'optimized' or 'reference' of LiteRT, or 'tflm'.
      images: over how many images.
      tensors: how many were compared.
      integers: how many integers they hold over the sample.
      different: how many of them differ.
      largest: the largest difference in codes.
    """

    kernel_set: str
    images: int
    tensors: int
    integers: int
    different: int
    largest: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer in the file against Keras, which is fed the device's own input.

    Attributes:
      difference: of the codes of its output.
      bits: of its output.
      unproven: channels that XNNPACK may round otherwise than training.
    """

    difference: Difference
    bits: int
    unproven: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
    """What the checks of one file measured; `str` and rich print it as tables.

    Attributes:
      failures: one sentence each; empty where the file is verified.
      kernels: how many kernels the file has.
      wrong_kernels: those that are not the trained codes, with the reason.
      sample: how many images were compared tensor by tensor.
      kernel_sets: the file against the NumPy executor.
      notes: what was not compared, and why; one sentence each.
      layers: the file against Keras, layer by layer.
      outputs: the file against Keras from end to end, over all images.
      accuracy: top-1; None where an earlier check failed or the output has one channel.
    """

    failures: tuple[str, ...] = ()
    kernels: int = 0
    wrong_kernels: tuple[str, ...] = ()
    sample: int = 0
    kernel_sets: tuple[KernelSetRow, ...] = ()
    notes: tuple[str, ...] = ()
    layers: tuple[LayerRow, ...] = ()
    outputs: tuple[Difference, ...] = ()
    accuracy: Accuracy | None = None

    @property
    def verified(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def integers(self) -> int:
        """How many integers were compared with the executor, over all kernel sets."""
        return sum(row.integers for row in self.kernel_sets)

    @property
    def different(self) -> int:
        """How many of them differ."""
        return sum(row.different for row in self.kernel_sets)

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """The tables, and what failed."""
        yield f"Kernels that are not the trained codes: {len(self.wrong_kernels)} of {self.kernels}"
        if self.kernel_sets:
            yield self._kernel_set_table()
            yield from map(cell, self.notes)
            yield self._layer_table()
        for row in self.outputs:
            yield cell(
                f"{row.name}, from end to end: {row.different:,} of {row.total:,} codes differ "
                f"from Keras, by up to {row.largest}"
            )
        if self.accuracy is not None:
            yield _sentence(self.accuracy)
        for failure in self.failures:
            yield cell(f"FAILED: {failure}")
        yield "verified" if self.verified else "not verified"

    def __str__(self) -> str:
        text = io.StringIO()
        console = Console(file=text, width=_WIDTH, highlight=False, markup=False)
        console.print(self)
        return text.getvalue().rstrip()

    def _kernel_set_table(self) -> Table:
        table = _table(
            "Interpreters against the NumPy executor",
            ("kernels", "images", "tensors", "integers", "different", "largest difference"),
        )
        for row in self.kernel_sets:
            table.add_row(
                row.kernel_set,
                f"{row.images:,}",
                str(row.tensors),
                f"{row.integers:,}",
                f"{row.different:,}",
                str(row.largest),
            )
        return table

    def _layer_table(self) -> Table:
        table = _table(
            "Layers against Keras, each fed the device's own input",
            ("tensor", "bits", "codes", "different", "share", "largest", "unproven channels"),
        )
        for row in self.layers:
            codes = row.difference
            table.add_row(
                cell(codes.name),
                str(row.bits),
                f"{codes.total:,}",
                f"{codes.different:,}",
                f"{codes.different / codes.total:.4%}",
                str(codes.largest),
                str(row.unproven or ""),
            )
        return table


def _table(title: str, headings: tuple[str, ...]) -> Table:
    table = Table(title=title)
    for index, heading in enumerate(headings):
        # Names are told whole: of a long one the end is what differs.
        if index:
            table.add_column(heading, justify="right")
        else:
            table.add_column(heading, overflow="fold")
    return table


def _sentence(accuracy: Accuracy) -> str:
    same = f"the same top-1 on {accuracy.agreement:.2%}"
    if accuracy.device is None or accuracy.keras is None:
        positions = f" of {accuracy.positions:,} positions" if accuracy.positions > 1 else ""
        return f"Of {accuracy.images:,} images{positions}, {same}"
    return (
        f"Top-1 over {accuracy.images:,} images: file {accuracy.device:.2%}, Keras "
        f"{accuracy.keras:.2%}; {same}"
    )
