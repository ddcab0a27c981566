"""Where the channels of an operator compute: grids, storage and the kernels that run them."""

from __future__ import annotations

import dataclasses

import numpy as np

from export.ir.graph import IntegerGraph, Weighted, channel_rows
from export.ir.weight_dtypes import is_delegated
from export.kernel_sets import rules
from export.kernel_sets.rules import TARGETS


@dataclasses.dataclass(frozen=True, kw_only=True)
class RequantizationContext:
    """Where the channels of one operator compute.

    Attributes:
      operator: class of the operator.
      vector_product: from `export.kernel_sets.rules.is_vector_product`.
      input_scale: scale of the input tensor.
      input_low: smallest input code, zero point subtracted.
      input_high: largest input code, zero point subtracted.
      output_scale: scale of the output tensor.
      output_low: smallest output code, zero point subtracted; 0 behind a ReLU.
      output_high: largest output code, zero point subtracted.
      dtype_bits: bits in which a file holds a code of the kernel.
      delegated: whether XNNPACK takes the operator.
    """

    operator: type[Weighted]
    vector_product: bool
    input_scale: float
    input_low: int
    input_high: int
    output_scale: float
    output_low: int
    output_high: int
    dtype_bits: int = 8
    delegated: bool = True

    @classmethod
    def of(cls, graph: IntegerGraph, operator: Weighted) -> RequantizationContext:
        """That of an operator in a graph."""
        source, target = (graph.tensors[name] for name in (operator.inputs[0], operator.output))
        return cls(
            operator=type(operator),
            vector_product=rules.is_vector_product(channel_rows(operator), target.shape),
            input_scale=source.grid.scale,
            input_low=source.low,
            input_high=source.high,
            output_scale=target.grid.scale,
            output_low=0 if operator.relu else target.low,
            output_high=target.high,
            dtype_bits=operator.dtype_bits,
            delegated=is_delegated(type(operator), operator.dtype_bits, operator.kernel.shape[-1]),
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """`export.kernel_sets.rules.TARGETS`, the one that the default interpreter runs first."""
        return TARGETS if self.delegated else (*TARGETS[1:], *TARGETS[:1])

    @property
    def levels(self) -> np.ndarray:
        """The output codes above the lowest, each of which has a threshold."""
        return np.arange(self.output_low + 1, self.output_high + 1)

    def multipliers(self, kernel_scale: np.ndarray, target: str) -> np.ndarray:
        """`export.kernel_sets.rules.multipliers` for kernel scales ``[channels]``."""
        per_tensor = rules.is_per_tensor(self.operator, kernel_scale, self.dtype_bits)
        return rules.multipliers(
            kernel_scale, per_tensor, self.input_scale, self.output_scale, target
        )
