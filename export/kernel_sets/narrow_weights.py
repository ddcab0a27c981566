"""Kernels stored in fewer than 8 bits: which operators run with them, and how fast."""

from __future__ import annotations

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


def is_cheaper_as_dense(codes: np.ndarray, weights: str) -> bool:
    """Whether codes ``[channels, taps]`` of a 1x1 convolution go into a FULLY_CONNECTED.

    XNNPACK takes no CONV_2D with INT4 codes, but a FULLY_CONNECTED over the last axis, which is
    what a 1x1 convolution with stride 1 is.
    """
    bits = narrowest(weights, FullyConnected, codes)
    return bits < 8 and is_delegated(FullyConnected, bits, codes.shape[1])


def is_delegated(operator: type[Weighted], bits: int, row_length: int) -> bool:
    """Whether XNNPACK takes an operator with its storage.

    Args:
      operator: class of the operator.
      bits: in which a file holds a code of the kernel.
      row_length: length of the kernel's last axis.
    """
    return bits == 8 or (operator in DELEGATED and row_length * bits % 8 == 0)
