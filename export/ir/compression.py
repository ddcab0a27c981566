"""Kernels at their information size, for files that travel.

A kernel of few different codes is stored as digits: of base 2 (1 bit a code) in a binary network,
of base 3 (1.6 bits: 40 codes in 8 bytes, where the information is 1.58) in a ternary one, of base 7
or 15 with 3 or 4 bits. Channels of zeros, which batch normalization with a gain of 0 leaves behind,
are listed aside, so that they do not add a code to the others.
"""

from __future__ import annotations

import numpy as np

from export.ir.operators import Weighted

_MOST_CODES = 16
_WORD_BITS = 64
FIELDS = ("alphabet", "alive", "digits", "shape")


def digits_per_word(base: int) -> int:
    """How many digits fit 64 bits."""
    count = 0
    while base ** (count + 1) <= 1 << _WORD_BITS:
        count += 1
    return count


def pack(operator: Weighted) -> dict[str, np.ndarray] | None:
    """The kernel of an operator as `FIELDS`, or None where it has too many different codes."""
    channels = operator.rows
    alive = channels.any(axis=1)
    alphabet, digits = np.unique(channels[alive], return_inverse=True)
    base = max(2, len(alphabet))
    if base > _MOST_CODES:
        return None
    count = digits_per_word(base)
    flat = np.zeros(-(-digits.size // count) * count, np.uint64)
    flat[: digits.size] = digits.reshape(-1)
    weights = np.array([base**power for power in range(count)], np.uint64)
    return {
        "alphabet": alphabet,
        "alive": np.packbits(alive),
        "digits": (flat.reshape(-1, count) * weights).sum(axis=1, dtype=np.uint64),
        "shape": np.array(operator.kernel.shape, np.int32),
    }


def unpack(fields: dict[str, np.ndarray], operator: type[Weighted]) -> np.ndarray:
    """The int8 kernel that `pack` packed.

    Args:
      fields: from `pack`.
      operator: class of the operator that has the kernel.

    Raises:
      ValueError: the fields do not fit together.
    """
    alphabet, shape = fields["alphabet"], tuple(int(size) for size in fields["shape"])
    channels = shape[operator.channel_axis]
    taps = int(np.prod(shape)) // channels
    alive = np.unpackbits(fields["alive"], count=channels).astype(bool)
    base = max(2, len(alphabet))
    words = fields["digits"].astype(np.uint64)
    columns = []
    for _ in range(digits_per_word(base)):
        columns.append((words % np.uint64(base)).astype(np.int64))
        words = words // np.uint64(base)
    wanted = int(alive.sum()) * taps
    digits = np.stack(columns, axis=1).reshape(-1)[:wanted]
    if digits.size != wanted or (wanted and digits.max() >= len(alphabet)):
        raise ValueError("packed kernel of another size")
    rows = np.zeros((channels, taps), np.int8)
    if wanted:
        rows[alive] = alphabet[digits].reshape(-1, taps)
    return operator.kernel_of(rows, shape[1:3])
