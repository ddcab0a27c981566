"""Layers that fuse several steps become several, so that each can carry its own quantizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

from wrpn_tf.graph.fusion import Fusion
from wrpn_tf.graph.nodes import Network, Node, Shape, check_names, known_sizes
from wrpn_tf.graph.roles import (
    Kind,
    activation_layer,
    activation_name,
    class_name,
    hard_sigmoid_line,
    l1_l2,
    leaky_slope,
    penalty_is_apart,
)
from wrpn_tf.graph.sequences import over_images


def decomposed(network: Network, layers: Any, names: Collection[str] | None = None) -> Network:
    """A network with fused activations and the halves of separable convolutions as nodes.

    The activity regularizer of a layer that becomes several, or has one grid on both sides, stays
    behind it, in a layer ActivityRegularization. Swish becomes a product with a sigmoid; a hard
    sigmoid (``clip(0.2 x + 0.5, 0, 1)``, in Keras 3 ``clip(x / 6 + 0.5, 0, 1)``) a Rescaling and a
    ReLU, a hard swish the product with that; a LeakyReLU the larger of its input and a multiple of
    it (the smaller for slopes above 1): rounding does not change which it is. A limit becomes a
    ReLU between two offsets, an average of tensors a sum and a factor, resizing by whole factors
    the enlargement or pooling that it is (`_resized`). Layers over sequences become layers over
    images (`wrpn_tf.graph.sequences`). `Node.part_of` says of each node what it was made of; the
    last part of a node has its output. A layer with weights that is used several times has no
    quantizer of its output: a layer `Use` behind each use has. New layers are not built.

    Args:
      network: the network.
      layers: the namespace of the layers of the model's Keras: `tf_keras.layers`, and with
        `Use` where a layer with weights is used several times.
      names: of the nodes to decompose; None: all.

    Raises:
      ValueError: naming a layer that has the name of another's part, or see `over_images`.
    """
    network = over_images(network, layers, names)
    nodes: list[Node] = []
    ends: dict[str, Node] = {}
    for node in network.nodes:
        sources = [ends[name] for name in node.inputs]
        node = dataclasses.replace(node, inputs=tuple(source.name for source in sources))
        if names is None or node.part_of in names:
            nodes.extend(_use(part, node) for part in _parts(node, sources, layers))
        else:
            nodes.append(node)
        ends[node.name] = nodes[-1]
    results = tuple(ends[name].name for name in network.results)
    check_names(nodes)
    network = dataclasses.replace(network, nodes=tuple(nodes), results=results)
    network = _with_uses(network, layers)
    check_names(network.nodes)
    return network


def _use(part: Node, whole: Node) -> Node:
    """A part of a node, as the use of that part of the layer's first use, if it has weights."""
    if whole.use_of is None or not part.weights:
        return dataclasses.replace(part, use_of=None)
    return dataclasses.replace(part, use_of=whole.use_of + part.name.removeprefix(whole.name))


def _with_uses(network: Network, layers: Any) -> Network:
    """The network with a layer `Use` behind each use of a layer that has several.

    But for those that another layer with weights follows in their fusion group, and is used once.
    """
    several = {node.use_of for node in network.nodes}
    fusion = Fusion(network.nodes, network.results)
    last = {group: [node for node in group.layers if node.weights][-1:] for group in fusion.groups}
    nodes: list[Node] = []
    stands_for: dict[str, str] = {}
    for node in network.nodes:
        inputs = tuple(stands_for.get(name, name) for name in node.inputs)
        nodes.append(dataclasses.replace(node, inputs=inputs))
        is_use = node.use_of is not None or node.name in several
        if is_use and node in last[fusion.group(node.name)]:
            layer = layers.Use(name=f"{node.name}_use")
            use = dataclasses.replace(
                node, name=layer.name, layer=layer, inputs=(node.name,), weights=(), changes={}
            )
            nodes.append(dataclasses.replace(use, use_of=None))
            stands_for[node.name] = layer.name
    results = tuple(stands_for.get(name, name) for name in network.results)
    return dataclasses.replace(network, nodes=tuple(nodes), results=results)


def _parts(node: Node, sources: list[Node], layers: Any) -> Iterator[Node]:
    """The nodes that stand for one node that reads `sources`, and for its activity regularizer."""
    factors = l1_l2(node.layer.activity_regularizer) if penalty_is_apart(node.layer) else None
    if factors is None:
        yield from _computing(node, sources, layers)
        return
    without = {"activity_regularizer": None}
    for part in _computing(node, sources, layers):
        changes = {**part.changes, **without} if part.layer is node.layer else part.changes
        yield dataclasses.replace(part, changes=changes)
    penalty = layers.ActivityRegularization(*factors, name=f"{node.name}_activity")
    yield dataclasses.replace(
        node, name=penalty.name, layer=penalty, inputs=(part.name,), weights=(), changes={}
    )


def _computing(node: Node, sources: list[Node], layers: Any) -> Iterator[Node]:
    """The nodes that compute what one node does that reads `sources`."""
    layer = node.layer
    match class_name(layer):
        case "Activation":
            yield from _activation(node, layers, node.name, node.inputs)
            return
        case "LeakyReLU":
            yield from _leaky(node, layers)
            return
        case "PReLU":
            yield from _learned_slopes(node, layers)
            return
        case "ReLU" if layer.negative_slope:
            bounded = layer.max_value is not None
            yield from _two_slopes(node, layers) if bounded else _leaky(node, layers)
            return
        case "Clip":
            yield from _limited(node, layers)
            return
        case "Average":
            yield from _averaged(node, layers)
            return
        case "CustomScaleLayer":
            yield from _scaled_residual(node, layers)
            return
        case "Stack":
            yield from _stacked(node, layers)
            return
        case "CenterCrop":
            yield from _centered(node, layers, sources[0].shape)
            return
        case "Resizing":
            yield from _resized(node, layers, sources[0].shape)
            return
    if node.kind is not Kind.KERNEL:
        yield node
        return
    activation = activation_name(layer)
    if class_name(layer) == "SeparableConv2D":
        parts = _separable(node, layers, sources[0].shape[-1])
    elif activation != "linear":
        parts = [dataclasses.replace(node, changes={**node.changes, "activation": "linear"})]
    else:
        parts = [node]
    yield from parts
    if activation != "linear":
        name = f"{node.name}_{activation.lower()}"
        yield from _activation(node, layers, name, (parts[-1].name,))


def _two_slopes(node: Node, layers: Any) -> Iterator[Node]:
    """A ReLU with a slope and a maximum as a difference: of its positive and its negative part."""
    layer, name = node.layer, node.name
    positive = layers.ReLU(layer.max_value, name=f"{name}_positive")
    line = layers.Rescaling(-leaky_slope(layer), name=f"{name}_slope")
    negative = layers.ReLU(name=f"{name}_negative")
    for part, inputs in (
        (positive, node.inputs),
        (line, node.inputs),
        (negative, (line.name,)),
        (layers.Subtract(name=name), (positive.name, negative.name)),
    ):
        yield dataclasses.replace(node, name=part.name, layer=part, inputs=inputs)


def _limited(node: Node, layers: Any) -> Iterator[Node]:
    """``min(max(x, a), b)`` as ``relu(x - a, maximum=b - a) + a``, or from above."""
    low, high = node.layer.minimum, node.layer.maximum
    sign, start = (1.0, low) if low is not None else (-1.0, high)
    span = None if low is None or high is None else high - low
    ends = {
        "before": layers.Rescaling(sign, -sign * start, name=f"{node.name}_from"),
        "relu": layers.ReLU(span, name=f"{node.name}_relu"),
        "behind": layers.Rescaling(sign, start, name=node.name),
    }
    inputs = node.inputs
    for layer in ends.values():
        yield dataclasses.replace(node, name=layer.name, layer=layer, inputs=inputs)
        inputs = (layer.name,)


def _averaged(node: Node, layers: Any) -> Iterator[Node]:
    """An average of tensors as their sum, two at a time, and a factor."""
    total, *others = node.inputs
    for index, other in enumerate(others, start=1):
        name = f"{node.name}_sum" if index == len(others) else f"{node.name}_part{index}"
        yield dataclasses.replace(
            node, name=name, layer=layers.Add(name=name), inputs=(total, other)
        )
        total = name
    factor = layers.Rescaling(1 / len(node.inputs), name=node.name)
    yield dataclasses.replace(node, layer=factor, inputs=(total,))


def _scaled_residual(node: Node, layers: Any) -> Iterator[Node]:
    """The sum of a tensor and a multiple of another."""
    shortcut, residual = node.inputs
    factor = layers.Rescaling(node.layer.scale, name=f"{node.name}_scaled")
    yield dataclasses.replace(node, name=factor.name, layer=factor, inputs=(residual,))
    total = layers.Add(name=node.name)
    yield dataclasses.replace(node, layer=total, inputs=(shortcut, factor.name))


def _stacked(node: Node, layers: Any) -> Iterator[Node]:
    """Tensors along a new axis as a concatenation along it, of size 1 each."""
    axis, names = node.layer.axis, []
    shape = (*node.shape[:axis], 1, *node.shape[axis + 1 :])
    for index, source in enumerate(node.inputs, start=1):
        name = f"{node.name}_part{index}"
        layer = layers.Reshape([-1 if size is None else size for size in shape[1:]], name=name)
        yield dataclasses.replace(node, name=name, layer=layer, inputs=(source,), shape=shape)
        names.append(name)
    joined = layers.Concatenate(axis, name=node.name)
    yield dataclasses.replace(node, layer=joined, inputs=tuple(names))


def _resized(node: Node, layers: Any, source: Shape) -> Iterator[Node]:
    """Resizing by whole factors as an enlargement, or as pooling; other factors stay as they are.

    Args:
      node: a Resizing.
      layers: the namespace of the layers of the model's Keras.
      source: shape of what it reads.
    """
    before, after = known_sizes(source)[:2], known_sizes(node.shape)[:2]
    sizes = list(zip(before, after, strict=False))
    if not sizes:
        yield node
    elif all(old == new for old, new in sizes):
        yield dataclasses.replace(node, layer=layers.Identity(name=node.name))
    elif all(new % old == 0 for old, new in sizes):
        factors, interpolation = tuple(new // old for old, new in sizes), node.layer.interpolation
        layer = layers.UpSampling2D(factors, interpolation=interpolation, name=node.name)
        yield dataclasses.replace(node, layer=layer)
    elif all(old % new == 0 for old, new in sizes):
        yield from _reduced(node, layers, source, [old // new for old, new in sizes])
    else:
        yield node


def _reduced(node: Node, layers: Any, source: Shape, steps: list[int]) -> Iterator[Node]:
    """Resizing to every n-th pixel, or average of pixels.

    The center of an output's pixel is that of n pixels of the input. For n odd it is a pixel: the
    nearest, and what is interpolated. For n even it is between two, on each axis: interpolation
    is their average, and the nearest is the second.
    """
    if node.layer.interpolation == "nearest":
        windows, starts = [1, 1], [step // 2 for step in steps]
    else:
        windows = [2 - step % 2 for step in steps]
        starts = [(step - window) // 2 for step, window in zip(steps, windows, strict=True)]
    inputs = node.inputs
    if any(starts):
        name = f"{node.name}_start"
        layer = layers.Cropping2D(tuple((start, 0) for start in starts), name=name)
        height, width, channels = known_sizes(source)
        shape = (source[0], height - starts[0], width - starts[1], channels)
        yield dataclasses.replace(node, name=name, layer=layer, shape=shape)
        inputs = (name,)
    pooling = layers.AveragePooling2D if 2 in windows else layers.MaxPooling2D
    layer = pooling(tuple(windows), tuple(steps), name=node.name)
    yield dataclasses.replace(node, layer=layer, inputs=inputs)


def _centered(node: Node, layers: Any, source: Shape) -> Iterator[Node]:
    """A crop to a center of some size as one by some margins; enlargements stay as they are."""
    sizes = zip(known_sizes(source)[:2], known_sizes(node.shape)[:2], strict=False)
    margins = [old - new for old, new in sizes]
    if not margins or min(margins) < 0:
        yield node
        return
    layer = layers.Cropping2D(tuple((n // 2, n - n // 2) for n in margins), name=node.name)
    yield dataclasses.replace(node, layer=layer)


def _learned_slopes(node: Node, layers: Any) -> Iterator[Node]:
    """A PReLU as multiples of its input, and for each value one of the two.

    Which one is `export.lower`'s: while slopes train they may be on either side of 1.
    """
    layer, name = node.layer, f"{node.name}_slope"
    axes = node.changes.get("shared_axes", layer.shared_axes)
    shared = len(node.shape) - 1 in (axes or ())
    slopes = layers.Slopes(
        shared,
        alpha_regularizer=layer.alpha_regularizer,
        alpha_constraint=layer.alpha_constraint,
        name=name,
    )
    node = dataclasses.replace(node, changes={})
    yield dataclasses.replace(node, name=name, layer=slopes)
    ramp = layers.Ramp(name=node.name)
    yield dataclasses.replace(node, layer=ramp, inputs=(*node.inputs, name), weights=())


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
    inner = activation_layer(node.layer)
    if inner is not None:
        whole = dataclasses.replace(node, name=name, layer=inner, inputs=inputs, weights=())
        yield from _parts(whole, [], layers)
        return
    match activation_name(node.layer):
        case "swish" | "silu":
            yield part(layers.Activation("sigmoid", name=f"{name}_sigmoid"), source)
            yield part(layers.Multiply(name=name), source, f"{name}_sigmoid")
        case "leaky_relu":
            yield from _leaky(part(layers.LeakyReLU(0.2, name=name), source), layers)
        case "tanh":  # 2 sigmoid(2 x) - 1: the grid of LOGISTIC becomes that of TANH.
            yield part(layers.Rescaling(2.0, name=f"{name}_twice"), source)
            yield part(layers.Activation("sigmoid", name=f"{name}_sigmoid"), f"{name}_twice")
            yield part(layers.Rescaling(2.0, -1.0, name=name), f"{name}_sigmoid")
        case "hard_sigmoid":
            line = hard_sigmoid_line(node.layer)
            yield part(layers.Rescaling(*line, name=f"{name}_line"), source)
            yield part(layers.ReLU(1.0, name=name), f"{name}_line")
        case "hard_silu" | "hard_swish":
            line = hard_sigmoid_line(node.layer)
            yield part(layers.Rescaling(*line, name=f"{name}_line"), source)
            yield part(layers.ReLU(1.0, name=f"{name}_gate"), f"{name}_line")
            yield part(layers.Multiply(name=name), source, f"{name}_gate")
        case _:
            yield part(layers.Activation(node.layer.activation, name=name), source)


def _separable(node: Node, layers: Any, channels: int | None) -> list[Node]:
    """A separable convolution of `channels` channels as a depthwise and a pointwise one."""
    layer = node.layer
    linear = activation_name(layer) == "linear"
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
        activity_regularizer=layer.activity_regularizer if linear else None,
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
