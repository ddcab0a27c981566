"""What the command line says of all claims."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]
"""What was measured of one thing, as JSON has it; 'reason' is there where nothing could be."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured.

    Attributes:
      rounds: how often everything has its turn.
      steps: training steps, or runs of a file, in a turn.
      exports: how often each export is timed.
      environments: folder of the peers' environments; None: peers are not measured.
      alone: whether to measure only what runs in this process, without JAX and peers.
    """

    rounds: int
    steps: int
    exports: int
    environments: pathlib.Path | None = None
    alone: bool = False


def quartiles(values: Sequence[float], bases: Sequence[float] | None = None) -> list[float]:
    """First quartile, median and third of values, or of their ratios to others, one by one."""
    ratios = np.array(values) / (1 if bases is None else np.array(bases))
    return np.percentile(ratios, (25, 50, 75)).tolist()
