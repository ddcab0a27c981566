"""Kernels stored in fewer than 8 bits: which operators run with them, and how fast.

XNNPACK takes INT4 and INT2 in FULLY_CONNECTED only. A CONV_2D or DEPTHWISE_CONV_2D with them is
left to kernels that take 4 to 6 times as long as XNNPACK's with INT8. But a convolution is a
FULLY_CONNECTED over its windows, too, once those are copied (`export.realization.im2col`).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from export.ir.operators import (
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
    Operator,
    TransposeConv2D,
    Weighted,
)
from export.ir.weight_dtypes import LARGEST, WEIGHTS, check_weights

DTYPE_BITS: dict[type[Operator], tuple[int, ...]] = {
    Conv2D: (8, 4),
    GroupedConv2D: (8,),
    DepthwiseConv2D: (8, 4),
    TransposeConv2D: (8,),
    FullyConnected: (8, 4, 2),
}
"""In how many bits a code of an operator's kernel may be stored for it to run (LiteRT 2.3)."""

DELEGATED: frozenset[type[Operator]] = frozenset({FullyConnected})
"""Operators that XNNPACK takes with fewer than 8 bits, if the rows fill whole bytes."""

AS_DENSE: frozenset[type[Operator]] = frozenset({Conv2D, FullyConnected})
"""Operators that are, or can be written as, a FULLY_CONNECTED."""

MOST_TIME = 4 / 3
"""How much longer a layer may take than in INT8 for half its bytes, by the model of time."""

# Time of a product with a kernel of so many bits, relative to 8.
_UNPACKING = {8: 1.0, 4: 1.07, 2: 1.65}
# What it takes to copy a code into its window, in products.
_COPYING = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Storage:
    """How a .tflite file holds a kernel.

    Attributes:
      operator: class of the operator that has it.
      dtype_bits: in which it holds a code.
    """

    operator: type[Weighted]
    dtype_bits: int


def narrowest(weights: str, operator: type[Weighted], codes: np.ndarray) -> int:
    """Bits of the narrowest storage that `weights` allows, that holds `codes` and that runs.

    Args:
      weights: 'int8', 'int4' or 'int2'.
      operator: class of the operator that has the kernel.
      codes: the trained codes, without code multiplier.
    """
    check_weights(weights)
    largest = int(np.abs(codes).max(initial=0))
    return min(
        bits
        for bits in DTYPE_BITS[operator]
        if bits >= WEIGHTS[weights] and largest <= LARGEST[bits]
    )


def storage(
    weights: str, operator: type[Weighted], codes: np.ndarray, *, copies: bool, positions: int
) -> Storage:
    """How a kernel is stored: in as few bits as cost little time.

    Fewer than 8 bits only where XNNPACK takes them, which then gives the same integers as with 8,
    and where the model of time (`relative_time`) does not exceed `MOST_TIME`.

    Args:
      weights: 'int8', 'int4' or 'int2'.
      operator: class of the operator that has the kernel.
      codes: the trained codes ``[channels, taps]``, without code multiplier.
      copies: whether a FULLY_CONNECTED needs copies of its windows: not where they are its input.
      positions: at how many places the kernel is applied.
    """
    check_weights(weights)
    whole = Storage(operator=operator, dtype_bits=8)
    if operator not in AS_DENSE:
        return whole
    channels, taps = codes.shape
    possible = [
        bits
        for bits in DTYPE_BITS[FullyConnected]
        if narrowest(weights, FullyConnected, codes) <= bits < 8
        and is_delegated(FullyConnected, bits, taps)
        and relative_time(bits, channels, positions, copies=copies) <= MOST_TIME
    ]
    return Storage(operator=FullyConnected, dtype_bits=min(possible)) if possible else whole


def relative_time(bits: int, channels: int, positions: int, *, copies: bool) -> float:
    """Estimated time of a FULLY_CONNECTED, relative to the same layer in INT8 without copies.

    Measured with XNNPACK (LiteRT 2.3) on x86-64 with VNNI, one thread; `python -m benchmarks.int4
    --layers` measures it anew. Where multiplying takes longer, copying costs less.

    Args:
      bits: in which a file holds a code of the kernel.
      channels: of the output: by how many kernels a window, once copied, is multiplied.
      positions: at how many places the kernel is applied; at a single one reading the kernel is
        what takes time, and fewer bits are read sooner.
      copies: whether the windows are copied.
    """
    multiplying = 1.0 if positions == 1 else _UNPACKING[bits]
    return multiplying + (_COPYING / channels if copies else 0.0)


def is_delegated(operator: type[Weighted], bits: int, row_length: int) -> bool:
    """Whether XNNPACK takes an operator with its storage.

    Args:
      operator: class of the operator.
      bits: in which a file holds a code of the kernel.
      row_length: length of the kernel's last axis.
    """
    return bits == 8 or (operator in DELEGATED and row_length * bits % 8 == 0)
