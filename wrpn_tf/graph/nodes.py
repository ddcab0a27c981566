"""A network as a list of layers and of what each reads."""

from __future__ import annotations

import dataclasses
from typing import Any

Layer = Any
"""A layer of a Keras: its class says which."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
    """A layer in a graph where each layer is used once, and the names of its inputs."""

    name: str
    layer: Layer
    inputs: tuple[str, ...]


def consumers(nodes: list[Node]) -> dict[str, list[Node]]:
    """For each layer's name, the layers that read its output."""
    readers: dict[str, list[Node]] = {node.name: [] for node in nodes}
    for node in nodes:
        for name in node.inputs:
            readers[name].append(node)
    return readers
