"""Layers that fuse several steps become several, so that each can carry its own quantizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

from wrpn_tf.graph.nodes import Network, Node
from wrpn_tf.graph.roles import Kind, activation_name, class_name, l1_l2, leaky_slope
from wrpn_tf.graph.sequences import over_images


def decomposed(network: Network, layers: Any, names: Collection[str] | None = None) -> Network:
    """A network with fused activations and the halves of separable convolutions as nodes.

    An activity regularizer stays behind the activation, in a layer ActivityRegularization. Swish
    becomes a product with a sigmoid, a hard sigmoid ``clip(0.2 x + 0.5, 0, 1)`` a Rescaling
    and a ReLU, a LeakyReLU the larger of its input and a multiple of it (the smaller for slopes
    above 1): rounding does not change which it is. Layers over sequences become layers over images
    (`wrpn_tf.graph.sequences`). `Node.part_of` says of each node what it was made of; the last part
    of a node has its output. New layers are not built.

    Args:
      network: the network.
      layers: the namespace of the layers of the model's Keras, `tf_keras.layers`.
      names: of the nodes to decompose; None: all.
    """
    network = over_images(network, layers, names)
    nodes: list[Node] = []
    ends: dict[str, Node] = {}
    for node in network.nodes:
        sources = [ends[name] for name in node.inputs]
        node = dataclasses.replace(node, inputs=tuple(source.name for source in sources))
        if names is None or node.part_of in names:
            nodes.extend(_parts(node, sources, layers))
        else:
            nodes.append(node)
        ends[node.name] = nodes[-1]
    results = tuple(ends[name].name for name in network.results)
    return dataclasses.replace(network, nodes=tuple(nodes), results=results)


def _parts(node: Node, sources: list[Node], layers: Any) -> Iterator[Node]:
    """The nodes that stand for one node that reads `sources`."""
    layer = node.layer
    if class_name(layer) == "Activation":
        yield from _activation(node, layers, node.name, node.inputs)
        return
    if class_name(layer) == "LeakyReLU":
        yield from _leaky(node, layers)
        return
    if node.kind is not Kind.KERNEL:
        yield node
        return
    activation = activation_name(layer)
    if class_name(layer) == "SeparableConv2D":
        parts = _separable(node, layers, sources[0].shape[-1])
    elif activation != "linear":
        changes = {"activation": "linear", "activity_regularizer": None}
        parts = [dataclasses.replace(node, changes={**node.changes, **changes})]
    else:
        parts = [node]
    yield from parts
    if activation != "linear":
        name = f"{node.name}_{activation}"
        yield from _activation(node, layers, name, (parts[-1].name,))
        factors = l1_l2(layer.activity_regularizer)
        if factors is not None:
            penalty = layers.ActivityRegularization(*factors, name=f"{node.name}_activity")
            yield dataclasses.replace(
                node, name=penalty.name, layer=penalty, inputs=(name,), weights=()
            )


def _leaky(node: Node, layers: Any) -> Iterator[Node]:
    """A LeakyReLU as a multiple of its input, and the larger or smaller of the two."""
    slope, name = leaky_slope(node.layer), f"{node.name}_slope"
    line = layers.Rescaling(slope, name=name)
    extremum = (layers.Maximum if slope <= 1 else layers.Minimum)(name=node.name)
    yield dataclasses.replace(node, name=name, layer=line)
    yield dataclasses.replace(node, layer=extremum, inputs=(*node.inputs, name))


def _activation(node: Node, layers: Any, name: str, inputs: tuple[str, ...]) -> Iterator[Node]:
    """The activation of a node as one or two nodes, the last of them called `name`."""

    def part(layer: Any, *sources: str) -> Node:
        return dataclasses.replace(node, name=layer.name, layer=layer, inputs=sources, weights=())

    (source,) = inputs
    match activation_name(node.layer):
        case "swish" | "silu":
            yield part(layers.Activation("sigmoid", name=f"{name}_sigmoid"), source)
            yield part(layers.Multiply(name=name), source, f"{name}_sigmoid")
        case "hard_sigmoid":
            yield part(layers.Rescaling(0.2, 0.5, name=f"{name}_line"), source)
            yield part(layers.ReLU(1.0, name=name), f"{name}_line")
        case _:
            yield part(layers.Activation(node.layer.activation, name=name), source)


def _separable(node: Node, layers: Any, channels: int | None) -> list[Node]:
    """A separable convolution of `channels` channels as a depthwise and a pointwise one."""
    layer, activation = node.layer, activation_name(node.layer)
    depthwise = layers.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        depthwise_regularizer=layer.depthwise_regularizer,
        depthwise_constraint=layer.depthwise_constraint,
        trainable=layer.trainable,
        name=f"{node.name}_depthwise",
    )
    pointwise = layers.Conv2D(
        layer.filters,
        1,
        use_bias=layer.use_bias,
        kernel_regularizer=layer.pointwise_regularizer,
        activity_regularizer=layer.activity_regularizer if activation == "linear" else None,
        kernel_constraint=layer.pointwise_constraint,
        bias_regularizer=layer.bias_regularizer,
        bias_constraint=layer.bias_constraint,
        trainable=layer.trainable,
        name=f"{node.name}_pointwise",
    )
    between = (*node.shape[:-1], channels and channels * layer.depth_multiplier)
    return [
        dataclasses.replace(
            node, name=depthwise.name, layer=depthwise, shape=between, weights=node.weights[:1]
        ),
        dataclasses.replace(
            node,
            name=pointwise.name,
            layer=pointwise,
            inputs=(depthwise.name,),
            weights=node.weights[1:],
        ),
    ]
