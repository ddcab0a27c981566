"""Kernels that earlier versions packed to digits in compressed graphs: they are still read.

A kernel of few different codes is digits of base 2, 3, 7 or 15, as many as fit in 64 bits. Channels
of zeros are listed aside, so that they do not add a code to the others. Plain compression takes
less room wherever codes are unequally often, so nothing is packed any more.
"""

from __future__ import annotations

import math

import numpy as np

from export.ir.operators import Weighted

_WORD_BITS = 64
_MOST_CODES = 256
FIELDS = ("alphabet", "alive", "digits", "shape")


def _digits_per_word(base: int) -> int:
    """How many digits fit 64 bits."""
    count = 0
    while base ** (count + 1) <= 1 << _WORD_BITS:
        count += 1
    return count


def unpack(fields: dict[str, np.ndarray], operator: type[Weighted], most: int) -> np.ndarray:
    """The int8 kernel that was packed.

    Args:
      fields: arrays by the names in `FIELDS`.
      operator: class of the operator that has the kernel.
      most: codes that the kernel may have.

    Raises:
      ValueError: the fields do not fit together, or the kernel has more codes than `most`.
    """
    if others := [name for name in FIELDS if fields[name].dtype.kind not in "iu"]:
        raise ValueError(f"a packed kernel whose {', '.join(others)} are no integers")
    alphabet, shape = fields["alphabet"], tuple(int(size) for size in fields["shape"])
    if len(shape) != operator.rank or min(shape) < 1 or math.prod(shape) > most:
        raise ValueError(f"a packed kernel of shape {shape}")
    channels = shape[operator.channel_axis]
    taps = math.prod(shape) // channels
    alive = np.unpackbits(fields["alive"], count=channels).astype(bool)
    base = max(2, len(alphabet))
    words = fields["digits"].astype(np.uint64)
    wanted = int(alive.sum()) * taps
    if base > _MOST_CODES or words.size * _digits_per_word(base) - wanted > 64:
        raise ValueError("packed kernel of another size")
    columns = []
    for _ in range(_digits_per_word(base)):
        columns.append((words % np.uint64(base)).astype(np.uint8))
        words = words // np.uint64(base)
    digits = np.stack(columns, axis=1).reshape(-1)[:wanted]
    if digits.size != wanted or (wanted and digits.max() >= len(alphabet)):
        raise ValueError("packed kernel of another size")
    rows = np.zeros((channels, taps), np.int8)
    if wanted:
        rows[alive] = alphabet[digits].reshape(-1, taps)
    return operator.kernel_of(rows, shape[1:3])
