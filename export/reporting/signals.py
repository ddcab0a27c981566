"""What quantizers do to each layer's output: noise beside the float network, codes, clipping."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

import wrpn_tf
from wrpn_tf import Group, Kind, LayerView

_BATCH = 16
_CODES = 256


@dataclasses.dataclass(kw_only=True, eq=False)
class Signal:
    """The output of one fusion group over some images.

    Attributes:
      layer: the Keras layer that ends the group.
      power: sum of squares of the float network's output.
      noise: sum of squared differences of the quantized network's output from it.
      own_power: sum of squares of what the layer gives in float for the quantized network's input.
      own_noise: sum of squared differences of its quantized output from that.
      counts: int64 ``[256]``, how often each code occurs, counted from that of 0; None without a
        grid of at most 256 codes.
      low: the first code.
    """

    layer: str
    power: float = 0.0
    noise: float = 0.0
    own_power: float = 0.0
    own_noise: float = 0.0
    counts: np.ndarray | None = None
    low: int = 0

    @property
    def in_network(self) -> float:
        """Signal-to-noise ratio in dB, with the noise of all layers before."""
        return decibels(self.power, self.noise)

    @property
    def alone(self) -> float:
        """Signal-to-noise ratio in dB of what this layer adds itself."""
        return decibels(self.own_power, self.own_noise)

    @property
    def error(self) -> float:
        """Root of mean square of the difference, relative to that of the float output."""
        return math.sqrt(self.noise / self.power) if self.power else 0.0


def decibels(power: float, noise: float) -> float:
    """Ten times the decimal logarithm of ``power / noise``; infinite without noise."""
    if not noise:
        return math.inf
    return 10 * math.log10(power / noise) if power else -math.inf


def measure(model: Any, reference: Any, images: np.ndarray) -> list[Signal]:
    """The signals of all fusion groups behind the input, in execution order.

    Args:
      model: quantized, with one input.
      reference: `wrpn_tf.to_float` of it.
      images: float32 ``[images, ...]``, as the model takes them.
    """
    fusion = wrpn_tf.fusion_groups(model)
    views, plain = fusion.layers, {view.name: view for view in wrpn_tf.view(reference)}
    groups = [group for group in fusion.groups if group.end.kind is not Kind.INPUT]
    found = {group.end.name: Signal(layer=plain_name(group.end)) for group in groups}
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        quantized = _outputs(model, views, batch)
        floats = _outputs(reference, plain, batch)
        for group in groups:
            signal, actual = found[group.end.name], quantized[group.end.name]
            wanted, own = floats[signal.layer], _in_float(group, reference, quantized)
            signal.power += _squares(wanted)
            signal.noise += _squares(actual, wanted)
            signal.own_power += _squares(own)
            signal.own_noise += _squares(actual, own)
            _count(signal, group.end, actual)
    return list(found.values())


def plain_name(view: LayerView) -> str:
    """A layer's name in the float network."""
    return view.layer.name


def _outputs(model: Any, views: Mapping[str, LayerView], images: np.ndarray) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, view in views.items():
        if not view.inputs:
            values[name] = images
        else:
            values[name] = _call(
                model.get_layer(view.use_of or name), [values[key] for key in view.inputs]
            )
    return {name: np.asarray(value) for name, value in values.items()}


def _in_float(
    group: Group[LayerView], reference: Any, quantized: Mapping[str, np.ndarray]
) -> np.ndarray:
    """What a group gives in float for its input in the quantized network."""
    values = dict(quantized)
    for view in group.layers:
        inputs = [values[name] for name in view.inputs]
        values[view.name] = np.asarray(_call(reference.get_layer(plain_name(view)), inputs))
    return values[group.end.name]


def _call(layer: Any, inputs: list[Any]) -> Any:
    return layer(inputs if len(inputs) > 1 else inputs[0], training=False)


def _squares(values: np.ndarray, others: Any = 0.0) -> float:
    """The sum of squared differences, but for minus infinity, which a padding may put in."""
    differences = np.zeros(values.shape)
    np.subtract(values, others, out=differences, where=np.isfinite(values))
    return float(np.sum(np.square(differences)))


def _count(signal: Signal, view: LayerView, values: np.ndarray) -> None:
    grid = view.grid
    if grid is None or grid.high - grid.low >= _CODES:
        return
    codes = np.rint(values / np.float32(grid.scale)).astype(np.int64)
    counts = np.bincount((codes - grid.low).clip(0, _CODES - 1).ravel(), minlength=_CODES)
    signal.low = grid.low
    signal.counts = counts if signal.counts is None else signal.counts + counts
