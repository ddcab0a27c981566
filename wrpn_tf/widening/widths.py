"""How many copies each channel of a widened network has."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from wrpn_tf.graph.roles import Layer
from wrpn_tf.graph.rules import LayerRule
from wrpn_tf.models.layers import MIN_WIDTH, widen_filters
from wrpn_tf.widening.channels import Channels

FirstLayer = Literal["widen", "keep"]


def check_factor(factor: float, name: str) -> float:
    """Returns `factor`; raises ValueError naming it unless it is a number of at least 0.25."""
    number = isinstance(factor, int | float | np.integer | np.floating)
    if not number or isinstance(factor, bool) or not MIN_WIDTH <= factor < math.inf:
        raise ValueError(f"{name} must be a number of at least {MIN_WIDTH}; got {factor!r}.")
    return factor


@dataclasses.dataclass(frozen=True, kw_only=True)
class WidthRule(LayerRule):
    """A factor for the layers that match; of several rules the first match wins.

    A rule decides for layers with filters or units of their own; normalization, activations and
    depthwise convolutions follow what they read. Layers whose outputs are added are as wide as each
    other: a rule for one of them is a rule for all.

    Args:
      name: shell pattern on the layer's name ('stage2_*'), or None for any name.
      layer_class: a Keras layer class (instances of subclasses match too), or None for any.
      factor: on the layer's filters or units, at least 0.25. 1 also keeps a layer of a class that
        `widen` does not know, together with the channels that it reads.

    Raises:
      ValueError: if the rule selects nothing or its factor is invalid.
    """

    factor: float

    def __post_init__(self):
        super().__post_init__()
        check_factor(self.factor, f"factor of {self}")


def count_copies(
    channels: Channels,
    factor: float,
    rules: Mapping[Layer, WidthRule],
    first_layer: FirstLayer,
) -> np.ndarray:
    """The number of copies of each channel, int64 [ids].

    Of a layer's C channels, or C classes of channels, `widen_filters(C, factor)` copies are spread
    evenly: counts differ by at most one. Inputs and outputs of the model come first, then rules,
    then the first layer's policy, then the default; a class keeps what it got first.

    Raises:
      ValueError: for a rule that cannot be followed, or a layer that is left without channels.
    """
    counts = np.full(channels.classes.max(initial=-1) + 1, -1)
    counts[list(channels.pinned)] = 1
    decided_by: dict[int, Layer] = {}
    for layer, rule in rules.items():
        if layer not in channels.owned:
            continue
        own = classes_of(channels, layer)
        wanted = spread(len(own), rule.factor)
        unset = counts[own] < 0
        for channel_class in own[~unset & (counts[own] != wanted)]:
            other = decided_by.get(channel_class)
            if other is None:
                raise ValueError(
                    f"{rule} cannot widen {layer.name}: {channels.pinned[channel_class]}, and its "
                    f"own are among them or meet them. Put WidthRule(name={layer.name!r}, "
                    "factor=1) before it, or narrow its pattern."
                )
            if rules[other].factor != rule.factor:
                raise ValueError(
                    f"{rule} gives {layer.name} another width than {rules[other]} gives "
                    f"{other.name}, but their channels meet, in a sum or in a layer that reads "
                    "both, and must be as many."
                )
        counts[own[unset]] = wanted[unset]
        decided_by |= dict.fromkeys(own[unset].tolist(), layer)
    if first_layer == "keep":
        for layer in channels.firsts:
            own = classes_of(channels, layer)
            counts[own[counts[own] < 0]] = 1
    for layer in channels.owned:
        own = classes_of(channels, layer)
        unset = counts[own] < 0
        counts[own[unset]] = spread(len(own), factor)[unset]
    copies = counts[channels.classes]
    empty = [layer.name for layer, layout in channels.owned.items() if not copies[layout].any()]
    if empty:
        raise ValueError(
            f"Layers that would be left without channels: {', '.join(empty)}. Give them a factor "
            "of 1 with a WidthRule, or use a larger factor."
        )
    return copies


def classes_of(channels: Channels, layer: Layer) -> np.ndarray:
    """The classes of a layer's own channels, each once, in the order of its channels."""
    classes, first = np.unique(channels.classes[channels.owned[layer]], return_index=True)
    return classes[np.argsort(first)]


def spread(channels: int, factor: float) -> np.ndarray:
    """Copies of each of `channels` channels, int64, evenly: `widen_filters(channels, factor)`."""
    total = widen_filters(channels, factor)
    steps = np.arange(channels + 1) * total // channels
    return np.diff(steps)
