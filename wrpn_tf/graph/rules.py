"""Rules for single layers, and the policy of how many bits each layer gets.

Pure functions over layers and the graph's nodes.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from wrpn_tf.arithmetic.bits import OFF, check_bits
from wrpn_tf.graph.nodes import Node, consumers
from wrpn_tf.graph.roles import SAME_SCALE, Kind, Layer

FirstLast = Literal["integer", "paper"]
FIRST_LAST_BITS: dict[str, int] = {"integer": 8, "paper": OFF}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerBits:
    """Bit-widths of one layer's kernel and of its output: 1 to 8, or 32 for off."""

    weight: int
    activation: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerRule:
    """Selects layers by name, by class, or by both; what it says of them is its subclasses' part.

    Args:
      name: shell pattern on the layer's name ('stage2_*'), or None for any name.
      layer_class: a Keras layer class or its name ('Dense'), of either Keras; instances of
        subclasses match too. None for any.

    Raises:
      ValueError: if the rule selects nothing.
    """

    name: str | None = None
    layer_class: type[Layer] | str | None = None

    def __post_init__(self):
        if self.name is None and self.layer_class is None:
            raise ValueError(f"{self} selects no layer: give it a name or a layer_class.")

    def matches(self, layer: Layer) -> bool:
        """Whether the rule applies to `layer`."""
        if self.name is not None and not fnmatch.fnmatchcase(layer.name, self.name):
            return False
        if isinstance(self.layer_class, str):
            return any(base.__name__ == self.layer_class for base in type(layer).__mro__)
        return self.layer_class is None or isinstance(layer, self.layer_class)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule(LayerRule):
    """Bit-widths for the layers that match; of several rules the first match wins.

    Args:
      name: shell pattern on the layer's name ('stage2_*'), or None for any name.
      layer_class: a Keras layer class or its name ('Dense'), of either Keras; instances of
        subclasses match too. None for any.
      weight_bits: 1 to 8 or 32; None leaves the default.
      activation_bits: bits of the layer's output; None leaves the default.

    Raises:
      ValueError: if the rule selects nothing, sets nothing or a bit-width is invalid.
    """

    weight_bits: int | None = None
    activation_bits: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.weight_bits is None and self.activation_bits is None:
            raise ValueError(f"{self} sets nothing: give it weight_bits or activation_bits.")
        for bits in (self.weight_bits, self.activation_bits):
            if bits is not None:
                check_bits(bits, f"bits of {self}")

    def as_json(self) -> dict[str, str | int]:
        """The fields that are set, as JSON values; a class is its name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: value.__name__ if isinstance(value, type) else value
            for name, value in values.items()
            if value is not None
        }

    @classmethod
    def from_json(cls, values: Any) -> Rule:
        """The rule whose `as_json` the values are.

        Raises:
          ValueError: if they are no rule's; says why.
        """
        if not isinstance(values, dict):
            raise ValueError(f"A rule is a JSON object, not {json.dumps(values)[:60]}.")
        for name, value in values.items():
            if name not in _JSON_TYPES:
                raise ValueError(f"A rule has no field {name!r}; it has {', '.join(_JSON_TYPES)}.")
            expected, words = _JSON_TYPES[name]
            if isinstance(value, bool) or not isinstance(value, expected):
                raise ValueError(f"{name} of a rule must be {words}, not {json.dumps(value)[:60]}.")
        return cls(**values)


_JSON_TYPES: dict[str, tuple[type, str]] = {
    "name": (str, "a string"),
    "layer_class": (str, "the name of a class"),
    "weight_bits": (int, "a whole number"),
    "activation_bits": (int, "a whole number"),
}
"""By field of `Rule`: its type in JSON, and that in words."""


AnyRule = TypeVar("AnyRule", bound=LayerRule)


def decide(rules: Sequence[AnyRule], layers: Iterable[Layer]) -> list[AnyRule | None]:
    """For each layer the first rule that matches it, or None.

    Raises:
      ValueError: naming the rules that decide for no layer.
    """
    if isinstance(rules, LayerRule) or not all(isinstance(rule, LayerRule) for rule in rules):
        raise ValueError(f"rules are a list of rules, as [wrpn_tf.Rule(...)]; got {rules!r}.")
    decisions = [next((rule for rule in rules if rule.matches(layer)), None) for layer in layers]
    unused = [rule for rule in rules if not any(rule is decision for decision in decisions)]
    if unused:
        raise ValueError(
            f"Rules that decide for no layer (nothing matches, or earlier rules match first): "
            f"{'; '.join(map(str, unused))}."
        )
    return decisions


def assign_bits(
    nodes: Sequence[Node],
    *,
    weight_bits: int,
    activation_bits: int,
    rules: Sequence[Rule] = (),
    first_last: FirstLast = "integer",
) -> dict[str, LayerBits]:
    """Bit-widths by layer name.

    A rule overrides the first/last policy, and that overrides the defaults. The policy covers the
    kernels of the first and last layers and the activations that the last layers read.

    Raises:
      ValueError: for an invalid bit-width or policy, or a rule that decides for no layer.
    """
    default = LayerBits(
        weight=check_bits(weight_bits, "weight_bits"),
        activation=check_bits(activation_bits, "activation_bits"),
    )
    if first_last not in FIRST_LAST_BITS:
        raise ValueError(f"first_last must be 'integer' or 'paper'; got {first_last!r}.")
    edge_bits = FIRST_LAST_BITS[first_last]
    firsts, lasts = edge_layers(nodes)
    feeding_last = _activations_before(nodes, lasts)

    bits = {}
    for node, rule in zip(nodes, decide(rules, [node.layer for node in nodes]), strict=True):
        weight = edge_bits if node.name in firsts | lasts else default.weight
        activation = default.activation
        if node.name in feeding_last and activation != OFF:
            activation = edge_bits
        if rule is not None:
            weight = weight if rule.weight_bits is None else rule.weight_bits
            activation = activation if rule.activation_bits is None else rule.activation_bits
        bits[node.name] = LayerBits(weight=weight, activation=activation)
    _share_bits(nodes, bits)
    return bits


def _share_bits(nodes: Sequence[Node], bits: dict[str, LayerBits]) -> None:
    """Gives all uses of a layer, which has one kernel, the most bits of any, in place."""
    again = [(node.name, node.use_of) for node in nodes if node.use_of is not None]
    for name, first in again:
        one, other = bits[name], bits[first]
        bits[first] = LayerBits(
            weight=max(one.weight, other.weight), activation=max(one.activation, other.activation)
        )
    for name, first in again:
        bits[name] = bits[first]


def edge_layers(nodes: Sequence[Node]) -> tuple[set[str], set[str]]:
    """Names of the first and of the last layers with a kernel, on any path."""
    sources = {node.name: node.inputs for node in nodes}
    readers = {name: [reader.name for reader in found] for name, found in consumers(nodes).items()}
    return _first_kernels(nodes, sources), _first_kernels(nodes[::-1], readers)


def _first_kernels(nodes: Sequence[Node], before: Mapping[str, Sequence[str]]) -> set[str]:
    """Names of the layers with a kernel that come behind no other, each after those `before` it."""
    behind_kernel: set[str] = set()
    firsts = set()
    for node in nodes:
        behind = any(name in behind_kernel for name in before[node.name])
        if node.kind is Kind.KERNEL and not behind:
            firsts.add(node.name)
        if node.kind is Kind.KERNEL or behind:
            behind_kernel.add(node.name)
    return firsts


def _activations_before(nodes: Sequence[Node], lasts: set[str]) -> set[str]:
    """Names of the layers whose output reaches a last layer through pooling and reshaping only."""
    by_name = {node.name: node for node in nodes}
    found: set[str] = set()
    pending = [name for last in lasts for name in by_name[last].inputs]
    while pending:
        node = by_name[pending.pop()]
        if node.name in found:
            continue
        found.add(node.name)
        if node.kind in SAME_SCALE:
            pending.extend(node.inputs)
    return found
