"""Which channels of a network must be copied equally often when it is widened.

A layer that chooses its channels (a convolution, a dense layer) gives each an id, and so do the
model's inputs. What else happens to a tensor only moves ids: its *layout* is the array of the ids
along its last axis, an id may occur in it many times. Where two channels meet (in a sum, in one
group of a convolution used for both) their ids are tied. Tied ids form a class, and a class has
one number of copies. A tensor is widened by repeating each channel in its place as often as its
class says: a rule that commutes with sums, concatenations, flattening, depthwise and grouped
convolutions, so that no layer ever needs a permutation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from wrpn_tf.fronts import front_of
from wrpn_tf.graph.calls import LayerCall
from wrpn_tf.graph.roles import Layer, class_name
from wrpn_tf.widening import channel_roles
from wrpn_tf.widening.channel_roles import Role, role
from wrpn_tf.widening.shuffles import ShufflePart, find_shuffles

Layout = np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a layer.

    Attributes:
      layer: the layer; in the place of an operation the one that stands for it, if one does.
      inputs: layouts of the tensors that it reads, int64 [C] each.
      outputs: layouts of its outputs.
      shuffle: what part of a channel shuffle it is, if it is one; layouts are of the axes that the
        channels are split into, flattened.
    """

    layer: Layer
    inputs: tuple[Layout, ...]
    outputs: tuple[Layout, ...]
    shuffle: ShufflePart | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Channels:
    """The channels of a network.

    Attributes:
      calls: in the order of the front's `replay`.
      owned: layouts of the layers that choose their channels, in execution order.
      classes: class of each id, int [ids]; ids of one class have equally many copies.
      pinned: classes that must keep one copy, and why.
      problems: layers that can only stay as they are, and why; their channels are pinned.
      firsts: layers that choose their channels and read nothing but inputs.
      alike: layers that compute statistics, and rows of channels: int64 [groups, C]. The channels
        of a row must have equally many copies, or the statistics change.
      single: layers that share a sum out among channels, and those: copies would change the shares.
    """

    calls: list[Call]
    owned: dict[Layer, Layout]
    classes: np.ndarray
    pinned: dict[int, str]
    problems: dict[Layer, str]
    firsts: set[Layer]
    alike: list[tuple[Layer, np.ndarray]]
    single: list[tuple[Layer, Layout]]


def trace(model: Any) -> Channels:
    """Follows the channels through a built Sequential or Functional model."""
    return _Tracer(model).trace()


class _Tracer:
    def __init__(self, model: Any):
        self.model = model
        self.front = front_of(model)
        self.size = 0
        self.ties: list[np.ndarray] = []
        self.pins: list[tuple[Layout, str]] = []
        self.problems: dict[Layer, str] = {}
        self.calls: list[Call] = []
        self.owned: dict[Layer, Layout] = {}
        self.firsts: set[Layer] = set()
        self.alike: list[tuple[Layer, np.ndarray]] = []
        self.single: list[tuple[Layer, Layout]] = []
        self.first_calls: dict[Layer, Call] = {}
        self.shuffles = find_shuffles(model)

    def trace(self) -> Channels:
        inputs = [self.new(tensor.shape[-1] or 1) for tensor in self.model.inputs]
        self.input_ids = self.size
        for layout in inputs:
            self.pin(layout, "the model's inputs keep their channels")
        for layout in self.front.replay(self.model, inputs, self.visit):
            self.pin(layout, "the model's outputs keep their channels")
        classes = self.solve()
        pinned: dict[int, str] = {}
        for layout, reason in self.pins:
            for channel_class in np.unique(classes[layout]):
                pinned.setdefault(int(channel_class), reason)
        return Channels(
            calls=self.calls,
            owned=self.owned,
            classes=classes,
            pinned=pinned,
            problems=self.problems,
            firsts=self.firsts,
            alike=self.alike,
            single=self.single,
        )

    def solve(self) -> np.ndarray:
        ties = np.concatenate([np.empty((2, 0), np.int64), *self.ties], axis=1)
        graph = coo_matrix((np.ones(ties.shape[1], bool), tuple(ties)), (self.size, self.size))
        return connected_components(graph, directed=False)[1]

    def new(self, channels: int) -> Layout:
        self.size += channels
        return np.arange(self.size - channels, self.size)

    def tie(self, layout: Layout, other: Layout) -> None:
        pairs = np.stack([layout.ravel(), other.ravel()])
        self.ties.append(np.unique(pairs[:, pairs[0] != pairs[1]], axis=1))

    def tie_rows(self, rows: np.ndarray) -> Layout:
        """Ties the channels of each column of int64 [rows, C]; returns the first row."""
        self.tie(np.broadcast_to(rows[0], rows.shape), rows)
        return rows[0]

    def pin(self, layout: Layout, reason: str) -> None:
        self.pins.append((layout, reason))

    def visit(self, node: Any, inputs: list[Layout], arguments: Mapping[str, Any]) -> list[Layout]:
        facts = self.front.layer_call(node)
        shuffle = self.shuffles.get(facts.outputs[0])
        layer = shuffle.layer if shuffle else channel_roles.standing_for(facts)
        problem = channel_roles.problem(facts, layer, shuffle is not None)
        if problem is None and shuffle is not None:
            self.tie_rows(inputs[0][:, None])
            outputs = [inputs[0]]  # whose channels are all alike
        elif problem is None:
            outputs = [self.output(facts, layer, inputs)]
        else:
            self.problems.setdefault(layer, problem)
            outputs = [self.new(shape[-1] or 1) for shape in facts.output_shapes]
            for layout in (*inputs, *outputs):
                self.pin(layout, f"{layer.name} keeps its channels")
        call = Call(
            layer=layer,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            shuffle=shuffle,
        )
        self.calls.append(call)
        self.share(call)
        return outputs

    def share(self, call: Call) -> None:
        """Ties what the calls of a layer read, where its weights or sizes fit it."""
        first = self.first_calls.setdefault(call.layer, call)
        if first is call or not (call.shuffle or channel_roles.fits_one_width(call.layer)):
            return
        for one, other in zip(first.inputs, call.inputs, strict=True):
            self.tie(one, other)  # and with them what is returned

    def output(self, facts: LayerCall, layer: Layer, inputs: list[Layout]) -> Layout:
        layout = inputs[0]
        rank = len(facts.output_shape)
        match role(layer):
            case Role.CHOOSE:
                layout = self.choose(layer, layout)
            case Role.DEPTHWISE:
                multiplier = int(facts.output_shape[-1] or 0) // len(layout)
                layout = np.repeat(layout, multiplier)
            case Role.FOLLOW:
                self.follow(layer, layout)
            case Role.MERGE:
                layout = self.merge(layer, inputs)
            case Role.CONCATENATE:
                if layer.axis % rank == rank - 1:
                    layout = np.concatenate(inputs)
                else:
                    layout = self.tie_rows(np.stack(inputs))
            case Role.RESHAPE:
                positions = math.prod(size or 0 for size in facts.input_shape[1:-1])
                rows = np.tile(layout, positions).reshape(-1, int(facts.output_shape[-1] or 0))
                layout = self.tie_rows(rows)
            case Role.BLOCKS_TO_CHANNELS:
                layout = np.tile(layout, layer.block_size**2)
            case Role.CHANNELS_TO_BLOCKS:
                layout = self.tie_rows(layout.reshape(layer.block_size**2, -1))
            case Role.FIX if class_name(layer) in ("Slice", "Stack"):
                for each in inputs:
                    self.pin(each, f"{layer.name} keeps its channels")
                layout = self.new(int(facts.output_shape[-1] or 0))
                self.pin(layout, f"{layer.name} keeps its channels")
            case Role.FIX:
                self.pin(layout, f"{layer.name} keeps its channels")
        if channel_roles.softmax_over_channels(layer, rank):
            self.single.append((layer, layout))
        return layout

    def choose(self, layer: Layer, layout: Layout) -> Layout:
        groups = getattr(layer, "groups", 1)
        self.tie_rows(layout.reshape(groups, -1))
        if (layout < self.input_ids).all():
            self.firsts.add(layer)
        if layer not in self.owned:
            channels = getattr(layer, "filters", None) or layer.units
            self.owned[layer] = self.new(channels)
            self.tie_rows(self.owned[layer].reshape(groups, -1))
        return self.owned[layer]

    def follow(self, layer: Layer, layout: Layout) -> None:
        if class_name(layer) == "LayerNormalization":
            self.alike.append((layer, layout[None]))
        elif class_name(layer) == "GroupNormalization":
            rows = layout.reshape(layer.groups, -1)
            self.tie_rows(rows)
            self.alike.append((layer, rows))

    def merge(self, layer: Layer, inputs: list[Layout]) -> Layout:
        channels = max(map(len, inputs))
        whole = [layout for layout in inputs if len(layout) == channels]
        for layout in inputs:
            if len(layout) != channels:
                self.pin(layout, f"{layer.name} broadcasts one channel over all")
        return self.tie_rows(np.stack(whole))
