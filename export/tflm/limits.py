"""What of an integer graph TensorFlow Lite Micro does not run, known without its interpreter."""

from __future__ import annotations

import dataclasses

from export.ir.graph import IntegerGraph
from export.ir.operators import (
    Concatenate,
    FullyConnected,
    Operator,
    Reshape,
    Slice,
    Transpose,
    Weighted,
)
from export.kernel_sets.rules import is_per_tensor

# The batch among them: micro/kernels/{transpose,strided_slice}_common.cc. A RESHAPE only copies.
_MOST_AXES: dict[type[Operator], int] = {Transpose: 5, Slice: 4, Reshape: 8}
_OTHERS_AXES = 6  # kernels/internal/runtime_shape.h; with more, other integers may be computed.
_MOST_PARTS = 10  # micro/kernels/concatenation.cc
_WORDS: dict[type[Operator], str] = {Transpose: "transposition", Slice: "slice"}
_REMEDY = "(export with --weights=int8, and --compress=lut where it is to be smaller)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why the interpreter does not run a graph.

    Attributes:
      sentence: on the first operator that it does not run.
      has_remedy: whether the sentence says how to export the network for it to run.
    """

    sentence: str
    has_remedy: bool


def refusal(graph: IntegerGraph) -> Refusal | None:
    """Why the interpreter does not run a graph; None where it does."""
    for operator in graph.operators:
        for problem, remedy in (
            (_shape_problem(graph, operator), ""),
            (_storage_problem(operator), f" {_REMEDY}"),
        ):
            if problem:
                what = f"{operator.output!r} is {problem}{remedy}"
                return Refusal(
                    sentence=f"{what}, which TensorFlow Lite Micro does not run",
                    has_remedy=bool(remedy),
                )
    return None


def _shape_problem(graph: IntegerGraph, operator: Operator) -> str:
    """What of the tensors of an operator is too much; empty where nothing is."""
    axes = max(len(graph.tensors[name].shape) for name in operator.inputs)
    if axes > _MOST_AXES.get(type(operator), _OTHERS_AXES):
        return f"a {_WORDS.get(type(operator), type(operator).__name__)} of {axes} axes"
    if isinstance(operator, Concatenate) and len(operator.inputs) > _MOST_PARTS:
        return f"a concatenation of {len(operator.inputs)} tensors, more than {_MOST_PARTS}"
    return ""


def _storage_problem(operator: Operator) -> str:
    """What of the storage of a kernel it does not take; empty where it takes it.

    It has INT4 for convolutions, and for dense layers with one scale
    (micro/kernels/fully_connected_common.cc), and no INT2.
    """
    if not isinstance(operator, Weighted) or operator.dtype_bits == 8:
        return ""
    if operator.dtype_bits == 2:
        return "a layer with INT2 weights"
    several = not is_per_tensor(type(operator), operator.kernel_scale, operator.dtype_bits)
    if isinstance(operator, FullyConnected) and several:
        return "a dense layer with INT4 weights and a scale for each channel"
    return ""
