"""Where the channels of an operator compute: between which tensors, and which kernels run them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from export.ir.graph import Graph
from export.ir.operators import Weighted
from export.kernel_sets import rules
from export.kernel_sets.rules import TARGETS
from export.realization import grouped_convolutions
from wrpn_tf import QuantizationParameters


@dataclasses.dataclass(frozen=True, kw_only=True)
class RequantizationContext:
    """Where the channels of one operator compute.

    Attributes:
      operator: class of the operator.
      vector_product: from `export.kernel_sets.rules.is_vector_product`.
      source: quantization parameters of the input.
      target: those of the output; `low` is 0 behind a ReLU.
      dtype_bits: bits in which a file holds a code of the kernel.
      delegated: whether XNNPACK takes the operator; else 'optimized' runs it by default.
      kernel_sets: of `export.kernel_sets.rules.TARGETS`, those that are asked for, in order.
    """

    operator: type[Weighted]
    vector_product: bool
    source: QuantizationParameters
    target: QuantizationParameters
    dtype_bits: int = 8
    delegated: bool = True
    kernel_sets: tuple[str, ...] = TARGETS

    @classmethod
    def of(
        cls,
        graph: Graph,
        operator: Weighted,
        kernel_sets: Sequence[str] = TARGETS,
        *,
        split_groups: bool = False,
    ) -> RequantizationContext:
        """That of an operator in a graph; with `split_groups`, of its parts once it is split."""
        source, output = (graph.tensors[name] for name in (operator.inputs[0], operator.output))
        target = output.quantization
        form, rows = type(operator), operator.rows
        if split_groups:
            form, rows = grouped_convolutions.part(operator, source.shape[-1])
        return cls(
            operator=form,
            vector_product=rules.is_vector_product(rows, output.shape),
            source=source.quantization,
            target=dataclasses.replace(target, low=0) if operator.relu else target,
            dtype_bits=operator.dtype_bits,
            delegated=rules.effective_kernel_set(graph, operator, "xnnpack") == "xnnpack",
            kernel_sets=tuple(kernel_sets),
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """`kernel_sets`; 'optimized' runs what 'xnnpack' does not take, which comes last."""
        if self.delegated or "xnnpack" not in self.kernel_sets:
            return self.kernel_sets
        run = [name.replace("xnnpack", "optimized") for name in self.kernel_sets]
        return (*dict.fromkeys(run), "xnnpack")

    @property
    def levels(self) -> np.ndarray:
        """The output codes above the lowest, each of which has a threshold."""
        return np.arange(self.target.low + 1, self.target.high + 1)

    def multipliers(self, kernel_scale: np.ndarray, target: str) -> np.ndarray:
        """`export.kernel_sets.rules.multipliers` for kernel scales ``[channels]``."""
        per_tensor = rules.is_per_tensor(self.operator, kernel_scale, self.dtype_bits)
        return rules.multipliers(
            kernel_scale, per_tensor, self.source.scale, self.target.scale, target
        )
