"""How far a long computation is: a line on the terminal, and nothing where there is none."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from wrpn_tf.terminal import printable


class ProgressLine:
    """A line on the standard error: what is being done, how much of it is done, how long it takes.

    A context manager; the line is gone at its end.

    Args:
      what: what is being done, at first.
      total: how much there is to do, in any unit; None where that is not known.
      shown: whether to show it; None: where the standard error is a terminal.
    """

    def __init__(self, what: str, total: int | None = None, shown: bool | None = None) -> None:
        # isatty: a console of rich takes a pipe for a terminal where FORCE_COLOR is set.
        is_terminal = sys.stderr.isatty()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("so far,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(stderr=True),
            transient=is_terminal,
            redirect_stdout=False,  # Else what is printed meanwhile goes to the standard error.
            disable=not (is_terminal if shown is None else shown),
        )
        self._task = self._bar.add_task(printable(what), total=total)

    def begin(self, what: str) -> None:
        """Says what is being done now."""
        self._bar.update(self._task, description=printable(what))

    def advance(self, count: float) -> None:
        """So much more is done."""
        self._bar.advance(self._task, count)

    def reach(self, count: int) -> None:
        """So much is done in all."""
        self._bar.update(self._task, completed=count)

    def __enter__(self) -> ProgressLine:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
