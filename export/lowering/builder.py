"""Collects the tensors and operators of a trained graph as lowering finds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from export.ir.operators import Operator, Reshape
from export.ir.provenance import Provenance
from export.ir.tensors import Tensor
from wrpn_tf import Kind, LayerView, QuantizationParameters


class GraphBuilder:
    """A trained graph under construction.

    Attributes:
      tensors: finished tensors by name.
      operators: in execution order.
      layers: see `Provenance`.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []
        self.layers: dict[str, str] = {}
        self._trained: dict[str, QuantizationParameters] = {}

    def provenance(self) -> Provenance:
        """What is known of the training behind the tensors and operators so far."""
        return Provenance(layers=self.layers, quantization=self._trained)

    def tensor(
        self,
        name: str,
        layer: str,
        shape: Sequence[int | None],
        quantization: QuantizationParameters,
    ) -> str:
        """Adds a tensor; returns its name, made unique.

        Args:
          name: the name wanted.
          layer: the Keras layer whose output it holds.
          shape: with the batch first, which becomes 1.
          quantization: of its codes.
        """
        unique, count = name, 1
        while unique in self.tensors:
            count += 1
            unique = f"{name}_{count}"
        self.tensors[unique] = Tensor(
            shape=(1, *(size or 1 for size in shape[1:])),
            quantization=quantization,
        )
        self._trained[unique] = quantization
        self.layers[unique] = layer
        return unique

    def emit(
        self,
        operator: type[Operator],
        inputs: Iterable[str],
        view: LayerView,
        quantization: QuantizationParameters,
        shape: Sequence[int | None] | None = None,
        part: str = "",
        **fields: Any,
    ) -> str:
        """Adds an operator and the tensor it writes; returns the tensor's name.

        Args:
          operator: class of the operator.
          inputs: names of the tensors it reads.
          view: the Keras layer whose output it computes.
          quantization: of the output.
          shape: shape of the output; None: that of the Keras layer's.
          part: appended to the layer's name where another operator writes the layer's output.
          **fields: what the operator's class has beyond inputs and output.
        """
        name = view.own_name + part
        output = self.tensor(name, view.name, shape or view.output_shape, quantization)
        if view.kind is Kind.RELU:
            self._trained[output] = dataclasses.replace(quantization, low=max(quantization.low, 0))
        if operator is Reshape:
            inputs = map(self._before_reshapes, inputs)
        self.operators.append(operator(inputs=tuple(inputs), output=output, **fields))
        return output

    def _before_reshapes(self, name: str) -> str:
        """The tensor whose values a tensor has in another shape, or itself."""
        made = {each.output: each for each in self.operators if isinstance(each, Reshape)}
        while name in made:
            (name,) = made[name].inputs
        return name

    def prune(self, outputs: Collection[str]) -> None:
        """Drops the reshapes that nothing reads."""
        for operator in self.operators[::-1]:
            if not isinstance(operator, Reshape) or operator.output in outputs:
                continue
            if not any(operator.output in other.inputs for other in self.operators):
                self.operators.remove(operator)
                for known in (self.tensors, self.layers, self._trained):
                    del known[operator.output]
