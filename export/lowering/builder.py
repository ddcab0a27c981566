"""Collects the tensors and operators of an integer graph as lowering finds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from export.ir.graph import Grid, Operator, Tensor, Weighted
from export.realization.channels import Channels
from wrpn_tf import Kind, LayerView, OutputGrid


class GraphBuilder:
    """An integer graph under construction.

    Attributes:
      tensors: finished tensors by name.
      operators: in execution order.
      grids: the grid of each tensor, as the Keras model has it.
      layers: for each tensor, the Keras layer whose output it is.
      inexact: for each weighted operator's output, how many channels are not exact, by target.
      trained_grids: for each tensor, the scale, smallest and largest code (zero point subtracted)
        that the Keras model gives it; a ReLU's smallest code is 0.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []
        self.grids: dict[str, OutputGrid] = {}
        self.layers: dict[str, str] = {}
        self.inexact: dict[str, dict[str, int]] = {}
        self.trained_grids: dict[str, tuple[float, int, int]] = {}

    def tensor(self, name: str, layer: str, shape: Sequence[int | None], grid: OutputGrid) -> str:
        """Adds a tensor; returns its name, made unique.

        Args:
          name: the name wanted.
          layer: the Keras layer whose output it holds.
          shape: with the batch first, which becomes 1.
          grid: the grid of its codes.
        """
        unique, count = name, 1
        while unique in self.tensors:
            count += 1
            unique = f"{name}_{count}"
        self.tensors[unique] = Tensor(
            shape=(1, *(size or 1 for size in shape[1:])),
            grid=Grid(scale=grid.scale, zero_point=grid.zero_point),
            bits=grid.bits,
        )
        self.grids[unique] = grid
        self.trained_grids[unique] = (grid.scale, grid.low, grid.high)
        self.layers[unique] = layer
        return unique

    def emit(
        self,
        operator: type[Operator],
        inputs: Iterable[str],
        view: LayerView,
        grid: OutputGrid,
        shape: Sequence[int | None] | None = None,
        part: str = "",
        **fields: Any,
    ) -> str:
        """Adds an operator and the tensor it writes; returns the tensor's name.

        Args:
          operator: class of the operator.
          inputs: names of the tensors it reads.
          view: the Keras layer whose output it computes.
          grid: the grid of the output.
          shape: shape of the output; None: that of the Keras layer's.
          part: appended to the layer's name where another operator writes the layer's output.
          **fields: what the operator's class has beyond inputs and output.
        """
        name = view.name.removeprefix("quant_") + part
        output = self.tensor(name, view.name, shape or view.output_shape, grid)
        if view.kind is Kind.RELU:
            self.trained_grids[output] = (grid.scale, max(grid.low, 0), grid.high)
        self.operators.append(operator(inputs=tuple(inputs), output=output, **fields))
        return output

    def emit_weighted(
        self,
        operator: type[Weighted],
        source: str,
        view: LayerView,
        grid: OutputGrid,
        fitted: Channels,
        shape: Sequence[int | None] | None = None,
        **fields: Any,
    ) -> str:
        """`emit` for an operator with a kernel, whose scale and bias were fitted."""
        output = self.emit(
            operator,
            [source],
            view,
            grid,
            shape,
            kernel_scale=fitted.scale,
            bias=fitted.bias,
            relu=fitted.relu,
            code_multiplier=fitted.code_multiplier,
            trained=fitted.trained,
            **fields,
        )
        self.inexact[output] = {
            target: int((~exact).sum()) for target, exact in fitted.exact.items()
        }
        return output
