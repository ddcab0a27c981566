"""Channel shuffles: three calls that put the channels of groups in turns.

``[..., groups * n]`` is reshaped to ``[..., groups, n]``, permuted to ``[..., n, groups]`` and
reshaped back; or with more axes. Where each channel has k copies side by side, these three do the
same to copies with one more axis of size k.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from wrpn_tf.fronts import front_of
from wrpn_tf.graph.calls import LayerCall
from wrpn_tf.graph.roles import Layer, class_name
from wrpn_tf.widening.channel_roles import standing_for


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShufflePart:
    """One of the calls of a shuffle.

    Attributes:
      layer: the layer, or the one that stands for it.
      splits: whether it is the first, which splits the channels' axis.
    """

    layer: Layer
    splits: bool = False


def find_shuffles(model: Any) -> dict[int, ShufflePart]:
    """The calls of all shuffles in a model and in those nested in it, by what `outputs` tells."""
    return dict(_find(model))


def _find(model: Any) -> Iterator[tuple[int, ShufflePart]]:
    front = front_of(model)
    calls: list[LayerCall] = list(map(front.layer_call, front.graph_nodes(model)))
    results = set(map(id, model.outputs))
    readers: dict[int, list[LayerCall]] = {}
    for call in calls:
        for tensor in call.inputs:
            readers.setdefault(tensor, []).append(call)

    def only_reader(call: LayerCall) -> LayerCall | None:
        (tensor, *_) = call.outputs
        found = readers.get(tensor, [])
        return found[0] if len(found) == 1 and tensor not in results else None

    for call in calls:
        if call.is_nested:
            yield from _find(call.called)
        elif class_name(standing_for(call)) == "Reshape":
            permutation = only_reader(call)
            back = permutation and only_reader(permutation)
            if permutation and back:
                yield from _parts(call, permutation, back)


def _parts(
    split: LayerCall, permutation: LayerCall, back: LayerCall
) -> Iterator[tuple[int, ShufflePart]]:
    """The three calls, of which the first is a reshape, if they are a shuffle."""
    made = [standing_for(call) for call in (split, permutation, back)]
    if [class_name(layer) for layer in made[1:]] != ["Permute", "Reshape"]:
        return
    before, between, permuted, behind = (
        split.input_shape,
        split.output_shape,
        permutation.output_shape,
        back.output_shape,
    )
    kept = len(before) - 1
    leading = {shape[:kept] for shape in (before, between, permuted, behind)}
    if len(leading) > 1 or len(behind) != len(before) or None in (*between[1:], *behind[1:]):
        return
    dims = tuple(made[1].dims)
    if dims[: kept - 1] != tuple(range(1, kept)):
        return
    for call, layer in zip((split, permutation, back), made, strict=True):
        yield call.outputs[0], ShufflePart(layer=layer, splits=call is split)
