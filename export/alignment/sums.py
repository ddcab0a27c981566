"""Settling of sums: output scales at which Keras and every kernel round every pair of codes alike.

A kernel brings both inputs to a fine grid of 20 more bits, which moves a sum by up to some 1e-4 of
an output code. Among 65,536 pairs of codes there are a few sums so near to the middle between two
codes that this decides. At another output scale, a hair away, there are none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

import wrpn_tf
from export.alignment.bias_candidates import small_changes
from export.alignment.lines import Line
from export.ir.graph import Graph
from export.ir.operators import Operator, ScaleConstraint, Sum
from export.ir.trained import TrainedKernel
from export.kernel_sets import addition
from export.kernel_sets.rules import KERNEL_SETS
from export.proof.enumeration import every_pair
from wrpn_tf import QuantizationParameters, numpy_twins

MOST_CHANGE = 2.0**-8
"""Scales move by at most this share: half an output code at 128 codes from 0."""

_TRIED = 128  # Scales on either side.
_VECTOR = 16  # Elements; what is left over is rounded as in the reference kernel.


def settle_sums(model: Any, graph: Graph, lines: Collection[str] = ()) -> bool:
    """Moves the output scales of sums and differences to the nearest that serve, in place.

    And those of lines (`export.alignment.lines`). Where none makes all agree, the scale moves to
    where the fewest pairs, or channels, differ. Scales that the method of quantization fixes stay.

    Args:
      model: the model.
      graph: from `export.lower`.
      lines: the layers at the ends of lines.

    Returns:
      Whether a scale has moved, so that `graph` is no longer that of the model.
    """
    outputs = wrpn_tf.named_output_quantizers(model)
    scales = {name: tensor.quantization.scale for name, tensor in graph.tensors.items()}
    for operator in graph.operators:
        is_line = isinstance(operator, TrainedKernel) and not operator.has_weights
        is_line = is_line and graph.provenance.layers[operator.output] in lines
        if isinstance(operator, Sum) or is_line:
            quantizer, variables = _quantizer(graph, operator.output, outputs)
            if quantizer is not None and quantizer.has_free_scale:
                kind: Any = Line if is_line else _Pairs
                cases = kind(graph, operator, scales)
                scales[operator.output] = _settle_scale(cases, quantizer, variables)
        elif _copies(operator):
            scales[operator.output] = scales[operator.inputs[0]]
    return any(tensor.quantization.scale != scales[name] for name, tensor in graph.tensors.items())


def _quantizer(graph: Graph, name: str, outputs: Mapping[str, Any]) -> tuple[Any, Any]:
    """The quantizer, with its variables, on whose grid a tensor alone is: it may be a pool's."""
    while (layer := graph.provenance.layers[name]) not in outputs:
        readers = [operator for operator in graph.operators if name in operator.inputs]
        if len(readers) != 1 or not _copies(readers[0]):
            return None, None
        name = readers[0].output
    return outputs[layer]


def _copies(operator: Operator) -> bool:
    """Whether the output of an operator has the scale of its one input, whose codes it moves."""
    shared = (ScaleConstraint.SAME_AS_INPUT, ScaleConstraint.ALL_EQUAL)
    return len(operator.inputs) == 1 and operator.scale_constraint in shared


def _settle_scale(pairs: _Pairs | Line, quantizer: Any, variables: Mapping[str, Any]) -> float:
    """Moves the variables of one sum's output quantizer; returns its scale."""
    trained = {name: variable.numpy() for name, variable in variables.items()}

    def move(share: float) -> QuantizationParameters:
        for name, variable in variables.items():
            variable.assign(trained[name] * np.float32(1 + share))
        return quantizer.grid(variables)

    grid = quantizer.grid(variables)
    clip = grid.low, grid.high
    best, fewest = 0.0, pairs.different(grid)
    for share in small_changes(MOST_CHANGE, _TRIED):
        if not fewest:
            break
        grid = move(share)
        if (grid.low, grid.high) == clip and (found := pairs.different(grid, fewest)) < fewest:
            best, fewest = share, found
    return move(best).scale


class _Pairs:
    """Every pair of codes that a sum, or a difference, may have as its inputs.

    Args:
      graph: the graph.
      operator: the operator.
      scales: the present scales of the tensors.
    """

    def __init__(self, graph: Graph, operator: Sum, scales: Mapping[str, float]) -> None:
        self._operator = operator
        one, other = (
            dataclasses.replace(graph.tensors[name].quantization, scale=scales[name])
            for name in operator.inputs
        )
        self._inputs = one, other
        left, right = every_pair(one, other)
        size = left.size + -left.size % _VECTOR
        self._codes = np.resize(left, size), np.resize(right, size)
        steps = [
            part.astype(np.int64) - each.zero_point
            for part, each in zip(self._codes, self._inputs, strict=True)
        ]
        # Exact: scales are float32.
        self._real = steps[0] * one.scale + operator.sign * (steps[1] * other.scale)
        products = [
            step.astype(np.float32) * np.float32(each.scale)
            for step, each in zip(steps, self._inputs, strict=True)
        ]
        self._float32 = products[0] + operator.sign * products[1]

    def different(self, output: QuantizationParameters, enough: float = np.inf) -> int:
        """How many pairs Keras or a kernel rounds otherwise than exact arithmetic does.

        Args:
          output: quantization parameters of the output.
          enough: a number from which on it need not be counted further.
        """
        exact = np.floor(self._real / output.scale + 0.5)
        wanted = np.clip(exact, output.low, output.high).astype(np.int64)
        keras_codes = numpy_twins.quantize_codes_np(
            self._float32, output.scale, output.low, output.high
        )
        count = np.count_nonzero(keras_codes != wanted)
        parameters = (*self._inputs, output)
        for kernel_set in KERNEL_SETS:
            if count >= enough:
                break
            codes = addition.add_codes(self._operator, *self._codes, parameters, kernel_set)
            count += np.count_nonzero(codes != wanted + output.zero_point)
        return int(count)
