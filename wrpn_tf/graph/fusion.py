"""Fusion groups: which layers become one operator of an integer network.

A convolution or dense layer, its batch normalization (or Rescaling) and its ReLU are one operator;
so are a batch normalization, a sum or a product and their ReLU, where nothing else reads what lies
between them. A positive constant before kernels alone is a factor for the scales of these. Layers
that move, select or average values have the quantization parameters of their inputs. All of this
follows from the layers alone, whatever their quantizers; so it is the same for a float network and
for the quantized one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from wrpn_tf.graph.roles import SAME_SCALE, Kind, Layer, is_gain


class Fusable(Protocol):
    """What fusion asks of a layer of a network: of a `Node`, or of a view of a quantized layer."""

    @property
    def name(self) -> str:
        """Name in the network."""

    @property
    def kind(self) -> Kind | None:
        """Role; None for a class that has none."""

    @property
    def layer(self) -> Layer:
        """The layer of a Keras."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the layers that it reads."""


Item = TypeVar("Item", bound=Fusable)

# What computes in one operator with the layer that alone reads it.
_FUSES: dict[Kind, tuple[Kind, ...]] = {
    Kind.INPUT: (Kind.INPUT,),  # The quantizer of an input is a layer of its own.
    Kind.KERNEL: (Kind.AFFINE, Kind.RELU, Kind.USE),
    Kind.AFFINE: (Kind.RELU, Kind.USE),
    Kind.USE: (Kind.RELU,),
    Kind.ADD: (Kind.RELU,),
    Kind.MULTIPLY: (Kind.RELU,),
}


@dataclasses.dataclass(frozen=True)
class Group(Generic[Item]):
    """The layers of one operator.

    Attributes:
      layers: in execution order: each but the last is read by the next alone.
    """

    layers: tuple[Item, ...]

    @property
    def body(self) -> Item:
        """The layer that reads what the operator reads."""
        return self.layers[0]

    @property
    def end(self) -> Item:
        """The layer whose output is the operator's."""
        return self.layers[-1]

    @property
    def use(self) -> Item | None:
        """What the use of a layer that has several has for itself, or None."""
        return next((layer for layer in self.layers if layer.kind is Kind.USE), None)

    @property
    def affine(self) -> Item | None:
        """The batch normalization or Rescaling, alone or behind the kernel; or None."""
        return next((layer for layer in self.layers if layer.kind is Kind.AFFINE), None)


class Fusion(Generic[Item]):
    """The fusion groups of a network.

    Args:
      layers: of the network, in execution order, decomposed.
      results: names of the layers whose outputs the network returns.

    Attributes:
      layers: by name, in execution order.
      results: as given.
      groups: in the order of their first layers.
      gains: names of the layers that are factors for all kernels that read them: they are in a
        group of their own, and no operator.
    """

    def __init__(self, layers: Iterable[Item], results: Collection[str]):
        self.layers: dict[str, Item] = {layer.name: layer for layer in layers}
        self.results = tuple(results)
        self._readers: dict[str, list[Item]] = {name: [] for name in self.layers}
        for layer in self.layers.values():
            for name in layer.inputs:
                self._readers[name].append(layer)
        self._group_of: dict[str, Group[Item]] = {}
        self.groups: list[Group[Item]] = []
        for layer in self.layers.values():
            if layer.name not in self._group_of:
                group = Group(tuple(self._chain(layer)))
                self.groups.append(group)
                self._group_of |= dict.fromkeys((part.name for part in group.layers), group)
        self.gains = frozenset(
            group.body.name for group in self.groups if self._is_folded_gain(group)
        )

    def group(self, name: str) -> Group[Item]:
        """The group that the named layer belongs to."""
        return self._group_of[name]

    def readers(self, name: str) -> list[Item]:
        """The layers that read the named layer's output, once for each time."""
        return self._readers[name]

    def only_reader(self, name: str) -> Item | None:
        """The layer that alone sees the named layer's output, or None."""
        readers = self._readers[name]
        return readers[0] if len(readers) == 1 and name not in self.results else None

    def sources(self, name: str) -> list[Item]:
        """The layers whose values the named layer, of a role in `SAME_SCALE`, passes on."""
        found = []
        for source in self.layers[name].inputs:
            layer = self.layers[source]
            found += self.sources(source) if layer.kind in SAME_SCALE else [layer]
        return found

    def _chain(self, layer: Item) -> Iterator[Item]:
        yield layer
        while (reader := self.only_reader(layer.name)) is not None:
            if layer.kind is None or reader.kind not in _FUSES.get(layer.kind, ()):
                return
            layer = reader
            yield layer

    def _is_folded_gain(self, group: Group[Item]) -> bool:
        name = group.end.name
        return (
            len(group.layers) == 1
            and is_gain(group.body.layer)
            and name not in self.results
            and all(reader.kind is Kind.KERNEL for reader in self._readers[name])
        )
