"""Calls of layers that repeat earlier ones, to compute their values again.

What an earlier call observed was observed: a repeated one changes nothing.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Any

_RANGES: contextvars.ContextVar[Mapping[int, Mapping[str, Any]] | None] = contextvars.ContextVar(
    "ranges of a pass that is repeated", default=None
)


@contextlib.contextmanager
def repeating(ranges: Mapping[int, Mapping[str, Any]]) -> Iterator[None]:
    """A context in which calls repeat earlier ones.

    Args:
      ranges: 'minimum' and 'maximum' that each 8-bit range of the calls had, by its quantizer's id.
    """
    token = _RANGES.set(ranges)
    try:
        yield
    finally:
        _RANGES.reset(token)


def is_repeating() -> bool:
    """Whether calls now repeat earlier ones."""
    return _RANGES.get() is not None


def repeated_range(quantizer: Any) -> Mapping[str, Any] | None:
    """The range that a quantizer had in the call that is repeated; None where none is."""
    ranges = _RANGES.get()
    return None if ranges is None else ranges[id(quantizer)]
