"""How many bits a .tflite file gives to each kernel code: 8, 4 or 2.

TFLite packs INT4 and INT2 tensors in row-major order, the first code in the lowest bits of a byte,
without padding between rows (tensorflow/lite/kernels/internal/portable_tensor_utils.cc).
"""

from __future__ import annotations

import numpy as np

# The names of the choices, and the fewest bits of a code that each allows.
WEIGHTS = {"int8": 8, "int4": 4, "int2": 2}
# Largest code of a storage; -(largest + 1) is not used, so that codes are symmetric.
LARGEST = {8: 127, 4: 7, 2: 1}


def check_weights(weights: str) -> None:
    """Raises ValueError where `weights` is not the name of a storage."""
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, not {weights!r}")


def choice(bits: int) -> str:
    """The choice of `WEIGHTS` whose narrowest kernel has `bits`."""
    return next(name for name, fewest in WEIGHTS.items() if fewest == bits)


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
