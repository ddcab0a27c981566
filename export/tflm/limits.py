"""What of an integer graph TensorFlow Lite Micro does not run, known without its interpreter."""

from __future__ import annotations

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


def refusal(graph: IntegerGraph) -> str:
    """A sentence on the first operator that the interpreter does not run; empty: it runs all.

    It has INT4 for convolutions, and for dense layers with one scale
    (micro/kernels/fully_connected_common.cc), and no INT2.
    """
    for operator in graph.operators:
        if reason := _refusal(graph, operator):
            return f"{operator.output!r} is {reason}, which TensorFlow Lite Micro does not run"
    return ""


def _refusal(graph: IntegerGraph, operator: Operator) -> str:
    axes = max(len(graph.tensors[name].shape) for name in operator.inputs)
    if axes > _MOST_AXES.get(type(operator), _OTHERS_AXES):
        return f"a {_WORDS.get(type(operator), type(operator).__name__)} of {axes} axes"
    if isinstance(operator, Concatenate) and len(operator.inputs) > _MOST_PARTS:
        return f"a concatenation of {len(operator.inputs)} tensors, more than {_MOST_PARTS}"
    if not isinstance(operator, Weighted) or operator.dtype_bits == 8:
        return ""
    several = not is_per_tensor(type(operator), operator.kernel_scale, operator.dtype_bits)
    remedy = "(export with --weights=int8, and --compress=lut where it is to be smaller)"
    if operator.dtype_bits == 2:
        return f"a layer with INT2 weights {remedy}"
    if isinstance(operator, FullyConnected) and several:
        return f"a dense layer with INT4 weights and a scale for each channel {remedy}"
    return ""
