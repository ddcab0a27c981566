"""The tensors of a graph."""

from __future__ import annotations

import dataclasses

from wrpn_tf import QuantizationParameters


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
    """An int8 activation tensor.

    Attributes:
      shape: dimensions with the batch first; the batch is 1.
      quantization: scale, range and bits of its codes.
    """

    shape: tuple[int, ...]
    quantization: QuantizationParameters

    @property
    def grid(self) -> QuantizationParameters:
        """`quantization` under its name in earlier versions."""
        return self.quantization
