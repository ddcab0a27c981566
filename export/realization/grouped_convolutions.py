"""Grouped convolutions as what every compiler takes: slices, convolutions and a concatenation.

TFLite runs CONV_2D with groups from version 6 of the operator on; the Edge TPU's compiler knows
versions up to 5 and leaves it, and all that follows, to the CPU.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from export.ir.graph import (
    Concatenate,
    Conv2D,
    GroupedConv2D,
    IntegerGraph,
    Operator,
    Slice,
    Tensor,
    Weighted,
)


def groups(graph: IntegerGraph, operator: GroupedConv2D) -> int:
    """How many groups a grouped convolution has."""
    return graph.tensors[operator.inputs[0]].shape[3] // operator.kernel.shape[3]


def split(graph: IntegerGraph) -> IntegerGraph:
    """The graph with each grouped convolution replaced; it computes the same numbers.

    The convolution's output keeps its name and is written by the concatenation.
    ``metadata['split_groups']`` has by that name the convolution's 'source' and its 'parts', the
    tensors that are concatenated.
    """
    tensors, operators = dict(graph.tensors), list[Operator]()
    facts: dict[str, dict[str, Any]] = {}
    for operator in graph.operators:
        if isinstance(operator, GroupedConv2D):
            *parts, whole = _parts(graph, operator, tensors)
            operators += [*parts, whole]
            facts[whole.output] = {"source": operator.inputs[0], "parts": list(whole.inputs)}
        else:
            operators.append(operator)
    if not facts:
        return graph
    metadata = graph.metadata | {"split_groups": facts}
    if grids := graph.metadata.get("trained_grids"):
        for output, fact in facts.items():
            for part in fact["parts"]:
                grids = grids | {part: grids[output], f"{part}/input": grids[fact["source"]]}
        metadata["trained_grids"] = grids
    return dataclasses.replace(graph, tensors=tensors, operators=operators, metadata=metadata)


def kernels_by_layer(graph: IntegerGraph) -> dict[str, list[Weighted]]:
    """The operators with a kernel, by the tensor of the whole layer where it was split."""
    facts = graph.metadata.get("split_groups", {})
    whole = {part: output for output, fact in facts.items() for part in fact["parts"]}
    found: dict[str, list[Weighted]] = {}
    for operator in graph.operators:
        if isinstance(operator, Weighted):
            found.setdefault(whole.get(operator.output, operator.output), []).append(operator)
    return found


def _parts(
    graph: IntegerGraph, operator: GroupedConv2D, tensors: dict[str, Tensor]
) -> list[Operator]:
    """The operators of one convolution; adds the tensors that they write."""
    (source,), output = operator.inputs, operator.output
    depth, count = operator.kernel.shape[3], groups(graph, operator)
    channels = operator.kernel.shape[0] // count
    result: list[Operator] = []
    for group in range(count):
        name = f"{output}/group{group}"
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
    parts = tuple(each.output for each in result if isinstance(each, Conv2D))
    return [*result, Concatenate(inputs=parts, output=output, axis=3)]


def _channels(tensor: Tensor, count: int) -> Tensor:
    return dataclasses.replace(tensor, shape=(*tensor.shape[:3], count))
