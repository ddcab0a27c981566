"""Training that keeps activations as their k-bit codes, several in a byte.

The backward pass of a layer needs what the layer read. Ordinary training keeps that in float32.
Here it keeps the codes of quantized outputs and computes what lies between two of them again
(`wrpn_tf.graph.checkpoints` says which), as `tf.recompute_grad` does between tensors in float.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_layer,
    quantize_wrapper,
)

from wrpn_tf.arithmetic import cpu_kernels, packing
from wrpn_tf.graph import checkpoints
from wrpn_tf.graph.fusion import Fusion
from wrpn_tf.graph.nodes import Element, Node
from wrpn_tf.graph.roles import Kind, class_name, kind
from wrpn_tf.tfmot import traversal
from wrpn_tf.tfmot.inspection import named_output_quantizers
from wrpn_tf.tfmot.output_quantizers import (
    RangeQuantizer,
    is_repeating,
    repeating,
)


def pack_activations(model: keras.Model) -> None:
    """Lets a quantized model train with its activations packed, in place.

    Its calls with ``training=True`` then keep, for the backward pass, only the codes of quantized
    outputs: 1, 2, 4 or 8 bits an element, the next above their bits. Convolutions, normalizations
    and what else lies between them are computed again in the backward pass. Outputs and gradients
    are those of the ordinary model, bit for bit, but for an output that three layers or more read,
    whose gradients may be added in another order; moving statistics and observed ranges move once.
    The model stays what it is: it is saved, loaded, exported and called in inference as before, and
    a model that is loaded is not packed.

    What no quantizer follows is kept in float as before: outputs of layers that are not supported
    or that have an activity regularizer, inputs of a model with ``first_last="paper"``, residual
    sums there, and random augmentation; so are ranges that a frozen layer does not observe.
    Gradients of gradients are not supported.

    Args:
      model: from `quantize_model`, `quantize_apply` or `load_model`. Pack it before its training
        step is traced; one that is compiled traces a new one.

    Raises:
      ValueError: for a model without quantized outputs, or one that is packed already.
    """
    traversal.check_model(model, "pack the activations of")
    if "call" in vars(model):
        raise ValueError(f"The activations of model {model.name!r} are packed already.")
    quantizers = [quantizer for quantizer, _ in named_output_quantizers(model).values()]
    if not quantizers:
        raise ValueError(
            f"Model {model.name!r} has no quantized outputs to pack; quantize it with "
            "wrpn_tf.quantize_model first."
        )
    packing_call = PackedCall(model)
    ordinary = model.call

    def call(self, inputs, training=None, mask=None):
        observed = any(quantizer.observer is not None for quantizer in quantizers)
        if isinstance(training, tf.Tensor) or not training or mask is not None or observed:
            return ordinary(inputs, training=training, mask=mask)
        return packing_call(inputs)

    model.call = types.MethodType(call, model)
    model.train_function = None  # Of an earlier `fit`, which traced the ordinary call.


@dataclasses.dataclass(frozen=True)
class Grid:
    """What codes mean: ``(code + low) * scale``, of codes from 0 to ``2^bits - 1``."""

    bits: int
    scale: tf.Tensor
    low: Any = 0.0

    @classmethod
    def of(cls, quantizer: Any, variables: Mapping[str, Any]) -> Grid:
        """That of the outputs of a `RangeQuantizer` or `ActivationQuantizer`."""
        scale, zero_point = quantizer.scale_and_zero_point(variables)
        low = 127.0 - zero_point - (2.0**quantizer.bits - 1.0)
        return cls(quantizer.bits, tf.convert_to_tensor(scale), low)

    def codes(self, values: tf.Tensor) -> tf.Tensor:
        """The codes, uint8, of values on the grid: multiples of the scale but for rounding."""
        if cpu_kernels.are_available():
            return cpu_kernels.nearest_codes(values, self.scale, self.low)
        steps = values * tf.math.reciprocal(self.scale)
        return tf.cast(steps + (0.5 - self.low), tf.uint8)

    def values(self, codes: tf.Tensor) -> tf.Tensor:
        """The values, float32, of codes."""
        steps = tf.cast(codes, tf.float32)
        is_shifted = isinstance(self.low, tf.Tensor) or self.low
        return (steps + self.low if is_shifted else steps) * self.scale


class Kept:
    """A tensor that the backward pass needs.

    Attributes:
      tensor: the tensor.
      grid: of its values; None for one that is kept as it is.
    """

    def __init__(self, tensor: tf.Tensor, grid: Grid | None = None):
        self.tensor = tensor
        self.grid = grid
        self._packed: tf.Tensor | None = None

    def restorer(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """What computes the tensor from what is kept of it, after another tensor is there."""
        grid, tensor = self.grid, self.tensor
        if grid is None:
            return lambda after: _held_back(tensor, after)
        if self._packed is None:
            self._packed = packing.pack(grid.codes(tensor), grid.bits)
        packed, shape, sizes = self._packed, tensor.shape, tf.shape(tensor)

        def restore(after: tf.Tensor) -> tf.Tensor:
            return grid.values(packing.unpack(_held_back(packed, after), grid.bits, shape, sizes))

        return restore


@dataclasses.dataclass(eq=False)
class Between:
    """A tensor that is computed when what reads it is, and again in the backward pass.

    Attributes:
      compute: the tensor from those of `sources`.
      quantizer: an 8-bit range that computing it observes, and its variables; or None.
    """

    compute: Callable[..., tf.Tensor]
    sources: Sequence[Between | Kept]
    quantizer: tuple[RangeQuantizer, Mapping[str, Any]] | None = None

    def leaves(self) -> list[Kept]:
        """The tensors that it is computed from, each once."""
        found: dict[int, Kept] = {}
        for source in self.sources:
            parts = source.leaves() if isinstance(source, Between) else [source]
            found |= {id(part): part for part in parts}
        return list(found.values())

    def quantizers(self) -> Iterator[tuple[RangeQuantizer, Mapping[str, Any]]]:
        """Those of all that is computed."""
        for source in self.sources:
            if isinstance(source, Between):
                yield from source.quantizers()
        if self.quantizer is not None:
            yield self.quantizer

    def __call__(self, values: Mapping[int, tf.Tensor]) -> tf.Tensor:
        """The tensor, with `values` of leaves by their id."""
        tensors = [
            source(values) if isinstance(source, Between) else values[id(source)]
            for source in self.sources
        ]
        return self.compute(*tensors)


def keeping_leaves(root: Between) -> tf.Tensor:
    """Computes a tensor, keeping for the backward pass what its leaves keep."""
    leaves = root.leaves()
    restorers = [leaf.restorer() for leaf in leaves]

    def compute(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        return root({id(leaf): tensor for leaf, tensor in zip(leaves, tensors, strict=True)})

    @tf.custom_gradient
    def run(*tensors):
        output = compute(tensors)
        ranges = {
            id(quantizer): (tf.identity(kept["minimum"]), tf.identity(kept["maximum"]))
            for quantizer, kept in root.quantizers()
        }

        def gradient(upstream, variables=None):
            variables = variables or []
            restored = [restore(upstream) for restore in restorers]
            floats = [tensor for tensor in restored if tensor.dtype.is_floating]
            with repeating(ranges), tf.GradientTape() as tape:
                tape.watch(floats)
                again = compute(restored)
            found = iter(tape.gradient(again, [*floats, *variables], output_gradients=upstream))
            to_inputs = [next(found) if tensor.dtype.is_floating else None for tensor in restored]
            return (to_inputs, list(found)) if variables else to_inputs

        return output, gradient

    return run(*(leaf.tensor for leaf in leaves))


def _held_back(tensor: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """The tensor, but not before `after` is there.

    Else the graph would compute everything again at once, or find that it has it already. XLA does
    not respect control dependencies; a dependency of values does it, as in `tf.recompute_grad`.
    """
    if tf.executing_eagerly():
        return tensor
    with tf.control_dependencies([after]):
        some = tf.cast(tf.reduce_max(tf.reshape(after, [-1])[:1]), tf.bool)
        one = tf.where(some == some, 1.0, float("nan"))
        if tensor.dtype.is_floating or tensor.dtype.is_integer:
            return tensor * tf.cast(one, tensor.dtype)
        return tf.identity(tensor)


@dataclasses.dataclass(frozen=True)
class _Step:
    """A call of a layer, as the passes on networks see it.

    Attributes:
      name: in the network.
      layer: without its wrapper.
      inputs: names of the steps that it reads.
      outer: with its wrapper.
    """

    name: str
    layer: Any
    inputs: tuple[str, ...]
    outer: Any

    @classmethod
    def of(cls, node: Node) -> _Step:
        is_wrapped = isinstance(node.layer, quantize_wrapper.QuantizeWrapper)
        layer = node.layer.layer if is_wrapped else node.layer
        return cls(name=node.name, layer=layer, inputs=node.inputs, outer=node.layer)

    @property
    def kind(self) -> Kind | None:
        if isinstance(self.layer, quantize_layer.QuantizeLayer):
            return Kind.INPUT
        return kind(self.layer)


class PackedCall:
    """A model's call in training.

    Args:
      model: built Functional model.
      segment: computes what lies between checkpoints.
    """

    def __init__(
        self, model: keras.Model, segment: Callable[[Between], tf.Tensor] = keeping_leaves
    ):
        self._segment = segment
        network = traversal.read(model)
        self._model = model
        self._fusion = Fusion([_Step.of(node) for node in network.nodes], network.results)
        self._quantizers = named_output_quantizers(model)
        for step in self._fusion.layers.values():
            if class_name(step.layer) == "BatchNormalization":
                _update_once(step.layer)

    def _present_bits(self) -> dict[str, int]:
        """Bits of the outputs that are quantized now: a frozen layer may not have seen a range."""
        bits = {}
        for step in self._fusion.layers.values():
            quantizer, _ = self._quantizers.get(step.outer.name, (None, None))
            observes = isinstance(quantizer, RangeQuantizer) and quantizer.fixed is None
            if quantizer is not None and (step.outer.trainable or not observes):
                bits[step.name] = quantizer.bits
        return bits

    def __call__(self, inputs: Any) -> Any:
        """The model's outputs, nested as it nests them."""
        model = self._model
        tensors = traversal.flat_inputs(model, inputs)
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
                grids[source] = Grid.of(*self._quantizers[self._fusion.layers[source].outer.name])
            return grids[source] if source is not None else None

        def visit(node, sources, arguments):
            step = next(steps)
            compute: Callable[..., Any] = functools.partial(_call, node, arguments)
            if not checkpoints.is_repeatable(step):
                outputs = tf.nest.flatten(compute(*(source.tensor for source in sources)))
                kept = [Kept(output, grid(step)) for output in outputs]
                return kept if len(kept) > 1 else kept[0]
            if class_name(step.layer) in checkpoints.RANDOM_MASKS and arguments["training"]:
                compute, mask = _masked(step.layer, node.outputs.shape, batch)
                sources = [*sources, mask]
            between = Between(compute, sources, self._observed(step))
            if step.name in is_between:
                return between
            return Kept(self._segment(between), grid(step))

        results = traversal.replay(model, values, visit, {"training": True})
        return tf.nest.pack_sequence_as(
            model._nested_outputs, [result.tensor for result in results]
        )

    def _observed(self, step: _Step) -> tuple[RangeQuantizer, Mapping[str, Any]] | None:
        """The step's 8-bit range and its variables, or None."""
        quantizer, variables = self._quantizers.get(step.outer.name, (None, {}))
        return (quantizer, variables) if isinstance(quantizer, RangeQuantizer) else None


def _call(node: Any, arguments: Mapping[str, Any], *tensors: tf.Tensor) -> Any:
    return traversal.call_as(node, node.layer, list(tensors), arguments)


def _masked(
    layer: keras.layers.Layer, shape: tf.TensorShape, batch: tf.Tensor
) -> tuple[Callable[..., tf.Tensor], Kept]:
    """A dropout as a function of its input and of a mask that is drawn now, and the mask."""
    factor = 1.0 / (1.0 - layer.rate)
    drawn = layer(tf.ones(tf.concat([batch, shape[1:]], axis=0)), training=True)
    drawn.set_shape(shape)

    def mask(tensor: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return tf.where(mask > 0.0, tensor * factor, 0.0)

    return mask, Kept(tf.stop_gradient(drawn), Grid(1, tf.constant(factor, tf.float32)))


def _update_once(layer: keras.layers.Layer) -> None:
    """Lets a layer's statistics rest where its call is repeated."""
    if "add_update" in vars(layer):
        return
    add_update = layer.add_update
    layer.add_update = lambda updates: None if is_repeating() else add_update(updates)
