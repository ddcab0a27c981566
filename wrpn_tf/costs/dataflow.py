"""What every layer of a model computes, on how many bits: of a quantized one, or of a plan for one.

A plan gives a float model the bits that `quantize_model` would: the same passes decide on both.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wrpn_tf.arithmetic.bits import OFF
from wrpn_tf.fronts import front_of
from wrpn_tf.graph.canonical import canonical
from wrpn_tf.graph.decomposition import decomposed
from wrpn_tf.graph.fusion import Fusion, Group
from wrpn_tf.graph.nodes import Node, Shape, known_sizes
from wrpn_tf.graph.placement import RANGE_BITS, KBit, Placement
from wrpn_tf.graph.roles import SAME_SCALE, Kind, Layer, class_name, operation_name
from wrpn_tf.graph.rules import FirstLast, assign_bits
from wrpn_tf.graph.views import LayerView
from wrpn_tf.quantization.inspection import fusion_groups, view

# Layers that write their output in the place of what they alone read.
_IN_PLACE = (Kind.AFFINE, Kind.RELU, Kind.ADD)

# What multiplies and accumulates without a kernel, by class, and by the last word of a function.
_PRODUCTS = ("AdditiveAttention", "Attention", "Dot", "GroupedQueryAttention")
_PRODUCT_FUNCTIONS = (
    *("conv", "conv2d", "convtranspose", "depthwiseconv", "separableconv", "dotproductattention"),
    *("dot", "einsum", "inner", "matmul", "outer", "tensordot", "vdot"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One layer.

    Attributes:
      name: the layer.
      part_of: the model's layer that it is, or that quantization makes it of.
      kind: its role; None for a class that cannot be quantized.
      layer: the Keras layer, built or not.
      inputs: names of the layers it reads.
      shape: of its output, without the batch.
      weights: number of kernel values; 0 for a layer without a kernel.
      again: whether another step has the same kernel, before it.
      weight_bits: of the kernel: 1 to 8, or 32.
      output_bits: of the quantizer at its output, or None where it has none.
    """

    name: str
    part_of: str
    kind: Kind | None
    layer: Layer
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    weights: int = 0
    again: bool = False
    weight_bits: int = OFF
    output_bits: int | None = None

    @property
    def size(self) -> int:
        """Values of the output for one image."""
        return math.prod(self.shape)


class Dataflow:
    """The steps of a model in execution order, and the bits that flow between them.

    Args:
      steps: in execution order.
      results: names of the steps whose outputs the model returns.

    Attributes:
      steps: by name.
      fusion: which steps become one operator.
    """

    def __init__(self, steps: Sequence[Step], results: Collection[str]):
        self.fusion = Fusion(steps, results)
        self.steps = self.fusion.layers

    def kernels(self) -> list[Step]:
        """The convolutions and dense layers."""
        return [step for step in self.steps.values() if step.kind is Kind.KERNEL]

    def uses(self, step: Step) -> int:
        """How often each weight of a layer is used for one image.

        Once for each pixel of the output, of which a dense layer has one; in a transposed
        convolution for each pixel of the input.
        """
        transposed = class_name(step.layer) == "Conv2DTranspose"
        source = self.steps[step.inputs[0]] if transposed else step
        return math.prod(source.shape[:-1])

    def input_bits(self, step: Step) -> int:
        """Bits of the activations that a layer reads; of several inputs, the most."""
        return _most_bits(self.grids_read(step))

    def grids_read(self, step: Step) -> list[Step]:
        """The layers whose quantizers gave what a layer reads its bits, or left it in float."""
        return [grid for name in step.inputs for grid in self._grids(self.steps[name])]

    def _grids(self, source: Step) -> list[Step]:
        passes = source.kind in SAME_SCALE or source.name in self.fusion.gains
        return self.grids_read(source) if source.output_bits is None and passes else [source]

    def map_bits(self, group: Group[Step]) -> int:
        """Bits of the map that an operator writes, behind what works in the map's place."""
        if group.body.kind in SAME_SCALE:
            return _most_bits(self._grids(group.body))
        while group.end.output_bits is None:
            reader = self.fusion.only_reader(group.end.name)
            if reader is None or reader.kind not in _IN_PLACE:
                return OFF
            group = self.fusion.group(reader.name)
        return group.end.output_bits


def is_quantized(model: Any) -> bool:
    """Whether any layer of a model has a quantizer."""
    return any(layer.observes or layer.kernel is not None for layer in view(model))


def quantized_dataflow(model: Any) -> Dataflow:
    """The steps of a quantized model, with its own bits and without TF-MOT's prefix of names."""
    fusion = fusion_groups(model)
    names = {name: layer.own_name for name, layer in fusion.layers.items()}
    return Dataflow(
        [_quantized_step(layer, names) for layer in fusion.layers.values()],
        [names[name] for name in fusion.results],
    )


def planned_dataflow(
    model: Any, weight_bits: int, activation_bits: int, first_last: FirstLast
) -> Dataflow:
    """The steps of a float model with the bits that `quantize_model` would give it.

    Raises:
      ValueError: for an invalid bit-width or policy.
    """
    front = front_of(model, "measure")
    whole = canonical(front.read(model), front.layers)
    bits = assign_bits(
        whole.nodes, weight_bits=weight_bits, activation_bits=activation_bits, first_last=first_last
    )
    network = decomposed(whole, front.layers)
    integer = first_last == "integer"
    wanted = {
        node.name: _wanted(bits[node.part_of].activation) for node in network.nodes if node.inputs
    }
    placement = Placement(Fusion(network.nodes, network.results), wanted, integer)

    def step(node: Node) -> Step:
        quantizer = placement.output(node.name)
        output_bits = quantizer.bits if quantizer else None
        if node.kind is Kind.INPUT and integer:
            output_bits = RANGE_BITS
        is_kernel = node.kind is Kind.KERNEL
        layer = node.layer
        if "activity_regularizer" in node.changes:  # Which a layer of its own has.
            layer = front.configured(layer, layer.get_config() | dict(node.changes))
        return Step(
            name=node.name,
            part_of=node.part_of,
            kind=node.kind,
            layer=layer,
            inputs=node.inputs,
            shape=_known(node.name, node.shape),
            weights=_kernel_size(
                node.name, node.kind, node.layer, [node.origin.weights[i] for i in node.weights]
            ),
            again=node.use_of is not None,
            weight_bits=bits[node.part_of].weight if is_kernel else OFF,
            output_bits=output_bits,
        )

    return Dataflow([step(node) for node in network.nodes], network.results)


def _most_bits(steps: Iterable[Step]) -> int:
    return max(OFF if step.output_bits is None else step.output_bits for step in steps)


def _wanted(bits: int) -> KBit | None:
    return None if bits == OFF else KBit(bits=bits, method="learned")


def _quantized_step(layer: LayerView, names: Mapping[str, str]) -> Step:
    output_bits = None
    if layer.observes:  # A range without data yet has no grid, but its bits are known.
        output_bits = layer.grid.bits if layer.grid else RANGE_BITS
    size = _kernel_size(names[layer.name], layer.kind, layer.layer, layer.layer.weights)
    return Step(
        name=names[layer.name],
        part_of=names[layer.name],
        kind=layer.kind,
        layer=layer.layer,
        inputs=tuple(names[name] for name in layer.inputs),
        shape=_known(layer.name, layer.output_shape),
        weights=layer.kernel.codes.size if layer.kernel else size,
        again=layer.again,
        weight_bits=layer.kernel.bits if layer.kernel else OFF,
        output_bits=output_bits,
    )


def _kernel_size(name: str, role: Kind | None, layer: Layer, weights: Iterable[Any]) -> int:
    """Number of kernel values among a layer's weights.

    Raises:
      ValueError: for a layer whose multiply-accumulates nobody would count.
    """
    sizes = [int(np.prod(weight.shape)) for weight in weights if _is_kernel(weight, role, layer)]
    is_first = getattr(layer, "data_format", None) == "channels_first"
    if _multiplies(layer) or (sizes and (role is not Kind.KERNEL or is_first)):
        raise ValueError(
            f"Cannot count the multiply-accumulates of {name!r} ({type(layer).__name__}); "
            "convolutions of 1 and 2 dimensions with channels last and dense layers are counted."
        )
    return sum(sizes)


def _is_kernel(weight: Any, role: Kind | None, layer: Layer) -> bool:
    """Whether a weight is multiplied with what a layer reads; a matrix of a user's layer is."""
    if "kernel" in weight.name.rsplit("/", maxsplit=1)[-1]:
        return True
    return role is None and len(weight.shape) > 1 and not class_name(layer)


def _multiplies(layer: Layer) -> bool:
    function = operation_name(layer) or getattr(layer, "symbol", None) or ""
    last = str(function).rsplit(".", maxsplit=1)[-1].lower()
    return class_name(layer) in _PRODUCTS or last in _PRODUCT_FUNCTIONS


def _known(name: str, shape: Shape) -> tuple[int, ...]:
    sizes = known_sizes(shape)
    if len(sizes) < len(shape) - 1:
        raise ValueError(
            f"The output of {name!r} has no fixed size ({shape}); build the model with the height "
            "and width of its images."
        )
    return sizes
