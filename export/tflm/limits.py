"""What of an integer graph TensorFlow Lite Micro does not load, known without its interpreter."""

from __future__ import annotations

from export.ir.graph import IntegerGraph
from export.ir.operators import FullyConnected, Operator, Transpose, Weighted
from export.kernel_sets.rules import is_per_tensor

_MOST_AXES = 5  # micro/kernels/transpose_common.cc, the batch among them


def check_graph(graph: IntegerGraph) -> None:
    """Raises ValueError where the interpreter does not load a graph's file; it names the operator.

    It has INT4 for convolutions, and for dense layers with one scale
    (micro/kernels/fully_connected_common.cc), and no INT2.
    """
    for operator in graph.operators:
        reason = _refusal(graph, operator)
        if reason:
            raise ValueError(
                f"{operator.output!r} is {reason}, which TensorFlow Lite Micro does not load"
            )


def _refusal(graph: IntegerGraph, operator: Operator) -> str:
    if isinstance(operator, Transpose) and len(operator.axes) > _MOST_AXES:
        return f"a transposition of {len(operator.axes)} axes"
    if not isinstance(operator, Weighted) or operator.dtype_bits == 8:
        return ""
    several = not is_per_tensor(type(operator), operator.kernel_scale, operator.dtype_bits)
    remedy = "(export with --weights=int8, and --compress=lut where it is to be smaller)"
    if operator.dtype_bits == 2:
        return f"a layer with INT2 weights {remedy}"
    if isinstance(operator, FullyConnected) and several:
        return f"a dense layer with INT4 weights and a scale for each channel {remedy}"
    return ""
