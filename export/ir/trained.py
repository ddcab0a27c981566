"""The trained graph: what a network was trained to compute, exactly and without a device.

Layers with a kernel are one class of operator here. It has what was trained; the integers of a file
(bias, scale, factor on the codes, storage) are chosen by `export.realization`. All other operators
are those of `export.ir.operators`: with quantization parameters they are complete.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.ir.graph import Graph
from export.ir.operators import Operator, Shape, Weighted
from export.ir.provenance import TRAINED
from export.ir.tensors import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrainedKernel(Operator):
    """A layer with a kernel, and the bias, normalization and ReLU that became one with it.

    Attributes:
      form: how the kernel meets the input: the class of operators with a kernel that does it.
      codes: int8 ``[channels, taps]`` as trained, taps in TFLite's order.
      window: height and width of the window; of a dense layer (1, 1).
      bits: weight bits the layer was trained with.
      parameters: `TRAINED` ``[channels]``: what each channel computes from its accumulator.
      has_weights: False for a gain and an offset without a layer's weights before it, whose codes
        are 1.
      strides: vertical and horizontal step of the window; for this and what follows see `form`,
        which may be without it.
      dilation: vertical and horizontal distance of its taps.
      padding: 'SAME' or 'VALID'.
    """

    form: type[Weighted]
    codes: np.ndarray
    window: tuple[int, int] = (1, 1)
    bits: int = 8
    parameters: np.ndarray
    has_weights: bool = True
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str = "VALID"

    def operator(self, form: type[Weighted], rows: np.ndarray, **integers: Any) -> Weighted:
        """The operator that computes it with chosen integers.

        Args:
          form: class of the operator: `form`, or one that computes the same.
          rows: its kernel as int8 ``[channels, taps]``.
          **integers: the other fields of `Weighted` that are chosen.
        """
        names = {field.name for field in dataclasses.fields(form)}
        window = {name: getattr(self, name) for name in ("strides", "dilation", "padding")}
        return form(
            inputs=self.inputs,
            output=self.output,
            kernel=form.kernel_of(rows, self.window),
            bits=self.bits,
            trained=self.parameters,
            **{name: value for name, value in window.items() if name in names},
            **integers,
        )

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        if self.form.takes_images and len(inputs[0]) != 4:
            raise ValueError(f"input {self.inputs[0]!r} has shape {inputs[0]}, not 4 dimensions")
        count = len(self.codes)
        shaped = self.operator(
            self.form,
            self.codes,
            kernel_scale=np.ones(count, np.float32),
            bias=np.zeros(count, np.int32),
        )
        return shaped.output_shape(inputs, declared)

    def _check_numbers(self, inputs: Sequence[Tensor], output: Tensor) -> None:
        codes, parameters = self.codes, self.parameters
        if codes.dtype != np.int8 or codes.ndim != 2 or codes.size == 0:
            raise ValueError(
                f"the codes are {codes.dtype} {codes.shape}, not int8 [channels, taps]"
            )
        if codes.min() < -127:
            raise ValueError("the codes hold -128; codes lie in [-127, 127]")
        if parameters.dtype != TRAINED or parameters.shape != codes.shape[:1]:
            raise ValueError(
                f"what was trained is {parameters.dtype} {parameters.shape}, not {TRAINED} "
                f"{codes.shape[:1]}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrainedGraph(Graph):
    """What was trained: operators are `TrainedKernel` and those of `export.ir.operators`.

    `Provenance.quantization` has the quantization parameters of every tensor, with the codes that a
    ReLU leaves.
    """

    @property
    def kernels(self) -> list[TrainedKernel]:
        """The operators with a kernel, in execution order."""
        return [operator for operator in self.operators if isinstance(operator, TrainedKernel)]
