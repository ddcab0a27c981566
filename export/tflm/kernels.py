"""Which stored kernels TensorFlow Lite Micro takes."""

from __future__ import annotations

from export.ir.graph import IntegerGraph
from export.ir.operators import FullyConnected, Weighted
from export.kernel_sets.rules import is_per_tensor


def check_kernels(graph: IntegerGraph) -> None:
    """Raises ValueError where the interpreter does not load a graph's file; it names the operator.

    It has INT4 for convolutions, and for dense layers with one scale
    (micro/kernels/fully_connected_common.cc), and no INT2.
    """
    for operator in graph.weighted:
        reason = _refusal(operator)
        if reason:
            raise ValueError(
                f"{operator.output!r}: {reason}, which TensorFlow Lite Micro does not load; export "
                "with --weights=int8, and --compress=lut where the file is to be smaller"
            )


def _refusal(operator: Weighted) -> str:
    kind, bits = type(operator), operator.dtype_bits
    if bits == 2:
        return "an INT2 kernel"
    several = not is_per_tensor(kind, operator.kernel_scale, bits)
    if bits == 4 and isinstance(operator, FullyConnected) and several:
        return "an INT4 kernel of a dense layer with a scale for each channel"
    return ""
