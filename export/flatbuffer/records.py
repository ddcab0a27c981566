"""A .tflite file as plain records: subgraphs of operators over tensors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from export.ir import weight_dtypes
from wrpn_tf import QuantizationParameters

CUSTOM = 32  # The builtin code of custom operators.
# Bits of an element, by type; types that are not here have no fixed size.
BITS = {
    **dict.fromkeys(("INT2",), 2),
    **dict.fromkeys(("INT4", "UINT4"), 4),
    **dict.fromkeys(("INT8", "UINT8", "BOOL", "FLOAT8_E4M3FN", "FLOAT8_E5M2"), 8),
    **dict.fromkeys(("INT16", "UINT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("INT32", "UINT32", "FLOAT32"), 32),
    **dict.fromkeys(("INT64", "UINT64", "FLOAT64", "COMPLEX64"), 64),
    "COMPLEX128": 128,
}
_DTYPES = {
    name: np.dtype(name.lower()).newbyteorder("<")
    for name, bits in BITS.items()
    if bits >= 8 and name.removeprefix("U").rstrip("0123456789") in ("INT", "FLOAT")
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """A tensor.

    Attributes:
      name: its name, not always unique.
      type: name of its TFLite type, as 'INT8'.
      shape: its dimensions.
      signature: its dimensions with -1 where they may change, or None.
      scale: float32, one per channel or one in all; empty: not quantized.
      zero_point: int64, as many as `scale`, or one, or none.
      axis: the dimension that the scales belong to where there are several.
      data: the bytes of a constant; None: computed, fed or kept between calls.
      external: whether the constant lies outside the flatbuffer, behind it in the file.
      variable: whether it keeps its value between calls.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    signature: tuple[int, ...] | None
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int
    data: memoryview | None
    external: bool
    variable: bool

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """The type of its elements in NumPy.

        Raises:
          ValueError: if there is none.
        """
        if self.type not in _DTYPES:
            raise ValueError(f"tensor {self.name!r} is {self.type}, which is not read as an array")
        return _DTYPES[self.type]

    @property
    def quantization(self) -> QuantizationParameters | None:
        """Of integers with one scale: the whole range of their type. Else None."""
        signed = self.type.startswith("INT")
        if len(self.scale) != 1 or not (signed or self.type.startswith("UINT")):
            return None
        bits = BITS[self.type]
        lowest = -(2 ** (bits - 1)) if signed else 0
        low = lowest - int(self.zero_point.sum())  # There are files without a zero point.
        return QuantizationParameters(
            scale=float(self.scale[0]), low=low, high=low + 2**bits - 1, bits=bits
        )

    def array(self) -> np.ndarray:
        """A constant's values; INT4 and INT2 are unpacked to int8, low bits first.

        Raises:
          ValueError: the tensor is not a constant, or its type has no array.
        """
        if self.data is None:
            raise ValueError(f"tensor {self.name!r} is not a constant")
        if self.type in ("INT4", "INT2"):
            return weight_dtypes.unpack(
                np.frombuffer(self.data, np.uint8), BITS[self.type], self.shape
            )
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Operator:
    """An operator.

    Attributes:
      code: its builtin code, 32 for a custom operator.
      name: name of the code, as 'CONV_2D'; a custom operator's own name.
      version: its version.
      inputs: indices of the tensors it reads; -1: left out.
      outputs: indices of the tensors it writes.
      options: fields of its options table, by the schema's object API names; empty: defaults.
    """

    code: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]

    @property
    def custom(self) -> bool:
        """Whether it is a custom operator."""
        return self.code == CUSTOM


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Subgraph:
    """Operators in the order they run, over one list of tensors."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A .tflite file, read.

    Attributes:
      subgraphs: at least one; the first is the network.
      metadata: content by name.
      content: the file.
    """

    subgraphs: tuple[Subgraph, ...]
    metadata: Mapping[str, bytes]
    content: bytes

    @property
    def main(self) -> Subgraph:
        """The network itself."""
        return self.subgraphs[0]

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors that the network is fed."""
        return [self.main.tensors[index] for index in self.main.inputs]

    @property
    def outputs(self) -> list[Tensor]:
        """The tensors that it gives."""
        return [self.main.tensors[index] for index in self.main.outputs]
