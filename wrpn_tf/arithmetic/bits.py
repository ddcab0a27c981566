"""Bit-widths: which there are, and the largest code of each."""

from __future__ import annotations

OFF = 32
"""Bit-width that means "not quantized"."""

_PACKED_WIDTHS = (1, 2, 4, 8)


def check_bits(bits: int, what: str = "bits") -> int:
    """Returns `bits` if it is 1 to 8 or 32 (off).

    Raises:
      ValueError: for any other value, naming it.
    """
    if isinstance(bits, bool) or bits not in (*range(1, 9), OFF):
        raise ValueError(f"{what} must be 1 to 8, or 32 for no quantization; got {bits!r}.")
    return int(bits)


def weight_levels(bits: int) -> int:
    """Largest weight code: ``2 ** (bits - 1) - 1``, and 1 for binary weights (WRPN, section 5)."""
    return max(1, 2 ** (bits - 1) - 1)


def activation_levels(bits: int) -> int:
    """Largest activation code: ``2 ** bits - 1`` (WRPN, section 5)."""
    return 2**bits - 1


def packed_width(bits: int) -> int:
    """Bits that a packed code takes: the next of 1, 2, 4 and 8.

    Args:
      bits: of the codes, 1 to 8.

    Raises:
      ValueError: for any other bit-width.
    """
    check_bits(bits, "bits of packed codes")
    if bits > _PACKED_WIDTHS[-1]:
        raise ValueError(f"Codes of 1 to 8 bits are packed; got {bits} bits.")
    return next(width for width in _PACKED_WIDTHS if bits <= width)
