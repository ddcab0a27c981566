"""Which layers can be quantized, and where they stand."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np

from wrpn_tf.graph.nodes import Network, Node, Shape, consumers, known_sizes
from wrpn_tf.graph.roles import (
    Kind,
    Layer,
    activation_layer,
    activation_name,
    class_name,
    has_known_activation,
    is_elementwise,
    kind,
    l1_l2,
    operation_name,
    penalty_is_apart,
    relu_maximum,
)

# Others do not fit the fixed-point positions of TFLite's kernels.
_BILINEAR_FACTORS = frozenset(2**power for power in range(7))
# Classes of tf_keras for operations of TensorFlow.
_OPERATIONS = ("TFOpLambda", "SlicingOpLambda")


def check_supported(network: Network, names: Collection[str] | None = None) -> None:
    """Raises one ValueError that lists every layer that cannot be quantized, and why.

    Args:
      network: in canonical form, where sums and products have two operands.
      names: of the nodes that are to be quantized; None: all.
    """
    shapes = {node.name: node.shape for node in network.nodes}
    readers = consumers(network.nodes)
    problems = {
        f"{node.name} ({type(node.layer).__name__}: {problem})": None
        for node in network.nodes
        if (names is None or node.name in names)
        and (
            problem := _problem(node)
            or arguments_problem(node)
            or _shape_problem(node)
            or _use_problem(node, shapes)
            or _operands_problem(node, [shapes[name] for name in node.inputs])
            or _size_problem(node, [shapes[name] for name in node.inputs])
            or _padding_problem(node, readers[node.name], node.name in network.results)
        )
    }
    if problems:
        raise ValueError(
            f"Layers that cannot be quantized: {'; '.join(problems)}. Replace them, or annotate "
            "the other layers with wrpn_tf.quantize_annotate."
        )


def _problem(node: Node) -> str | None:
    """Why a layer is not supported anywhere, or None."""
    layer = node.layer
    if kind(layer) is None:
        if class_name(layer) == "Activation":
            return f"activation {activation_name(layer)!r}"
        if class_name(layer) in _OPERATIONS:
            given = f" with {', '.join(node.arguments)}" if node.arguments else ""
            return f"operation {layer.get_config()['function']!r}{given}"
        if operation_name(layer):
            given = f" with {', '.join(node.arguments)}" if node.arguments else ""
            return f"operation {operation_name(layer)!r}{given}"
        return "class"
    inner = activation_layer(layer)
    is_known = has_known_activation(layer)
    if inner is not None and kind(inner) is not None and not is_known:
        return f"activation {activation_name(layer)!r}; call it as a layer of its own"
    if kind(layer) is Kind.KERNEL and not is_known:
        return f"activation {activation_name(layer)!r}"
    if inner is not None:
        problem = _problem(dataclasses.replace(node, layer=inner))
        if problem:
            return f"activation {class_name(inner)}: {problem}"
    if penalty_is_apart(layer) and l1_l2(layer.activity_regularizer) is None:
        regularizer = type(layer.activity_regularizer).__name__
        return f"activity_regularizer {regularizer}; of such a layer L1, L2 and L1L2 are kept"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "data_format must be channels_last"
    if class_name(layer) == "ReLU" and layer.threshold:
        return "threshold must be 0: the function jumps there, and no operator does"
    if class_name(layer) == "ReLU" and relu_maximum(layer) == 0:
        return "max_value must be above 0"
    if class_name(layer) == "Rescaling" and max(np.ndim(layer.scale), np.ndim(layer.offset)) > 1:
        return "scale and offset must be one number, or a list of one for each channel"
    if class_name(layer) == "Clip" and None not in (layer.minimum, layer.maximum):
        if not layer.minimum < layer.maximum:
            return f"limits {layer.minimum:g} and {layer.maximum:g} must grow"
    if class_name(layer) in ("Conv1DTranspose", "Conv2DTranspose"):
        if layer.output_padding is not None:
            return "output_padding must be None"
        if max(layer.dilation_rate) > 1:
            return "dilation_rate must be 1"
    if class_name(layer) == "UpSampling2D" and layer.interpolation != "nearest":
        if layer.interpolation != "bilinear":
            return f"interpolation {layer.interpolation!r}; use 'nearest' or 'bilinear'"
        if not _BILINEAR_FACTORS.issuperset(layer.size):
            return f"bilinear factors {layer.size}; TFLite is exact for powers of 2 up to 64 only"
    return None


def check_calls(network: Network) -> None:
    """Raises ValueError for an argument of a call that a copy would not have.

    It names the layer that takes the argument, before the operations that may compute it.
    """
    for node in sorted(network.nodes, key=lambda node: _is_operation(node.layer)):
        if problem := arguments_problem(node):
            raise ValueError(f"Layer {node.name!r} cannot be copied: {problem}.")


def _is_operation(layer: Layer) -> bool:
    return class_name(layer) in _OPERATIONS or bool(operation_name(layer))


def arguments_problem(node: Node) -> str | None:
    """Why a layer cannot be called anew as it was called, or None."""
    for name, value in node.arguments.items():
        if name != "training":
            return f"call argument {name!r}"
        if not isinstance(value, bool):
            return "call argument 'training' must be True or False"
    return None


def _shape_problem(node: Node) -> str | None:
    """Why a layer is not supported where it stands in its network, or None."""
    layer, rank = node.layer, len(node.shape)
    if class_name(layer) == "Conv1D" and rank != 3:
        return "Conv1D needs a sequence [batch, steps, channels]"
    if class_name(layer) == "Dense" and rank not in (2, 3, 4):
        return "Dense needs features, a sequence or images; reshape what it reads"
    if class_name(layer) == "PReLU" and not set(layer.shared_axes or ()).issuperset(
        range(1, rank - 1)
    ):
        return f"slopes for each pixel; share them with shared_axes={list(range(1, rank - 1))}"
    if class_name(layer) == "Concatenate" and layer.axis % rank == 0:
        return "concatenation must not be over axis 0, the images of a batch"
    if class_name(layer) == "Softmax" and layer.axis not in (-1, rank - 1):
        return "softmax must be over the last axis"
    if class_name(layer) == "BatchNormalization":
        axes = np.ravel(node.changes.get("axis", layer.axis)).tolist()
        if axes not in ([rank - 1], [-1]):
            return "batch normalization must be over the last axis"
    return None


def _use_problem(node: Node, shapes: Mapping[str, Shape]) -> str | None:
    """Why a use of a layer does not go together with its first use, or None."""
    ranks = {len(node.shape), len(shapes[node.use_of or node.name])}
    if class_name(node.layer) == "Dense" and 2 in ranks and len(ranks) > 1:
        return "Dense is called on features and on more axes; reshape them alike"
    return None


def _operands_problem(node: Node, shapes: list[Shape]) -> str | None:
    """Why the operands of a layer that computes element by element do not go together, or None."""
    if not is_elementwise(node.layer) or len(shapes) == 1:  # A swish is a product of one.
        return None
    if len(shapes) != 2 and class_name(node.layer) != "Average":
        return "needs two operands; chain several layers"
    if all(shape == shapes[0] for shape in shapes):
        return None
    if node.kind is Kind.MULTIPLY and len(shapes[0]) == len(shapes[1]) and node.shape in shapes:
        return None  # The other is repeated.
    return f"operands of shapes {' and '.join(map(str, shapes))}"


def _size_problem(node: Node, shapes: list[Shape]) -> str | None:
    """Why a layer cannot give images of its size from those that it reads, or None."""
    layer, name = node.layer, class_name(node.layer)
    if name not in ("Resizing", "CenterCrop"):
        return None
    before, after = known_sizes(shapes[0])[:2], known_sizes(node.shape)[:2]
    if len(node.shape) != 4 or not before or not after:
        return "needs images of a known size"
    sizes = list(zip(before, after, strict=True))
    smaller = all(old >= new for old, new in sizes)
    if name == "CenterCrop":
        return None if smaller else "must crop; images that are smaller would be resized"
    for argument in ("crop_to_aspect_ratio", "pad_to_aspect_ratio"):
        if getattr(layer, argument, False) and _changes_aspect_ratio(sizes):
            return f"{argument} must be False"
    if getattr(layer, "antialias", False):
        return "antialias must be False"
    if layer.interpolation not in ("nearest", "bilinear"):
        return f"interpolation {layer.interpolation!r}; use 'nearest' or 'bilinear'"
    if smaller and all(old % new == 0 for old, new in sizes):
        return None
    if all(new % old == 0 for old, new in sizes):
        factors = {new // old for old, new in sizes}
        if layer.interpolation == "nearest" or _BILINEAR_FACTORS.issuperset(factors):
            return None
    return (
        f"from {before} to {after}; exact are whole factors, to larger images "
        "with 'bilinear' powers of 2 up to 64"
    )


def _padding_problem(node: Node, readers: list[Node], is_result: bool) -> str | None:
    """Why minus infinity around images stays in the network, or None."""
    if class_name(node.layer) != "LowestPadding2D":
        return None

    def takes_the_maximum(reader: Node) -> bool:
        """Whether none of its windows lies in the padding alone."""
        layer = reader.layer
        return (
            class_name(layer) == "MaxPooling2D"
            and layer.padding == "valid"
            and all(
                max(pair) < size
                for pair, size in zip(node.layer.padding, layer.pool_size, strict=True)
            )
        )

    if not is_result and all(map(takes_the_maximum, readers)):
        return None
    return "minus infinity is for MaxPooling2D alone, 'valid' and with windows larger than it"


def _changes_aspect_ratio(sizes: list[tuple[int, int]]) -> bool:
    """Whether height and width change by different factors."""
    (height, new_height), (width, new_width) = sizes
    return height * new_width != width * new_height
