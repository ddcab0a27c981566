"""The canonical form: the same function with fewer kinds of structure to quantize."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from wrpn_tf.graph.nodes import Network, Node, Shape, check_names, consumers
from wrpn_tf.graph.roles import (
    Kind,
    Layer,
    activation_name,
    class_name,
    has_penalty,
    is_elementwise,
    is_gain,
    relu_maximum,
)


def canonical(network: Network, layers: Any) -> Network:
    """A network in which constants are applied as early and in as few layers as possible.

    * Rescaling after Rescaling is one layer.
    * Rescaling by a positive factor after a ReLU comes before it, with the ReLU's maximum
      multiplied: ``relu6(x + 3) / 6`` is ``relu(x / 6 + 1 / 2, maximum=1)``.
    * Sums, products, maxima and minima of more than two tensors have two operands each.
    * A ReLU of a ReLU, or what limits one from above, is one ReLU.

    Layers whose output others read, the model returns or an activity regularizer sees stay. New
    layers are not built.

    Args:
      network: of a model that is not quantized.
      layers: the namespace of the layers of the model's Keras, `tf_keras.layers`.

    Raises:
      ValueError: naming a layer that has the name of a part of another.
    """
    rewriter = _Rewriter(network, layers)
    for node in network.nodes:
        rewriter.add(node)
    return dataclasses.replace(network, nodes=tuple(rewriter.nodes.values()))


def rescaling(layers: Any, scale: Any, offset: Any, name: str) -> Layer:
    """A Rescaling layer with plain numbers in its configuration.

    Args:
      layers: the namespace of the layers of a Keras.
      scale: a number, or one for each channel.
      offset: likewise.
      name: of the layer.
    """
    return layers.Rescaling(_plain(scale), _plain(offset), name=name)


def _plain(value: Any) -> float | list[float]:
    values = np.asarray(value, np.float64)
    return float(values.reshape(())) if values.size == 1 else values.tolist()


class _Rewriter:
    """Takes a network's nodes in execution order and keeps those of the canonical form.

    Attributes:
      nodes: by name, in execution order.
    """

    def __init__(self, network: Network, layers: Any):
        self.nodes: dict[str, Node] = {}
        self._layers = layers
        self._network = network
        self._results = network.results
        self._readers = {name: len(found) for name, found in consumers(network.nodes).items()}
        self._stands_for: dict[str, str] = {}  # Where another node now has a node's output.

    def add(self, node: Node) -> None:
        inputs = tuple(self._stands_for.get(name, name) for name in node.inputs)
        node = dataclasses.replace(node, inputs=inputs)
        if class_name(node.layer) == "Rescaling" and node.name not in self._results:
            self._stands_for[node.name] = self._rescale(node)
        elif is_elementwise(node.layer) and len(inputs) > 2 and not _is_average(node):
            self._pairs(node)
        elif (maximum := self._bound_of_relu(node)) is not None:
            self._bound(node, maximum)
        else:
            self.nodes[node.name] = node

    def _rescale(self, node: Node) -> str:
        """Adds a Rescaling as early as possible; returns the name of the node with its output."""
        before = self.nodes[node.inputs[0]]
        alone = self._is_alone(before, node)
        if alone and class_name(before.layer) == "Rescaling":
            del self.nodes[before.name]
            layer = self._composed(before.layer, node.layer)
            node = dataclasses.replace(node, layer=layer, inputs=before.inputs)
        elif alone and _is_plain_relu(before) and is_gain(node.layer):
            del self.nodes[before.name]
            readers, self._readers[node.name] = self._readers[node.name], 1
            inner = self._rescale(dataclasses.replace(node, inputs=before.inputs))
            maximum = relu_maximum(before.layer)
            scaled = None if maximum is None else maximum * float(np.ravel(node.layer.scale)[0])
            relu = self._layers.ReLU(scaled, name=before.name)
            self.nodes[before.name] = dataclasses.replace(before, layer=relu, inputs=(inner,))
            self._readers[before.name] = readers
            return before.name
        self.nodes[node.name] = node
        return node.name

    def _bound_of_relu(self, node: Node) -> float | None:
        """The maximum of a node that only limits a ReLU; infinite for none, None for another."""
        if len(node.inputs) != 1:
            return None
        before = self.nodes[node.inputs[0]]
        if not self._is_alone(before, node) or not _is_plain_relu(before):
            return None
        if _is_plain_relu(node):
            return _maximum(node)
        is_limit = class_name(node.layer) == "Clip" and (node.layer.minimum or 0) <= 0
        limit = node.layer.maximum if is_limit else None
        return float(limit) if limit is not None and limit > 0 else None

    def _is_alone(self, before: Node, node: Node) -> bool:
        """Whether nothing but `node` sees what `before` gives, and nothing penalizes the two."""
        if has_penalty(before.layer) or has_penalty(node.layer):
            return False
        return self._readers[before.name] == 1 and before.name not in self._results

    def _bound(self, node: Node, maximum: float) -> None:
        """Adds a ReLU of a ReLU as one."""
        before = self.nodes.pop(node.inputs[0])
        maximum = min(maximum, _maximum(before))
        layer = self._layers.ReLU(None if math.isinf(maximum) else maximum, name=node.name)
        self.nodes[node.name] = dataclasses.replace(node, layer=layer, inputs=before.inputs)

    def _composed(self, first: Layer, second: Layer) -> Layer:
        scale = np.multiply(first.scale, second.scale)
        offset = np.multiply(first.offset, second.scale) + np.asarray(second.offset)
        return rescaling(self._layers, scale, offset, second.name)

    def _pairs(self, node: Node) -> None:
        """Adds a sum, product or extremum of more than two tensors as several of two."""
        *others, last = node.inputs
        total = others[0]
        for index, other in enumerate(others[1:], start=1):
            shape = _broadcast(self.nodes[total].shape, self.nodes[other].shape)
            name = f"{node.name}_part{index}"
            without = {"activity_regularizer": None} if has_penalty(node.layer) else {}
            changes = {**node.changes, **without}
            part = dataclasses.replace(
                node, name=name, inputs=(total, other), shape=shape, changes=changes
            )
            check_names([*self._network.nodes, part])
            self.nodes[name] = dataclasses.replace(part, part_of=name)
            self._readers[name] = 1
            total = name
        self.nodes[node.name] = dataclasses.replace(node, inputs=(total, last))


def _maximum(node: Node) -> float:
    """The upper bound of a ReLU, infinite for none."""
    maximum = relu_maximum(node.layer)
    return math.inf if maximum is None else maximum


def _is_average(node: Node) -> bool:
    return class_name(node.layer) == "Average"


def _is_plain_relu(node: Node) -> bool:
    if class_name(node.layer) == "ReLU":
        return not (node.layer.negative_slope or node.layer.threshold)
    return node.kind is Kind.RELU and activation_name(node.layer) in ("relu", "relu6")


def _broadcast(one: Shape, other: Shape) -> Shape:
    """The shape of a result of two operands; where they do not go together, of no meaning."""
    if len(one) != len(other):
        return max(one, other, key=len)
    return tuple(b if a == 1 else a for a, b in zip(one, other, strict=True))
