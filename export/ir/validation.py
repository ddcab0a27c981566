"""Checks that a graph means something: its tensors, its order, and each operator.

Newer TFLite loaders accept wrong buffer sizes and read past them, so this is where they are found.
"""

from __future__ import annotations

import math

import numpy as np

from export.ir.graph import Graph, IntegerGraph
from export.ir.tensors import Tensor
from wrpn_tf import QuantizationParameters

MOST_CODES = 2**28
"""What a tensor may have: a byte each."""
_LARGEST_SCALE = 2.0**119  # Of which every code is a float32 number.
_LONGEST_NAME = 1024
_MOST_DIMENSIONS = 8


def check_integers(graph: Graph) -> None:
    """Raises TypeError where a graph has no integers yet."""
    if not isinstance(graph, IntegerGraph):
        raise TypeError(
            f"a {type(graph).__name__} has no integers yet: realize it first, with "
            "export.realize(trained)"
        )


def validate(graph: Graph) -> None:
    """Raises ValueError for the first thing that is wrong.

    Raises:
      ValueError: a tensor or an operator (named by its output tensor) is not sound.
    """
    if not graph.inputs or not graph.outputs:
        raise ValueError("the graph needs at least one input and one output")
    for name, tensor in graph.tensors.items():
        _check_tensor(name, tensor)
    for name, quantization in graph.provenance.quantization.items():
        _check_quantization(name, quantization)
    for name in (*graph.inputs, *graph.outputs):
        if name not in graph.tensors:
            raise ValueError(f"tensor {name!r} is an input or output but not in the graph")
    if len(set(graph.inputs)) < len(graph.inputs) or len(set(graph.outputs)) < len(graph.outputs):
        raise ValueError("an input or output is listed twice")
    defined = set(graph.inputs)
    for operator in graph.operators:
        where = f"operator of {operator.output!r}"
        for name in operator.inputs:
            if name not in graph.tensors:
                raise ValueError(f"{where}: input {name!r} is not in the graph")
            if name not in defined:
                raise ValueError(f"{where}: input {name!r} is read before it is written")
        if operator.output not in graph.tensors:
            raise ValueError(f"{where}: its output is not in the graph")
        if operator.output in defined:
            raise ValueError(f"{where}: its output is written twice")
        defined.add(operator.output)
        inputs = [graph.tensors[name] for name in operator.inputs]
        try:
            operator.check(inputs, graph.tensors[operator.output])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    for name in graph.tensors:
        if name not in defined:
            raise ValueError(f"tensor {name!r} is never written")


def _check_tensor(name: str, tensor: Tensor) -> None:
    if not name:
        raise ValueError("a tensor has an empty name")
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"a tensor's name has {len(name):,} characters, more than 1,024")
    if any("\ud800" <= each <= "\udfff" for each in name):
        raise ValueError(f"the name {name!r} is not in Unicode")
    if len(tensor.shape) > _MOST_DIMENSIONS or math.prod(tensor.shape) > MOST_CODES:
        raise ValueError(
            f"tensor {name!r}: shape {tensor.shape} is more than {_MOST_DIMENSIONS} dimensions or "
            f"{MOST_CODES:,} codes"
        )
    if len(tensor.shape) < 2 or tensor.shape[0] != 1 or min(tensor.shape) < 1:
        raise ValueError(f"tensor {name!r}: shape {tensor.shape} is not (1, ...) and positive")
    _check_quantization(name, tensor.quantization)


def _check_quantization(name: str, quantization: QuantizationParameters) -> None:
    scale, zero_point, bits = quantization.scale, quantization.zero_point, quantization.bits
    if not (0 < scale <= _LARGEST_SCALE and float(np.float32(scale)) == scale):
        raise ValueError(f"tensor {name!r}: scale {scale} is not a positive float32 number")
    if zero_point != int(zero_point) or not -128 <= zero_point <= 127:
        raise ValueError(f"tensor {name!r}: zero point {zero_point} is outside [-128, 127]")
    if not 1 <= bits <= 8:
        raise ValueError(f"tensor {name!r}: {bits} bits are outside [1, 8]")
    if not 0 <= quantization.high - quantization.low < 2**bits:
        raise ValueError(
            f"tensor {name!r}: {quantization.high - quantization.low + 1} codes from "
            f"{quantization.low} to {quantization.high} are not 1 to {2**bits}, as {bits} bits have"
        )
