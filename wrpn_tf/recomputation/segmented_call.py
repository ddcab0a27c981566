"""A model's call in training as segments between checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from wrpn_tf.arithmetic.quantizer_state import RangeState
from wrpn_tf.fronts import front_of
from wrpn_tf.graph import checkpoints
from wrpn_tf.graph.fusion import Fusion
from wrpn_tf.graph.nodes import Element, Node, Shape
from wrpn_tf.graph.roles import Kind, class_name
from wrpn_tf.recomputation.segments import Between, Grid, Kept


@dataclasses.dataclass(frozen=True)
class _Step:
    """A call of a layer, as the passes on networks see it.

    Attributes:
      name: in the network.
      layer: without its wrapper.
      kind: its role; None for a class that has none.
      inputs: names of the steps that it reads.
      outer: with its wrapper.
      shape: of the output, with the batch (None) first.
    """

    name: str
    layer: Any
    kind: Kind | None
    inputs: tuple[str, ...]
    outer: Any
    shape: Shape

    @classmethod
    def of(cls, node: Node, front: Any) -> _Step:
        layer, role = front.unwrapped(node.layer)
        return cls(node.name, layer, role, node.inputs, node.layer, node.shape)


class SegmentedCall:
    """A model's call in training.

    Args:
      model: built Functional model.
      segment: computes what lies between checkpoints.

    Raises:
      ValueError: naming a dropout whose mask has no size.
    """

    def __init__(self, model: Any, segment: Callable[[Between], tf.Tensor]):
        self._model = model
        self._segment = segment
        self._front = front_of(model)
        network = self._front.read(model)
        steps = [_Step.of(node, self._front) for node in network.nodes]
        self._fusion = Fusion(steps, network.results)
        self._quantizers = self._front.named_output_quantizers(model)
        for step in steps:
            if class_name(step.layer) in checkpoints.RANDOM_MASKS and None in step.shape[1:]:
                raise ValueError(
                    f"Layer {step.name!r} drops values of images whose size is not known; build "
                    "the model with keras.Input((height, width, channels)) to pack its activations."
                )

    def _present_bits(self) -> dict[str, int]:
        """Bits of the outputs that are quantized now: a frozen layer may not have seen a range."""
        bits = {}
        for step in self._fusion.layers.values():
            quantizer, _ = self._quantizers.get(step.outer.name, (None, None))
            observes = isinstance(quantizer, RangeState) and quantizer.fixed is None
            if quantizer is not None and (step.outer.trainable or not observes):
                bits[step.name] = quantizer.bits
        return bits

    def __call__(self, inputs: Any) -> Any:
        """The model's outputs, nested as it nests them."""
        front, model = self._front, self._model
        tensors = front.flat_inputs(model, inputs)
        values = [Kept(tensor) for tensor in tensors]
        steps = iter(
            step
            for step in self._fusion.layers.values()
            if step.inputs and not isinstance(step.layer, Element)
        )
        bits = self._present_bits()
        is_between = checkpoints.between_checkpoints(self._fusion, bits)
        grids: dict[str, Grid] = {}
        batch = tf.shape(tensors[0])[:1]

        def grid(step: _Step) -> Grid | None:
            source = checkpoints.grid_source(self._fusion, bits, step.name)
            if source is not None and source not in grids:
                entry = self._quantizers[self._fusion.layers[source].outer.name]
                scale, zero_point = front.scale_and_zero_point(*entry)
                grids[source] = Grid.ending_at_127(entry[0].bits, scale, zero_point)
            return grids[source] if source is not None else None

        def visit(node, sources, arguments):
            step, called = next(steps), front.layer_call(node).called

            def compute(*tensors: tf.Tensor) -> Any:
                return front.call_as(node, called, list(tensors), arguments)

            if not checkpoints.is_repeatable(step):
                outputs = tf.nest.flatten(compute(*(source.tensor for source in sources)))
                parts = [Kept(output, grid(step)) for output in outputs]
                return parts if len(parts) > 1 else parts[0]
            if class_name(step.layer) in checkpoints.RANDOM_MASKS and arguments["training"]:
                compute, mask = _masked(step, batch)
                sources = [*sources, mask]
            between = Between(compute, sources, self._quantizers.get(step.outer.name))
            if step.name in is_between:
                return between
            kept = Kept(self._segment(between), grid(step))
            if step.kind is not Kind.AVERAGE:  # Which quantizes what it reads.
                between.result = kept
            return kept

        results = front.replay(model, values, visit, {"training": True})
        return front.packed_outputs(model, [result.tensor for result in results])


def _masked(step: _Step, batch: tf.Tensor) -> tuple[Callable[..., tf.Tensor], Kept]:
    """A dropout as a function of its input and of a mask that is drawn now, and the mask."""
    rate = step.layer.rate
    factor = 1.0 / (1.0 - rate) if rate < 1.0 else 1.0
    drawn = step.layer(tf.ones(tf.concat([batch, step.shape[1:]], axis=0)), training=True)
    drawn.set_shape(step.shape)

    def mask(tensor: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return tf.where(mask > 0.0, tensor * factor, 0.0)

    return mask, Kept(tf.stop_gradient(drawn), Grid(1, tf.constant(factor, tf.float32)))
