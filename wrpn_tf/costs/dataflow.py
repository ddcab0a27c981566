"""What every layer of a model computes, on how many bits: of a quantized one, or of a plan for one.

A plan gives a float model the bits that `quantize_model` would, without building it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import tf_keras as keras
from tf_keras import layers

from wrpn_tf.arithmetic.quantizers import OFF
from wrpn_tf.graph.nodes import Node
from wrpn_tf.graph.roles import Kind, activation_name, kind
from wrpn_tf.graph.rules import FirstLast, assign_bits
from wrpn_tf.tfmot import traversal
from wrpn_tf.tfmot.inspection import LayerView, view
from wrpn_tf.tfmot.placement import Placement, wanted_activation

INPUT_BITS = 8
_TRANSPARENT = (Kind.PASS, Kind.CONCATENATE, Kind.AVERAGE)
_FUSABLE = (Kind.INPUT, Kind.AFFINE, Kind.RELU, Kind.ADD)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One layer.

    Attributes:
      name: the layer.
      origin: the model's layer that it is, or that quantization splits it from.
      kind: its role; None for a class that cannot be quantized.
      inputs: names of the layers it reads.
      shape: of its output, without the batch.
      weights: number of kernel values; 0 for a layer without a kernel.
      weight_bits: of the kernel: 1 to 8, or 32.
      output_bits: of the quantizer at its output, or None where it has none.
      transposed: whether it is a transposed convolution.
    """

    name: str
    origin: str
    kind: Kind | None
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    weights: int = 0
    weight_bits: int = OFF
    output_bits: int | None = None
    transposed: bool = False

    @property
    def size(self) -> int:
        """Values of the output for one image."""
        return math.prod(self.shape)


class Dataflow:
    """The steps of a model in execution order, and the bits that flow between them.

    Args:
      steps: in execution order.
    """

    def __init__(self, steps: list[Step]):
        self.steps = {step.name: step for step in steps}
        self._readers: dict[str, list[Step]] = {step.name: [] for step in steps}
        for step in steps:
            for name in step.inputs:
                self._readers[name].append(step)

    def kernels(self) -> list[Step]:
        """The convolutions and dense layers."""
        return [step for step in self.steps.values() if step.kind is Kind.KERNEL]

    def uses(self, step: Step) -> int:
        """How often each weight of a layer is used for one image.

        Once for each pixel of the output, of which a dense layer has one; in a transposed
        convolution for each pixel of the input.
        """
        source = self.steps[step.inputs[0]] if step.transposed else step
        return math.prod(source.shape[:-1])

    def input_bits(self, step: Step) -> int:
        """Bits of the activations that a layer reads; of several inputs, the most."""
        return max(self._bits_read(self.steps[name]) for name in step.inputs)

    def _bits_read(self, source: Step) -> int:
        if source.output_bits is not None:
            return source.output_bits
        if source.kind in _TRANSPARENT:
            return self.input_bits(source)
        return OFF

    def map_bits(self, step: Step) -> int:
        """Bits of a layer's output behind what is fused into the layer."""
        if step.kind in _TRANSPARENT:
            return self._bits_read(step)
        while step.output_bits is None:
            readers = self._readers[step.name]
            if len(readers) != 1 or readers[0].kind not in _FUSABLE:
                return OFF
            step = readers[0]
        return step.output_bits


def is_quantized(model: keras.Model) -> bool:
    """Whether any layer of a flat model has a quantizer."""
    return any(layer.observes or layer.kernel is not None for layer in view(model))


def quantized_dataflow(model: keras.Model) -> Dataflow:
    """The steps of a quantized model, with its own bits."""
    return Dataflow([_quantized_step(layer) for layer in view(model)])


def planned_dataflow(
    model: keras.Model, weight_bits: int, activation_bits: int, first_last: FirstLast
) -> Dataflow:
    """The steps of a flat float model with the bits that `quantize_model` would give it.

    Raises:
      ValueError: for an invalid bit-width or policy.
    """
    nodes = traversal.topology(model)
    bits = assign_bits(
        nodes, weight_bits=weight_bits, activation_bits=activation_bits, first_last=first_last
    )
    parts = list(_split(nodes))
    last = {part.origin.name: part.node.name for part in parts}
    nodes = [
        dataclasses.replace(
            part.node,
            inputs=tuple(last.get(n, n) if part.is_first else n for n in part.node.inputs),
        )
        for part in parts
    ]
    integer = first_last == "integer"
    wanted = {
        part.node.name: wanted_activation(bits[part.origin.name].activation, "learned")
        for part in parts
        if kind(part.node.layer) is not Kind.INPUT
    }
    outputs = {last[tensor._keras_history.layer.name] for tensor in model.outputs}
    placement = Placement(nodes, outputs, wanted, integer)

    def step(part: _Part, node: Node) -> Step:
        quantizer = placement.output(node.name)
        output_bits = quantizer.bits if quantizer else None
        role = kind(node.layer)
        if role is Kind.INPUT and integer:
            output_bits = INPUT_BITS
        return Step(
            name=node.name,
            origin=part.origin.name,
            kind=role,
            inputs=node.inputs,
            shape=part.shape,
            weights=part.weights,
            weight_bits=bits[part.origin.name].weight if role is Kind.KERNEL else OFF,
            output_bits=output_bits,
            transposed=isinstance(node.layer, layers.Conv2DTranspose),
        )

    return Dataflow([step(part, node) for part, node in zip(parts, nodes, strict=True)])


@dataclasses.dataclass(frozen=True)
class _Part:
    """What quantization makes of a layer: the layer, or one of the several it is split into."""

    node: Node
    origin: Node
    shape: tuple[int, ...]
    weights: int
    is_first: bool


def _split(nodes: list[Node]) -> Iterator[_Part]:
    """Fused activations and the halves of separable convolutions, as the scheme splits them."""
    for node in nodes:
        layer, shape = node.layer, _shape(node.layer)
        _check_counted(layer)
        kernels = _kernel_sizes(layer)
        pieces = [(node.name, layer, shape, sum(kernels))]
        if type(layer) is layers.SeparableConv2D:
            channels = layer.depth_multiplier * int(layer.input_shape[-1])
            pieces = [
                (
                    f"{node.name}_depthwise",
                    layers.DepthwiseConv2D(1),
                    (*shape[:-1], channels),
                    kernels[0],
                ),
                (f"{node.name}_pointwise", layers.Conv2D(1, 1), shape, kernels[1]),
            ]
        activation = activation_name(layer)
        if kind(layer) is Kind.KERNEL and activation != "linear":
            fused = layers.Activation(activation)
            pieces.append((f"{node.name}_{activation}", fused, shape, 0))
        inputs = node.inputs
        for index, (name, piece, size, weights) in enumerate(pieces):
            part = Node(name=name, layer=piece, inputs=inputs)
            yield _Part(part, node, size, weights, is_first=index == 0)
            inputs = (name,)


def _quantized_step(layer: LayerView) -> Step:
    _check_counted(layer.layer)
    output_bits = None
    if layer.observes:  # A range without data yet has no grid, but its bits are known.
        output_bits = layer.grid.bits if layer.grid else INPUT_BITS
    return Step(
        name=layer.name,
        origin=layer.name,
        kind=layer.kind,
        inputs=layer.inputs,
        shape=_known(layer.name, layer.output_shape),
        weights=layer.kernel.codes.size if layer.kernel else sum(_kernel_sizes(layer.layer)),
        weight_bits=layer.kernel.bits if layer.kernel else OFF,
        output_bits=output_bits,
        transposed=isinstance(layer.layer, layers.Conv2DTranspose),
    )


def _kernel_sizes(layer: keras.layers.Layer) -> list[int]:
    return [int(np.prod(w.shape)) for w in layer.weights if _is_kernel(w.name)]


def _is_kernel(name: str) -> bool:
    return "kernel" in name.rsplit("/", maxsplit=1)[-1]


def _check_counted(layer: keras.layers.Layer) -> None:
    """Raises ValueError for a kernel whose multiply-accumulates nobody would count."""
    if kind(layer) is not Kind.KERNEL and any(_is_kernel(w.name) for w in layer.weights):
        raise ValueError(
            f"Cannot count the multiply-accumulates of {layer.name!r} "
            f"({type(layer).__name__}); 2D convolutions and dense layers are counted."
        )


def _shape(layer: keras.layers.Layer) -> tuple[int, ...]:
    shape = layer.output_shape
    return _known(layer.name, shape[0] if isinstance(shape, list) else shape)


def _known(name: str, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    sizes = tuple(size for size in shape[1:] if size is not None)
    if len(sizes) < len(shape) - 1:
        raise ValueError(
            f"The output of {name!r} has no fixed size ({shape}); build the model with the height "
            "and width of its images."
        )
    return sizes
