"""A network as a list of layers and of what each reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wrpn_tf.graph.roles import Kind, Layer, kind

Shape = tuple[int | None, ...]


def known_sizes(shape: Shape) -> tuple[int, ...]:
    """The sizes behind the batch, or () where one is not known."""
    sizes = tuple(size for size in shape[1:] if size is not None)
    return sizes if len(sizes) == len(shape) - 1 else ()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One use of a layer in a network.

    Attributes:
      name: the layer's name in the network, whatever `layer` calls itself.
      layer: the layer, or one that is not built and tells class and arguments only.
      inputs: names of the nodes that it reads.
      shape: of its output, with the batch (None) first.
      origin: the layer of the user's model that it is or was made of.
      weights: positions among the origin's weights of those that are the layer's.
      changes: of the layer's configuration.
      trainable: whether the layer trains: neither it nor a model that it is nested in is frozen.
      arguments: of the layer's call, by name, but for the first, which are the inputs.
      part_of: the node that decomposition made it of; its own name where it is whole.
      use_of: the node of the first use of its layer, if the layer has weights and this is another.
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    shape: Shape
    origin: Layer
    weights: tuple[int, ...] = ()
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trainable: bool = True
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    part_of: str = ""
    use_of: str | None = None

    def __post_init__(self):
        if not self.part_of:
            object.__setattr__(self, "part_of", self.name)

    @property
    def kind(self) -> Kind | None:
        """The layer's role; None for a class that is not supported."""
        return kind(self.layer)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """The nodes of a model.

    Attributes:
      name: of the model.
      nodes: in execution order, the inputs first in the order of the model.
      results: names of the nodes whose outputs the model returns, in its order.
    """

    name: str
    nodes: tuple[Node, ...]
    results: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Element:
    """What stands as a layer for one of the outputs of a layer that has several."""

    index: int


def check_names(nodes: Iterable[Node]) -> None:
    """Raises ValueError for nodes that have one name: a part of a layer has that of another."""
    found: dict[str, Node] = {}
    for node in nodes:
        other = found.setdefault(node.name, node)
        if other is not node:
            part, layer = (node, other) if other.name == other.part_of else (other, node)
            raise ValueError(
                f"A part of layer {part.part_of!r} would have the name of layer {layer.part_of!r}, "
                f"{node.name!r}: rename one of the two layers."
            )


def consumers(nodes: Sequence[Node]) -> dict[str, list[Node]]:
    """For each layer's name, the layers that read its output."""
    readers: dict[str, list[Node]] = {node.name: [] for node in nodes}
    for node in nodes:
        for name in node.inputs:
            readers[name].append(node)
    return readers


def copy_weights(node: Node, layer: Layer) -> None:
    """Gives a built layer the weights of its node; a kernel may lack axes of size 1 before its own.

    Raises:
      ValueError: naming the layer, if it has another number of weights.
    """
    if not node.weights:
        return
    values = node.origin.get_weights()
    if len(node.weights) != len(layer.weights):
        raise ValueError(
            f"Layer {node.name!r} ({type(node.layer).__name__}) has {len(node.weights)} weights, "
            f"and of its configuration {len(layer.weights)}; keep what was added outside of it."
        )
    layer.set_weights(
        [
            _with_axes(value, weight.shape)
            for weight, value in zip(
                layer.weights, (values[position] for position in node.weights), strict=True
            )
        ]
    )


def _with_axes(value: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A kernel with the axes of size 1 that a shape has before its own; others as they are."""
    added = len(shape) - value.ndim
    is_kernel = value.ndim > 1 and tuple(shape) == (*added * (1,), *value.shape)
    return value.reshape(shape) if is_kernel else value
