"""How many bits a .tflite file gives to each kernel code: 8, 4 or 2.

TFLite packs INT4 and INT2 tensors in row-major order, the first code in the lowest bits of a byte,
without padding between rows (tensorflow/lite/kernels/internal/portable_tensor_utils.cc).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from export.ir.graph import (
    FullyConnected,
    GroupedConv2D,
    IntegerGraph,
    Operator,
    TransposeConv2D,
    Weighted,
)

# The names of the choices, and the fewest bits of a code that each allows.
WEIGHTS = {"int8": 8, "int4": 4, "int2": 2}
# Largest code of a storage; -(largest + 1) is not used, so that codes are symmetric.
LARGEST = {8: 127, 4: 7, 2: 1}


def check_weights(weights: str) -> None:
    """Raises ValueError where `weights` is not the name of a storage."""
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, not {weights!r}")


def narrowest(weights: str, operator: type[Operator], codes: np.ndarray) -> int:
    """Bits of the narrowest storage that `weights` allows, that holds `codes` and that runs.

    INT2 runs in dense layers only, grouped and transposed convolutions with INT8 only (LiteRT 2.3).

    Args:
      weights: 'int8', 'int4' or 'int2'.
      operator: class of the operator that has the kernel.
      codes: the trained codes, not stretched.
    """
    check_weights(weights)
    runs = {8} if operator in (GroupedConv2D, TransposeConv2D) else {8, 4}
    if operator is FullyConnected:
        runs.add(2)
    largest = int(np.abs(codes).max(initial=0))
    return min(bits for bits in runs if bits >= WEIGHTS[weights] and largest <= LARGEST[bits])


def is_cheaper_as_dense(kernel: np.ndarray, strides: tuple[int, int], weights: str) -> bool:
    """Whether a convolution's codes ``[height, width, in, out]`` go into a FULLY_CONNECTED.

    XNNPACK takes no CONV_2D with INT4 codes, but a FULLY_CONNECTED over the last axis, which is
    what a 1x1 convolution with stride 1 is.
    """
    bits = narrowest(weights, FullyConnected, kernel)
    is_pointwise = kernel.shape[:2] == (1, 1) and tuple(strides) == (1, 1)
    return is_pointwise and bits < 8 and kernel.shape[2] * bits % 8 == 0


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """int8 codes as a file holds them: uint8, ``8 / bits`` codes in a byte."""
    if bits == 8:
        return codes.reshape(-1).view(np.uint8)
    per_byte = 8 // bits
    fields = np.zeros(-(-codes.size // per_byte) * per_byte, np.uint8)
    fields[: codes.size] = codes.reshape(-1).view(np.uint8) & ((1 << bits) - 1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(fields.reshape(-1, per_byte) << shifts, axis=1)


def unpack(data: np.ndarray, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    """The int8 codes of a tensor of `shape` whose buffer is the uint8 array `data`.

    Raises:
      ValueError: the buffer is not of the size that the shape and the bits ask for.
    """
    count = int(np.prod(shape))
    size = -(-count * bits // 8)
    if data.size != size:
        raise ValueError(f"a buffer of {data.size} bytes, {size} expected")
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (data[:, None] >> shifts).reshape(-1)[:count] << (8 - bits)
    return (fields.astype(np.uint8).view(np.int8) >> (8 - bits)).reshape(shape)


def as_int8(graph: IntegerGraph) -> IntegerGraph:
    """The same graph, every kernel stored in 8 bits: the twin of an int4 or int2 file."""
    operators = [
        dataclasses.replace(operator, dtype_bits=8) if isinstance(operator, Weighted) else operator
        for operator in graph.operators
    ]
    return dataclasses.replace(graph, operators=operators)


def is_delegated(operator: type[Operator], bits: int, row: int) -> bool:
    """Whether XNNPACK takes an operator with its storage.

    Of INT4 and INT2 kernels it takes those of FULLY_CONNECTED whose rows fill whole bytes.

    Args:
      operator: class of the operator.
      bits: in which a file holds a code of the kernel.
      row: length of the kernel's last axis.
    """
    return bits == 8 or (issubclass(operator, FullyConnected) and row * bits % 8 == 0)
