"""Channel shuffles: three calls that put the channels of groups in turns.

``[..., groups * n]`` is reshaped to ``[..., groups, n]``, permuted to ``[..., n, groups]`` and
reshaped back; or with more axes. Where each channel has k copies side by side, these three do the
same to copies with one more axis of size k.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tf_keras as keras
from tf_keras import layers

from wrpn_tf.tfmot import traversal
from wrpn_tf.widening.channel_roles import standing_for


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShufflePart:
    """One of the calls of a shuffle.

    Attributes:
      order: of the channels of its output among those of its input, flattened: int64 [C].
      layer: the layer, or the one that stands for it.
      splits: whether it is the first, which splits the channels' axis.
    """

    order: np.ndarray
    layer: keras.layers.Layer
    splits: bool = False


def find_shuffles(model: keras.Model) -> dict[int, ShufflePart]:
    """The calls of all shuffles in a model and in those nested in it, by the id of Keras's node."""
    return dict(_find(model))


def _find(model: keras.Model) -> Iterator[tuple[int, ShufflePart]]:
    nodes = list(traversal.graph_nodes(model))
    results = {id(tensor) for tensor in model.outputs}
    readers: dict[int, list[Any]] = {}
    for node in nodes:
        for tensor in node.keras_inputs:
            readers.setdefault(id(tensor), []).append(node)

    def only_reader(node: Any) -> Any:
        found = readers.get(id(node.outputs), [])
        return found[0] if len(found) == 1 and id(node.outputs) not in results else None

    for node in nodes:
        if isinstance(node.layer, keras.Model):
            yield from _find(node.layer)
        elif type(standing_for(node)) is layers.Reshape:
            permutation = only_reader(node)
            back = permutation and only_reader(permutation)
            if back:
                yield from _parts(node, permutation, back)


def _parts(split: Any, permutation: Any, back: Any) -> Iterator[tuple[int, ShufflePart]]:
    """The three calls, if they are a shuffle."""
    made = [standing_for(node) for node in (split, permutation, back)]
    if [type(layer) for layer in made] != [layers.Reshape, layers.Permute, layers.Reshape]:
        return
    before, between, permuted, behind = (
        split.input_shapes,
        split.output_shapes,
        permutation.output_shapes,
        back.output_shapes,
    )
    kept = len(before) - 1
    leading = {shape[:kept] for shape in (before, between, permuted, behind)}
    if len(leading) > 1 or len(behind) != len(before) or None in (*between[1:], *behind[1:]):
        return
    dims = tuple(made[1].dims)
    if dims[: kept - 1] != tuple(range(1, kept)):
        return
    channels = np.arange(before[-1])
    shuffled = channels.reshape(between[kept:]).transpose([dim - kept for dim in dims[kept - 1 :]])
    orders = channels, shuffled.ravel(), channels
    for node, layer, order in zip((split, permutation, back), made, orders, strict=True):
        yield id(node), ShufflePart(order=order, layer=layer, splits=node is split)
