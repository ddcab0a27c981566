"""Where each tensor of an integer graph lies in one block of memory."""

from __future__ import annotations

import math

from export.ir.graph import IntegerGraph


def plan(graph: IntegerGraph) -> tuple[dict[str, int], int]:
    """Offsets of all tensors in one arena; tensors that live at the same time do not overlap.

    The largest tensors are placed first, each at the lowest offset that is free while it lives.

    Returns:
      The offset of each tensor by name, and the size of the arena, both in bytes.
    """
    lives = _lives(graph)
    sizes = {name: math.prod(tensor.shape) for name, tensor in graph.tensors.items()}
    offsets: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], lives[name])):
        first, last = lives[name]
        taken = sorted(
            (offsets[other], offsets[other] + sizes[other])
            for other in offsets
            if lives[other][0] <= last and first <= lives[other][1]
        )
        offset = 0
        for start, stop in taken:
            if offset + sizes[name] <= start:
                break
            offset = max(offset, stop)
        offsets[name] = offset
    return offsets, max(offsets[name] + sizes[name] for name in offsets)


def _lives(graph: IntegerGraph) -> dict[str, tuple[int, int]]:
    """The first and last step at which each tensor is needed; step 0 fills the inputs."""
    end = len(graph.operators) + 1
    first = {name: 0 for name in graph.inputs}
    last = dict(first)
    for step, operator in enumerate(graph.operators, 1):
        first[operator.output] = last[operator.output] = step
        for name in operator.inputs:
            last[name] = step
    for name in graph.outputs:
        last[name] = end
    return {name: (first[name], last[name]) for name in graph.tensors}
