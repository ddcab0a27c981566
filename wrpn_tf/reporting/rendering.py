"""Tables that fit a terminal, and numbers as they print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

_PREFIXES = ("", "K", "M", "G", "T", "P")


def compact_table(title: str, **options: Any) -> Table:
    """A table without vertical lines, whose columns stand one space apart."""
    return Table(title=title, box=box.SIMPLE_HEAD, padding=0, **options)


def scaled(value: float) -> str:
    """A count with a decimal prefix: 3,663,761,408 is '3.66 G'."""
    return _with_prefix(value, 1000, "")


def byte_count(value: float) -> str:
    """A number of bytes with a binary prefix: 1536 is '1.50 KiB'."""
    return _with_prefix(value, 1024, "B")


def shape_text(shape: Sequence[int]) -> str:
    """A shape: '56x56x64'."""
    return "x".join(map(str, shape))


def _with_prefix(value: float, base: int, unit: str) -> str:
    power = 0
    while value >= base and power < len(_PREFIXES) - 1:
        value /= base
        power += 1
    if not power:
        return f"{value:.4g} {unit}".rstrip()
    number = f"{value:.0f}" if value >= 100 else f"{value:#.3g}"
    return f"{number} {_PREFIXES[power]}{'i' if unit else ''}{unit}"
