"""What settling moved, and its table."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table

from wrpn_tf.terminal import cell

_WIDTH = 100  # Of the table as text.


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerMoves:
    """What moved in one layer.

    Attributes:
      name: the tensor that it computes.
      channels: how many it has; 1 for a sum, a line or a move to another grid: of one scale.
      recoded: of how many some output code is another one for some input; the others moved to where
        the device computes the codes that they had.
      largest_offset: the largest move of an offset, in codes of the output.
      largest_gain: the largest move of a gain or of a scale, as a share of it.
    """

    name: str
    channels: int
    recoded: int
    largest_offset: float = 0.0
    largest_gain: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Settlement:
    """What `export.settle` moved; `str` and rich print it as a table.

    Attributes:
      layers: in execution order, sums first.
      images: how many were looked at.
      top1_changed: share of them whose top-1 of the first output changed; None without images, or
        where that output has one channel.
    """

    layers: tuple[LayerMoves, ...]
    images: int = 0
    top1_changed: float | None = None

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return sum(layer.channels for layer in self.layers)

    @property
    def recoded(self) -> int:
        """Of how many some code is another one."""
        return sum(layer.recoded for layer in self.layers)

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """The table, and its sum."""
        table = Table(title="Settled")
        for heading in ("layer", "channels", "recoded", "offset, codes", "gain or scale"):
            table.add_column(heading, justify="left" if heading == "layer" else "right")
        for layer in self.layers:
            table.add_row(
                cell(layer.name),
                str(layer.channels),
                str(layer.recoded),
                f"{layer.largest_offset:.3f}" if layer.largest_offset else "",
                f"{layer.largest_gain:.3%}" if layer.largest_gain else "",
            )
        yield table
        yield cell(f"Another code for some input: {self.recoded:,} of {self.channels:,} channels")
        if self.top1_changed is not None:
            yield cell(f"Top-1 changed on {self.top1_changed:.2%} of {self.images:,} images")

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=_WIDTH, highlight=False, markup=False).print(self)
        return text.getvalue().rstrip()

    __repr__ = __str__
