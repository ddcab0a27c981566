"""What each layer of a network is to carry: bits and methods, then quantizers and their places.

`layer_plans` says what a model's layers are asked to have, `placed` turns that, for the decomposed
network, into what each layer carries. A front makes its quantizers of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from wrpn_tf.arithmetic.bits import OFF
from wrpn_tf.arithmetic.methods import (
    ACTIVATION_METHODS,
    ActivationMethod,
    Method,
    WeightMethod,
    check_method,
    check_weight_method,
    has_bits,
)
from wrpn_tf.graph.fusion import Fusion
from wrpn_tf.graph.nodes import Network, Node, check_names, consumers
from wrpn_tf.graph.placement import KBit, Placement, Range
from wrpn_tf.graph.roles import SAME_SCALE, Kind, Layer, class_name, kind
from wrpn_tf.graph.rules import FirstLast, Rule, assign_bits, edge_layers
from wrpn_tf.graph.support import check_supported

DEFAULT_BITS = 4

InputRange = tuple[float, float] | Mapping[str, tuple[float, float] | None] | None
"""The fixed real ``(minimum, maximum)`` of a model's inputs: one for all, or by the input's name.

None, and a name that is not there, observe it.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelPlan:
    """The quantizer of a kernel: the arguments of `wrpn_tf.arithmetic.quantizer_state.KernelState`.

    Raises:
      ValueError: for a method that does not exist for the bits.
    """

    bits: int
    method: WeightMethod
    per_channel: bool

    def __post_init__(self):
        check_weight_method(self.method, self.bits)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """What a layer is to carry.

    Attributes:
      weight: the quantizer of its kernel, or None.
      output: the quantizer of its output, or None.
    """

    weight: KernelPlan | None = None
    output: KBit | Range | None = None


def layer_plan(
    layer: Layer,
    weight_bits: int = DEFAULT_BITS,
    activation_bits: int = DEFAULT_BITS,
    weight_method: WeightMethod = "learned",
    activation_method: ActivationMethod = "learned",
    per_channel: bool = True,
) -> LayerPlan:
    """What one layer is asked to have.

    Raises:
      ValueError: for a method that does not exist for the layer's bits.
    """
    weight = None
    if kind(layer) is Kind.KERNEL and weight_bits != OFF:
        weight = KernelPlan(bits=weight_bits, method=weight_method, per_channel=per_channel)
    output = None
    if activation_bits != OFF:
        output = KBit(bits=activation_bits, method=activation_method)
    return LayerPlan(weight=weight, output=output)


def layer_plans(
    nodes: Sequence[Node],
    *,
    weight_bits: int,
    activation_bits: int,
    rules: Sequence[Rule],
    first_last: FirstLast,
    method: Method,
    methods: tuple[WeightMethod, ActivationMethod],
    per_channel: bool,
) -> dict[str, LayerPlan]:
    """What each layer of a model is asked to have, by name.

    First and last layers with bits that the method of weights does not have follow `method`.

    Raises:
      ValueError: see `wrpn_tf.graph.rules.assign_bits`.
    """
    weights, activations = methods
    bits = assign_bits(
        nodes,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        rules=rules,
        first_last=first_last,
    )
    edges = set().union(*edge_layers(nodes))

    def plan(node: Node) -> LayerPlan:
        own = bits[node.name]
        gives_way = node.name in edges and not has_bits(weights, own.weight)
        weight_method = method if gives_way else weights
        return layer_plan(
            node.layer, own.weight, own.activation, weight_method, activations, per_channel
        )

    return {node.name: plan(node) for node in nodes}


def both_methods(
    method: Method,
    weight_method: WeightMethod | None,
    activation_method: ActivationMethod | None,
    weight_bits: int,
) -> tuple[WeightMethod, ActivationMethod]:
    """The methods of weights and activations; raises ValueError for one that does not exist."""
    check_method(method)
    for_weights, for_activations = weight_method or method, activation_method or method
    check_method(for_activations, ACTIVATION_METHODS, "activation_method")
    if weight_bits != OFF:
        check_weight_method(for_weights, weight_bits)
    return for_weights, for_activations


def of_all_uses(network: Network, annotated: Mapping[str, LayerPlan]) -> dict[str, LayerPlan]:
    """What layers are asked to have, by the names of all their uses in a network."""
    uses = [(node.name, node.use_of) for node in network.nodes if node.use_of is not None]
    again = {name: annotated[first] for name, first in uses if first in annotated}
    return {**annotated, **again}


def without_annotations(network: Network, annotated: Collection[str]) -> Network:
    """A network with the layers that were annotated in the places of their annotations.

    Args:
      network: of a model.
      annotated: names of the nodes whose layers are annotations.

    Raises:
      ValueError: if there are none.
    """
    if not annotated:
        raise ValueError(
            f"Model {network.name!r} has no annotated layers; mark some with "
            "wrpn_tf.quantize_annotate, or use wrpn_tf.quantize_model."
        )
    nodes = tuple(
        dataclasses.replace(node, layer=node.layer.layer) if node.name in annotated else node
        for node in network.nodes
    )
    return dataclasses.replace(network, nodes=nodes)


def placed(
    network: Network,
    annotated: Mapping[str, LayerPlan],
    integer: bool,
    input_range: InputRange,
) -> tuple[Network, dict[str, LayerPlan]]:
    """What each layer of a decomposed network carries, by name, if anything.

    Args:
      network: decomposed.
      annotated: what the layers that it was made of are asked to have, by name.
      integer: whether to add all that an integer-only network needs.
      input_range: fixed real ranges of the inputs.

    Returns:
      The network, with what shares a scale frozen where all activations behind it are, and the
      plan.

    Raises:
      ValueError: naming layers that cannot be quantized, that `integer` leaves in float, that no
        output needs but for a penalty, or that have the name of a layer which is added; or inputs
        that are outputs too, or not read.
    """
    own = {
        node.name: _own(node, annotated[node.part_of])
        for node in network.nodes
        if node.part_of in annotated
    }
    check_supported(network, own)
    _check_penalties(network)
    if integer:
        _check_all_annotated(network, own)
        _check_inputs(network)
    check_names([*network.nodes, *_added(network, own, integer)])
    wanted = {
        name: plan.output if isinstance(plan.output, KBit) else None for name, plan in own.items()
    }
    fusion = Fusion(network.nodes, network.results)
    placement = Placement(fusion, wanted, integer)
    ranges = {
        node.name: fixed
        for node in network.nodes
        if not node.inputs and (fixed := fixed_range(input_range, node.name))
    }
    plans = {}
    for node in network.nodes:
        if node.use_of is not None:  # The first use has what all have.
            continue
        weight = own[node.name].weight if node.name in own else None
        output = placement.output(node.name)
        if output and node.inputs[0] in ranges:
            output = _rescaled_input(node.layer, ranges[node.inputs[0]]) or output
        if weight or output:
            plans[node.name] = LayerPlan(weight=weight, output=output)
    nodes = tuple(_freezing_with_sources(node, fusion) for node in network.nodes)
    return dataclasses.replace(network, nodes=nodes), plans


def fixed_range(input_range: InputRange, name: str) -> tuple[float, float] | None:
    """The range of the named input, or None where it is observed."""
    return input_range.get(name) if isinstance(input_range, Mapping) else input_range


def input_quantizer_name(name: str) -> str:
    """What the layer is called that quantizes the named input."""
    return f"quantize_{name}"


def flattening_name(name: str) -> str:
    """What the Flatten is called behind the named pooling to one pixel."""
    return f"{name}_flatten"


def _added(network: Network, annotated: Collection[str], integer: bool) -> Iterator[Node]:
    """The names of layers that are added as a network is built, in nodes of what they belong to."""
    for node in network.nodes:
        if integer and not node.inputs:
            yield dataclasses.replace(node, name=input_quantizer_name(node.name))
        is_pooling = class_name(node.layer) == "GlobalAveragePooling2D"
        if is_pooling and node.name in annotated and not node.layer.keepdims:
            yield dataclasses.replace(node, name=flattening_name(node.name))


def _own(node: Node, plan: LayerPlan) -> LayerPlan:
    """What a node has of the plan of the layer that it is a part of.

    Dense layers get one scale, as Edge TPU wants it; convolutions, and so dense layers over
    sequences and images, one for each output channel, or one too.
    """
    if node.name != node.part_of and node.kind is not Kind.KERNEL:
        return dataclasses.replace(plan, weight=None)
    if plan.weight and class_name(node.layer) == "Dense":
        plan = dataclasses.replace(plan, weight=dataclasses.replace(plan.weight, per_channel=False))
    return plan


def _check_all_annotated(network: Network, annotated: Collection[str]) -> None:
    """Raises ValueError if a layer would stay in float."""
    floats = [node.name for node in network.nodes if node.inputs and node.name not in annotated]
    if floats:
        raise ValueError(
            f"Layers without annotation: {', '.join(floats)}. An integer-only network needs "
            "wrpn_tf.quantize_annotate for every layer; or leave out integer=True."
        )


def _unread(network: Network) -> list[Node]:
    """What no layer reads and the model does not return."""
    readers = consumers(network.nodes)
    return [
        node
        for node in network.nodes
        if not readers[node.name] and node.name not in network.results
    ]


def _check_penalties(network: Network) -> None:
    """Raises ValueError for layers that were kept for an activity_regularizer alone."""
    penalties = [node.part_of for node in _unread(network) if node.inputs]
    if penalties:
        raise ValueError(
            f"Layers with an activity_regularizer that no output needs: {', '.join(penalties)}. "
            "Build the model without them."
        )


def _check_inputs(network: Network) -> None:
    """Raises ValueError if an input is returned as it came, in float, or nothing reads it."""
    returned = [
        node.name for node in network.nodes if not node.inputs and node.name in network.results
    ]
    if returned:
        raise ValueError(
            f"Inputs that the model returns as they are: {', '.join(returned)}. An integer-only "
            "network has them quantized: return keras.layers.Identity()(input) instead."
        )
    unread = [node.name for node in _unread(network) if not node.inputs]
    if unread:
        raise ValueError(
            f"Inputs that nothing reads: {', '.join(unread)}. Build the model without them."
        )


def _rescaled_input(layer: Layer, input_range: tuple[float, float]) -> Range | None:
    """The range of a Rescaling layer that reads an input: it is known."""
    if class_name(layer) != "Rescaling":
        return None
    ends = [np.ravel(layer.scale) * end + np.ravel(layer.offset) for end in input_range]
    minimum, maximum = min(0.0, float(np.min(ends))), max(0.0, float(np.max(ends)))
    if np.size(ends[0]) > 1 and minimum < 0 < maximum:
        # Channels of their own have no pixels in common: codes below 0 are a whole number.
        below = np.clip(np.ceil(-minimum * 255 / (maximum - minimum)), 1, 254)
        step = max(-minimum / below, maximum / (255 - below))
        minimum, maximum = -below * step, (255 - below) * step
    return Range(fixed=(minimum, maximum))


def _freezing_with_sources(node: Node, fusion: Fusion[Node]) -> Node:
    """The node, frozen where all activations that its quantizer may stand for are."""
    if node.kind not in SAME_SCALE or not node.inputs:
        return node
    alive = any(source.trainable for source in fusion.sources(node.name))
    return dataclasses.replace(node, trainable=node.trainable and alive)
