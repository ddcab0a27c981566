"""Layers over sequences ``[batch, steps, channels]`` as layers over images of one row.

Integer kernels take images. A convolution or pooling over a sequence becomes the one over an image
``[batch, 1, steps, channels]`` between two reshapes, and what computes element by element behind it
stays between them, so that batch normalization and activation become one operator with it. A dense
layer over a sequence, or over images, is a convolution of one pixel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from wrpn_tf.graph.nodes import Network, Node, Shape
from wrpn_tf.graph.roles import Kind, Layer, activation_name, class_name

# What computes each value from those at the same place.
_ELEMENTWISE = (Kind.AFFINE, Kind.RELU, Kind.SIGMOID, Kind.ADD, Kind.MULTIPLY)
_ELEMENTWISE_CLASSES = (
    *("LeakyReLU", "PReLU", "Clip", "Maximum", "Minimum"),
    *("Dropout", "GaussianNoise", "Identity", "ActivityRegularization"),
)
_SHARED_ARGUMENTS = ("use_bias", "trainable", "activation", "bias_regularizer", "bias_constraint")


def over_images(network: Network, layers: Any, names: Collection[str] | None = None) -> Network:
    """A network without layers that take sequences.

    Args:
      network: the network.
      layers: the namespace of the layers of the model's Keras, `tf_keras.layers`.
      names: of the nodes that may be replaced; None: all.

    Raises:
      ValueError: naming a layer over sequences that reads something else.
    """
    rewriter = _Rewriter(layers)
    for node in network.nodes:
        if names is None or node.name in names:
            rewriter.replace(node)
        else:
            rewriter.keep(node)
    return rewriter.network(network)


class _Rewriter:
    """Takes a network's nodes in execution order."""

    def __init__(self, layers: Any):
        self._layers = layers
        self._nodes: list[Node] = []
        self._ends: dict[str, Node] = {}  # By the name of a node: the node that has its output now.
        self._images: dict[str, Node] = {}  # By the name of a sequence: the image of its values.

    def keep(self, node: Node) -> None:
        inputs = tuple(self._ends[name].name for name in node.inputs)
        self._add(dataclasses.replace(node, inputs=inputs))
        self._ends[node.name] = self._nodes[-1]

    def replace(self, node: Node) -> None:
        sources = [self._ends[name] for name in node.inputs]
        known = len(node.shape) == 3 and all(source.name in self._images for source in sources)
        if class_name(node.layer) == "Dense" and len(node.shape) == 4:
            self.keep(dataclasses.replace(node, layer=_over_image(node.layer, self._layers)))
            return
        if not (_takes_sequences(node) or (sources and known and _elementwise(node))):
            self.keep(node)
            return
        if any(len(source.shape) != 3 for source in sources):
            raise ValueError(
                f"{node.name!r} ({class_name(node.layer)}) must read a sequence [batch, steps, "
                f"channels], not {sources[0].shape}."
            )
        if getattr(node.layer, "padding", None) == "causal":
            images = [self._padded(node, self._image(node, sources[0]))]
        else:
            images = [self._image(node, source) for source in sources]
        inputs = tuple(image.name for image in images)
        whole = dataclasses.replace(node, inputs=inputs, layer=node.layer)
        if class_name(node.layer) in _OVER_IMAGES:
            whole = dataclasses.replace(whole, layer=_over_image(node.layer, self._layers))
        else:
            changes = {**node.changes, **_with_a_row(node.layer)}
            whole = dataclasses.replace(whole, changes=changes)
        if len(node.shape) == 3:
            whole = dataclasses.replace(whole, shape=_image_shape(node.shape))
        self._add(whole)
        self._ends[node.name] = whole
        if len(node.shape) == 3:
            sequence = self._reshaped(node, whole, f"{node.name}_sequence", node.shape)
            self._ends[node.name], self._images[sequence.name] = sequence, whole

    def network(self, network: Network) -> Network:
        """The result: without sequences that nothing reads any more."""
        results = tuple(self._ends[name].name for name in network.results)
        read = {name for node in self._nodes for name in node.inputs} | set(results)
        nodes = tuple(n for n in self._nodes if n.name in read or n.name not in self._images)
        return dataclasses.replace(network, nodes=nodes, results=results)

    def _add(self, node: Node) -> Node:
        self._nodes.append(node)
        return node

    def _image(self, node: Node, source: Node) -> Node:
        """The image of a sequence that `node` reads."""
        if source.name not in self._images:
            shape = _image_shape(source.shape)
            name = f"{node.name}_image"
            self._images[source.name] = self._reshaped(node, source, name, shape)
        return self._images[source.name]

    def _reshaped(self, node: Node, source: Node, name: str, shape: Shape) -> Node:
        sizes = [-1 if size is None else size for size in shape[1:]]
        return self._part(node, self._layers.Reshape(sizes, name=name), source, shape)

    def _padded(self, node: Node, source: Node) -> Node:
        """The zeros before a sequence that a causal convolution sees."""
        (size,), (dilation,) = node.layer.kernel_size, node.layer.dilation_rate
        before = (size - 1) * dilation
        batch, rows, steps, channels = source.shape
        layer = self._layers.ZeroPadding2D(((0, 0), (before, 0)), name=f"{node.name}_causal")
        return self._part(node, layer, source, (batch, rows, steps and steps + before, channels))

    def _part(self, node: Node, layer: Layer, source: Node, shape: Shape) -> Node:
        """Adds a layer without weights that is a part of `node`."""
        return self._add(
            dataclasses.replace(
                node, name=layer.name, layer=layer, inputs=(source.name,), shape=shape, weights=()
            )
        )


def _takes_sequences(node: Node) -> bool:
    """Whether the layer is one over sequences; a dense layer is where it reads one."""
    name = class_name(node.layer)
    return name in _OVER_IMAGES and (name != "Dense" or len(node.shape) == 3)


def _over_image(layer: Layer, layers: Any) -> Layer:
    """The layer over images that stands for one of `_OVER_IMAGES`."""
    made = _OVER_IMAGES[class_name(layer)](layer, layers)
    made.activity_regularizer = layer.activity_regularizer
    return made


def _elementwise(node: Node) -> bool:
    known = node.kind in _ELEMENTWISE or class_name(node.layer) in _ELEMENTWISE_CLASSES
    return known or activation_name(node.layer) == "leaky_relu"


def _image_shape(shape: Shape) -> Shape:
    batch, steps, channels = shape
    return (batch, 1, steps, channels)


def _with_a_row(layer: Layer) -> dict[str, Any]:
    """Of a layer that computes element by element: its arguments that count axes, for images."""
    match class_name(layer):
        case "BatchNormalization":
            return {"axis": 3}
        case "PReLU" if layer.shared_axes:
            return {"shared_axes": [1, *(axis + 1 for axis in layer.shared_axes)]}
        case "Dropout" if len(layer.noise_shape or ()) == 3:
            batch, *others = layer.noise_shape
            return {"noise_shape": (batch, 1, *others)}
    return {}


def _convolution(layer: Layer, layers: Any) -> Layer:
    return layers.Conv2D(
        filters=layer.filters,
        strides=(1, *layer.strides),
        groups=layer.groups,
        **_kernels(layer, "kernel"),
    )


def _transposed(layer: Layer, layers: Any) -> Layer:
    padding = layer.output_padding
    return layers.Conv2DTranspose(
        filters=layer.filters,
        strides=(1, *layer.strides),
        output_padding=None if padding is None else (0, *padding),
        **_kernels(layer, "kernel"),
    )


def _depthwise(layer: Layer, layers: Any) -> Layer:
    return layers.DepthwiseConv2D(
        strides=2 * layer.strides,  # TensorFlow takes no others than equal ones.
        depth_multiplier=layer.depth_multiplier,
        **_kernels(layer, "depthwise"),
    )


def _separable(layer: Layer, layers: Any) -> Layer:
    return layers.SeparableConv2D(
        filters=layer.filters,
        strides=2 * layer.strides,
        depth_multiplier=layer.depth_multiplier,
        **_kernels(layer, "depthwise", "pointwise"),
    )


def _pointwise(layer: Layer, layers: Any) -> Layer:
    return layers.Conv2D(
        layer.units,
        1,
        kernel_regularizer=layer.kernel_regularizer,
        kernel_constraint=_of_image(layer.kernel_constraint, 2),
        name=layer.name,
        **{name: getattr(layer, name) for name in _SHARED_ARGUMENTS},
    )


def _kernels(layer: Layer, *kernels: str) -> dict[str, Any]:
    """What layers with such kernels have in common, for images."""
    arguments = {
        "kernel_size": (1, *layer.kernel_size),
        "dilation_rate": (1, *layer.dilation_rate),
        "padding": "valid" if layer.padding == "causal" else layer.padding,
        "name": layer.name,
    }
    for kernel in kernels:
        arguments[f"{kernel}_regularizer"] = getattr(layer, f"{kernel}_regularizer")
        arguments[f"{kernel}_constraint"] = _of_image(getattr(layer, f"{kernel}_constraint"))
    return arguments | {name: getattr(layer, name) for name in _SHARED_ARGUMENTS}


def _of_image(constraint: Any, axes_before: int = 1) -> Any:
    """A constraint on a kernel as that on a kernel with axes of size 1 before its own."""
    config = {} if constraint is None else constraint.get_config()
    if "axis" not in config:
        return constraint
    axes = [n + axes_before if n >= 0 else n for n in np.ravel(config["axis"]).tolist()]
    return type(constraint).from_config(config | {"axis": axes})


def _pooling(name: str) -> Callable[[Layer, Any], Layer]:
    def make(layer: Layer, layers: Any) -> Layer:
        window, stride = (1, *_single(layer.pool_size)), (1, *_single(layer.strides))
        return getattr(layers, name)(window, stride, padding=layer.padding, name=layer.name)

    return make


def _global_pooling(name: str) -> Callable[[Layer, Any], Layer]:
    return lambda layer, layers: getattr(layers, name)(keepdims=layer.keepdims, name=layer.name)


def _dropout(layer: Layer, layers: Any) -> Layer:
    """Of whole channels."""
    return layers.SpatialDropout2D(layer.rate, seed=layer.seed, name=layer.name)


def _padded_or_cropped(name: str, argument: str) -> Callable[[Layer, Any], Layer]:
    def make(layer: Layer, layers: Any) -> Layer:
        amounts = ((0, 0), tuple(getattr(layer, argument)))
        return getattr(layers, name)(amounts, name=layer.name)

    return make


def _single(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


_OVER_IMAGES: dict[str, Callable[[Layer, Any], Layer]] = {
    "Conv1D": _convolution,
    "Dense": _pointwise,
    "Conv1DTranspose": _transposed,
    "DepthwiseConv1D": _depthwise,
    "SeparableConv1D": _separable,
    "MaxPooling1D": _pooling("MaxPooling2D"),
    "AveragePooling1D": _pooling("AveragePooling2D"),
    "ZeroPadding1D": _padded_or_cropped("ZeroPadding2D", "padding"),
    "Cropping1D": _padded_or_cropped("Cropping2D", "cropping"),
    "SpatialDropout1D": _dropout,
    "UpSampling1D": lambda layer, layers: layers.UpSampling2D((1, layer.size), name=layer.name),
    "GlobalMaxPooling1D": _global_pooling("GlobalMaxPooling2D"),
    "GlobalAveragePooling1D": _global_pooling("GlobalAveragePooling2D"),
}
