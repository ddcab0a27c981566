"""Grouped convolutions as what every compiler takes: slices, convolutions and a concatenation.

TFLite runs CONV_2D with groups from version 6 of the operator on; the Edge TPU's compiler knows
versions up to 5 and leaves it, and all that follows, to the CPU.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from export.ir.graph import IntegerGraph
from export.ir.operators import Concatenate, Conv2D, GroupedConv2D, Operator, Slice, Weighted
from export.ir.provenance import SplitConvolution
from export.ir.tensors import Tensor
from export.realization.part_names import check_part_names


def split(graph: IntegerGraph) -> IntegerGraph:
    """The graph with each grouped convolution replaced; it computes the same numbers.

    The convolution's output keeps its name and is written by the concatenation.
    `Provenance.split_convolutions` knows it by that name.

    Raises:
      ValueError: a tensor has the name of what a part would write.
    """
    tensors, operators = dict(graph.tensors), list[Operator]()
    found: dict[str, SplitConvolution] = {}
    for operator in graph.operators:
        if isinstance(operator, GroupedConv2D):
            *parts, whole = _parts(graph, operator, tensors)
            operators += [*parts, whole]
            found[whole.output] = SplitConvolution(source=operator.inputs[0], parts=whole.inputs)
        else:
            operators.append(operator)
    if not found:
        return graph
    trained = dict(graph.provenance.quantization)
    for output, split in found.items():
        for part in split.parts if output in trained else ():
            trained |= {part: trained[output], f"{part}/input": trained[split.source]}
    provenance = dataclasses.replace(
        graph.provenance,
        quantization=trained,
        split_convolutions={**graph.provenance.split_convolutions, **found},
    )
    return dataclasses.replace(graph, tensors=tensors, operators=operators, provenance=provenance)


def kernels_by_layer(graph: IntegerGraph) -> dict[str, list[Weighted]]:
    """The operators with a kernel, by the tensor of the whole layer where it was split."""
    known = graph.provenance.split_convolutions
    whole = {part: output for output, split in known.items() for part in split.parts}
    found: dict[str, list[Weighted]] = {}
    for operator in graph.weighted:
        found.setdefault(whole.get(operator.output, operator.output), []).append(operator)
    return found


def part(operator: Weighted, depth: int) -> tuple[type[Weighted], np.ndarray]:
    """As what one part of an operator runs once groups are split: all of one without groups.

    Args:
      operator: the operator.
      depth: channels of its input.

    Returns:
      The class of the part, and its kernel as int8 ``[channels, taps]``.
    """
    if not isinstance(operator, GroupedConv2D):
        return type(operator), operator.rows
    return Conv2D, operator.rows[: len(operator.rows) // operator.groups(depth)]


def _parts(
    graph: IntegerGraph, operator: GroupedConv2D, tensors: dict[str, Tensor]
) -> list[Operator]:
    """The operators of one convolution; adds the tensors that they write."""
    (source,), output = operator.inputs, operator.output
    depth, count = operator.kernel.shape[3], operator.groups(graph.tensors[source].shape[3])
    channels = operator.kernel.shape[0] // count
    names = tuple(f"{output}/group{group}" for group in range(count))
    check_part_names([*names, *(f"{name}/input" for name in names)], tensors, output)
    result: list[Operator] = []
    for group, name in enumerate(names):
        tensors[f"{name}/input"] = _channels(graph.tensors[source], depth)
        tensors[name] = _channels(graph.tensors[output], channels)
        begin = (0, 0, group * depth)
        result.append(Slice(inputs=(source,), output=f"{name}/input", begin=begin))
        chosen = slice(group * channels, (group + 1) * channels)
        fields = {field.name: getattr(operator, field.name) for field in dataclasses.fields(Conv2D)}
        arrays = {
            field.name: fields[field.name][chosen]
            for field in dataclasses.fields(Weighted)
            if isinstance(fields[field.name], np.ndarray)
        }
        edges = {"inputs": (f"{name}/input",), "output": name}
        result.append(Conv2D(**fields | arrays | edges))
    return [*result, Concatenate(inputs=names, output=output, axis=3)]


def _channels(tensor: Tensor, count: int) -> Tensor:
    return dataclasses.replace(tensor, shape=(*tensor.shape[:3], count))
