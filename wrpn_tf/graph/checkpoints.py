"""Checkpoints of training: whose outputs are kept, and whose are computed again.

The backward pass needs what each layer read. It can keep some outputs, the checkpoints, and
compute what lies between two of them again. A quantized output is exactly its codes times a scale:
as a checkpoint it costs its bits, and what follows from it is the same again, bit for bit. Every
layer is computed once more in any case, so where checkpoints lie decides on memory alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from wrpn_tf.graph.fusion import Fusable, Fusion, Item
from wrpn_tf.graph.roles import Kind, class_name, has_penalty

_BYTE = 8
_SUMS = (Kind.ADD, Kind.MULTIPLY)
RANDOM_MASKS = frozenset({"Dropout", "SpatialDropout2D"})
"""Classes of layers that are their input times a mask of one bit: with the mask, they repeat."""

_RANDOM = frozenset(
    {
        *("GaussianDropout", "GaussianNoise"),
        *("RandomFlip", "RandomTranslation", "RandomRotation", "RandomZoom"),
        *("RandomContrast", "RandomBrightness"),
    }
)


def is_repeatable(layer: Fusable) -> bool:
    """Whether computing the layer again gives the same, and does nothing else.

    Not so for layers that are not known, that draw random numbers other than masks, or that
    penalize their outputs; nor for what an input passes, which the model is given.
    """
    penalizes = class_name(layer.layer) == "ActivityRegularization" or has_penalty(layer.layer)
    known = layer.kind not in (None, Kind.INPUT) and class_name(layer.layer) not in _RANDOM
    return known and not penalizes


def keeps_grid(layer: Fusable) -> bool:
    """Whether all values of the layer's output are among those of its input, or 0."""
    names = _RANDOM | RANDOM_MASKS | {"Element"}
    return layer.kind is Kind.PASS and class_name(layer.layer) not in names


def between_checkpoints(fusion: Fusion[Item], bits: Mapping[str, int]) -> frozenset[str]:
    """The layers whose outputs are not kept, but computed again.

    Each of them is read by one layer, so they form trees: what reads an end of one is no part of
    it. Not kept are outputs without a quantizer, and operands of a sum or product that take a byte:
    it is cheaper to keep what these were computed from.

    Args:
      fusion: of the network.
      bits: of the quantizers at outputs, by the layer's name.
    """

    def is_between(layer: Item) -> bool:
        reader = fusion.only_reader(layer.name)
        if reader is None or not is_repeatable(layer) or not is_repeatable(reader):
            return False
        own = bits.get(layer.name)
        return own is None or (own == _BYTE and reader.kind in _SUMS)

    return frozenset(layer.name for layer in fusion.layers.values() if is_between(layer))


def grid_source(fusion: Fusion[Item], bits: Mapping[str, int], name: str) -> str | None:
    """The layer whose quantizer all values of the named layer's output come from, or None."""
    if name in bits:
        return name
    layer = fusion.layers[name]
    return grid_source(fusion, bits, layer.inputs[0]) if keeps_grid(layer) else None


def checkpoints(fusion: Fusion[Item], between: Collection[str]) -> frozenset[str]:
    """The layers, inputs too, whose outputs are kept: something that is computed again reads them.

    Args:
      fusion: of the network.
      between: from `between_checkpoints`.
    """
    return frozenset(
        name
        for name in fusion.layers
        if name not in between and any(map(is_repeatable, fusion.readers(name)))
    )
