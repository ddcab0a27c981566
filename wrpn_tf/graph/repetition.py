"""Calls of layers that repeat earlier ones, to compute their values again.

What an earlier call observed was observed: a repeated one changes nothing.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Any

Ranges = Mapping[int, Mapping[str, Any]]
Outputs = Mapping[int, Any]

_REPEATED: contextvars.ContextVar[tuple[Ranges, Outputs] | None] = contextvars.ContextVar(
    "ranges and outputs of a pass that is repeated", default=None
)


@contextlib.contextmanager
def repeating(ranges: Ranges, outputs: Outputs) -> Iterator[None]:
    """A context in which calls repeat earlier ones.

    Args:
      ranges: 'minimum' and 'maximum' that each 8-bit range of the calls had, by its quantizer's id.
      outputs: those that are known already, by the id of the quantizer that gave them.
    """
    token = _REPEATED.set((ranges, outputs))
    try:
        yield
    finally:
        _REPEATED.reset(token)


def is_repeating() -> bool:
    """Whether calls now repeat earlier ones."""
    return _REPEATED.get() is not None


def repeated_range(quantizer: Any) -> Mapping[str, Any] | None:
    """The range that a quantizer had in the call that is repeated; None where none is."""
    repeated = _REPEATED.get()
    return None if repeated is None else repeated[0][id(quantizer)]


def repeated_output(quantizer: Any) -> Any | None:
    """What a quantizer gave in the call that is repeated, where that is known; else None."""
    repeated = _REPEATED.get()
    return None if repeated is None else repeated[1].get(id(quantizer))
