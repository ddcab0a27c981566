"""Settling of sums: output scales at which Keras and every kernel round every pair of codes alike.

A kernel brings both inputs to a fine grid of 20 more bits, which moves a sum by up to some 1e-4 of
an output code. Among 65,536 pairs of codes there are a few sums so near to the middle between two
codes that this decides. At another output scale, a hair away, there are none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
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


def settle_output_scales(model: Any, graph: Graph, lines: Collection[str] = ()) -> dict[str, float]:
    """Moves the output scales of sums and differences to the nearest that serve, in place.

    And those of lines, and those that tensors of other scales are brought to
    (`export.alignment.lines`). The scale of a concatenation, or of what else has one grid on both
    sides, is to serve all of these that compute onto its grid. Where none makes all agree, the
    scale moves to where the fewest pairs, or channels, differ. Scales that the method of
    quantization fixes stay.

    Args:
      model: the model.
      graph: from `export.lower`.
      lines: the layers at the ends of lines.

    Returns:
      The factors of scales that have moved, by the outputs of sums, lines and moves; if there are
      any, `graph` is no longer that of the model.
    """
    outputs = wrpn_tf.named_output_quantizers(model)
    scales = {name: tensor.quantization.scale for name, tensor in graph.tensors.items()}
    own = _own_tensors(graph, outputs)
    moved: dict[str, float] = {}
    for operator in graph.operators:
        if own.get(operator.output):
            quantizer, variables = outputs[graph.provenance.layers[operator.output]]
            makers = _makers(graph, operator, own) if quantizer.has_free_scale else []
            settled = [maker for maker in makers if _is_settled(graph, maker, lines)]
            if settled:
                cases = [_case(graph, maker, scales) for maker in settled]
                before = scales[operator.output]
                scale = _settle_scale(_Together(cases), quantizer, variables)
                scales |= {maker.output: scale for maker in makers}
                if scale != before:
                    moved |= {maker.output: scale / before for maker in settled}
        elif _copies(operator):
            scales[operator.output] = scales[operator.inputs[0]]
    return moved


def _own_tensors(graph: Graph, outputs: Mapping[str, Any]) -> dict[str, bool]:
    """The tensors on the grid of their layer's quantizer: whether each is its layer's first."""
    grids = {layer: quantizer.grid(variables) for layer, (quantizer, variables) in outputs.items()}
    found: dict[str, bool] = {}
    known = set()
    for name, tensor in graph.tensors.items():
        layer = graph.provenance.layers[name]
        if layer in grids and grids[layer] == tensor.quantization:
            found[name] = layer not in known
            known.add(layer)
    return found


def _makers(graph: Graph, end: Operator, own: Collection[str]) -> list[Operator]:
    """The operators that write the tensors of one grid, back from a layer that has a quantizer.

    Args:
      graph: the graph.
      end: what writes the layer's output.
      own: the tensors on the grid of their layer's quantizer.

    Returns:
      `end` first; none where another quantizer, or another reader, has to do with the grid.
    """
    writers = {operator.output: operator for operator in graph.operators}
    found = {end.output: end}
    for operator in (queue := [end]):
        for name in operator.inputs if _has_one_scale(operator) else ():
            if name in own or name not in writers:
                return []
            if name not in found:
                found[name] = writers[name]
                queue.append(writers[name])
    inside = found.keys() - {end.output}
    for operator in graph.operators:
        if operator.output not in found and not inside.isdisjoint(operator.inputs):
            return []
    return queue


def _is_settled(graph: Graph, operator: Operator, lines: Collection[str]) -> bool:
    """Whether an operator is a sum, a line, or moves a tensor to another grid."""
    if isinstance(operator, Sum):
        return True
    if not isinstance(operator, TrainedKernel) or operator.has_weights:
        return False
    is_move = graph.provenance.is_move(operator.inputs[0], operator.output)
    return is_move or graph.provenance.layers[operator.output] in lines


def _copies(operator: Operator) -> bool:
    """Whether the output of an operator has the scale of its one input, whose codes it moves."""
    return len(operator.inputs) == 1 and _has_one_scale(operator)


def _has_one_scale(operator: Operator) -> bool:
    shared = (ScaleConstraint.SAME_AS_INPUT, ScaleConstraint.ALL_EQUAL)
    return operator.scale_constraint in shared


def _settle_scale(pairs: _Together, quantizer: Any, variables: Mapping[str, Any]) -> float:
    """Moves the variables of one output quantizer; returns its scale."""
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


def _case(graph: Graph, operator: Operator, scales: Mapping[str, float]) -> _Pairs | Line:
    """What tells whether an operator rounds as exact arithmetic does."""
    if isinstance(operator, Sum):
        return _Pairs(graph, operator, scales)
    assert isinstance(operator, TrainedKernel)
    return Line(graph, operator, scales)


class _Together:
    """All that computes onto one grid."""

    def __init__(self, cases: Sequence[_Pairs | Line]) -> None:
        self._cases = cases

    def different(self, output: QuantizationParameters, enough: float = np.inf) -> int:
        """How many pairs and channels are not as in exact arithmetic, counted up to `enough`."""
        count = 0
        for case in self._cases:
            if count >= enough:
                break
            count += case.different(output, enough - count)
        return count


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
        # Whole vectors: what is left over is rounded as in the reference kernel.
        size = left.size + -left.size % addition.VECTOR
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
        low = max(output.low, 0) if self._operator.relu else output.low
        exact = np.floor(self._real / output.scale + 0.5)
        wanted = np.clip(exact, low, output.high).astype(np.int64)
        keras_codes = numpy_twins.quantize_codes_np(self._float32, output.scale, low, output.high)
        count = np.count_nonzero(keras_codes != wanted)
        parameters = (*self._inputs, output)
        for kernel_set in KERNEL_SETS:
            if count >= enough:
                break
            codes = addition.add_codes(self._operator, *self._codes, parameters, kernel_set)
            count += np.count_nonzero(codes != wanted + output.zero_point)
        return int(count)
