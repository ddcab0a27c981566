"""Collecting the nodes of a model, whichever Keras its calls are read from."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wrpn_tf.graph.nodes import Element, Network, Node, Shape
from wrpn_tf.graph.roles import Layer, has_penalty


class NodeCollector:
    """Makes nodes of the inputs of a model and, in execution order, of its calls.

    A layer that is used several times is several nodes, and several layers of one name have
    different ones.

    Args:
      inputs: each input's layer and the shape of its tensor, in the order of the model.
      names: of the layers of the model and of the models nested in it.
      frozen: ids of the layers that do not train.

    Attributes:
      nodes: those so far, the inputs first.
    """

    def __init__(
        self, inputs: Iterable[tuple[Layer, Shape]], names: Iterable[str], frozen: Iterable[int]
    ):
        self.nodes = [
            Node(name=layer.name, layer=layer, inputs=(), shape=shape, origin=layer)
            for layer, shape in inputs
        ]
        self._names, self._frozen = set(names), set(frozen)
        self._uses: dict[str, int] = {}

    def add_call(
        self,
        origin: Layer,
        layer: Layer,
        name: str,
        sources: list[Node],
        shapes: list[Shape],
        arguments: Mapping[str, Any],
    ) -> Node | list[Node]:
        """Adds a call; returns the node of its output, a list where there are several.

        Args:
          origin: the layer or operation that is called.
          layer: the layer that stands for it, or itself.
          name: of what is called.
          sources: the nodes that it reads.
          shapes: of its outputs.
          arguments: of the call, but for the first.
        """
        node = self._add(origin, layer, name, sources, shapes[0], arguments)
        if len(shapes) == 1:
            return node
        elements = [
            Node(
                name=f"{node.name}:{index}",
                layer=Element(index),
                inputs=(node.name,),
                shape=shape,
                origin=origin,
            )
            for index, shape in enumerate(shapes)
        ]
        self.nodes.extend(elements)
        return elements

    def add_parts(
        self,
        origin: Layer,
        parts: Sequence[Layer],
        name: str,
        sources: list[Node],
        shapes: Sequence[Shape],
    ) -> list[Node]:
        """Adds a call that a layer for each of its outputs stands for; returns their nodes."""
        return [
            self._add(origin, part, name, sources, shape, {})
            for part, shape in zip(parts, shapes, strict=True)
        ]

    def network(self, name: str, results: Iterable[Node]) -> Network:
        """The network of the model's name whose outputs are those of the nodes `results`.

        It has all inputs, and of the calls those that the outputs come from or that may do more
        than return something.
        """
        names = tuple(result.name for result in results)
        return Network(name=name, nodes=_needed(self.nodes, names), results=names)

    def _add(
        self,
        origin: Layer,
        layer: Layer,
        name: str,
        sources: list[Node],
        shape: Shape,
        arguments: Mapping[str, Any],
    ) -> Node:
        """Adds a node."""
        if layer is not origin:  # It stands for the constants of the operation too.
            arguments = {key: arguments[key] for key in ("training",) if key in arguments}
        own = range(len(getattr(layer, "weights", ()))) if layer is origin else ()
        node = Node(
            name=self._unique(name),
            layer=layer,
            inputs=tuple(source.name for source in sources),
            shape=shape,
            origin=origin,
            weights=tuple(own),
            trainable=id(origin) not in self._frozen,
            arguments=arguments,
        )
        self.nodes.append(node)
        return node

    def _unique(self, name: str) -> str:
        count = self._uses[name] = self._uses.get(name, 0) + 1
        if count == 1:
            return name
        candidates = (f"{name}_{index}" for index in itertools.count(count))
        name = next(candidate for candidate in candidates if candidate not in self._names)
        self._names.add(name)
        return name


def _needed(nodes: Sequence[Node], results: Iterable[str]) -> tuple[Node, ...]:
    """See `NodeCollector.network`; the first use of a layer with weights is so among these.

    Args:
      nodes: in execution order.
      results: names of nodes.
    """
    read = {*results, *(node.name for node in nodes if _may_add_losses(node))}
    for node in reversed(nodes):
        if node.name in read:
            read.update(node.inputs)
    kept = []
    firsts: dict[int, str] = {}  # By the id of a layer with weights: its first use.
    for node in nodes:
        if node.inputs and node.name not in read:
            continue
        if getattr(node.origin, "weights", ()) and not isinstance(node.layer, Element):
            first = firsts.setdefault(id(node.origin), node.name)
            if first != node.name:
                node = dataclasses.replace(node, use_of=first)
        kept.append(node)
    return tuple(kept)


def _may_add_losses(node: Node) -> bool:
    """Whether a call adds to the losses of its model, or what it does is not known."""
    if isinstance(node.layer, Element):
        return False
    return node.kind is None or has_penalty(node.layer)
