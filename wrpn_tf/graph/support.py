"""Which layers can be quantized, and where they stand."""

from __future__ import annotations

from collections.abc import Collection

from wrpn_tf.graph.nodes import Network, Node, Shape
from wrpn_tf.graph.roles import (
    Kind,
    activation_name,
    class_name,
    has_known_activation,
    is_elementwise,
    kind,
    l1_l2,
)

# Others do not fit the fixed-point positions of TFLite's kernels.
_BILINEAR_FACTORS = frozenset(2**power for power in range(7))


def check_supported(network: Network, names: Collection[str] | None = None) -> None:
    """Raises one ValueError that lists every layer that cannot be quantized, and why.

    Args:
      network: in canonical form, where sums and products have two operands.
      names: of the nodes that are to be quantized; None: all.
    """
    shapes = {node.name: node.shape for node in network.nodes}
    problems = {
        f"{node.name} ({type(node.layer).__name__}: {problem})": None
        for node in network.nodes
        if (names is None or node.name in names)
        and (
            problem := _problem(node)
            or arguments_problem(node)
            or _shape_problem(node)
            or _operands_problem(node, [shapes[name] for name in node.inputs])
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
        if class_name(layer) == "TFOpLambda":
            given = f" with {', '.join(node.arguments)}" if node.arguments else ""
            return f"operation {layer.get_config()['function']!r}{given}"
        return "class"
    if kind(layer) is Kind.KERNEL and not has_known_activation(layer):
        return f"activation {activation_name(layer)!r}"
    if kind(layer) is Kind.KERNEL and activation_name(layer) != "linear":
        regularizer = layer.activity_regularizer
        if regularizer is not None and l1_l2(regularizer) is None:
            return (
                f"activity_regularizer {type(regularizer).__name__} behind an activation; use "
                "L1L2, or make the activation a layer"
            )
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "data_format must be channels_last"
    if class_name(layer) == "ReLU" and (layer.negative_slope or layer.threshold):
        return "negative_slope and threshold must be 0"
    if class_name(layer) == "Conv2DTranspose":
        if layer.output_padding is not None:
            return "output_padding must be None"
        if tuple(layer.dilation_rate) != (1, 1):
            return "dilation_rate must be 1"
    if class_name(layer) == "UpSampling2D" and layer.interpolation != "nearest":
        if layer.interpolation != "bilinear":
            return f"interpolation {layer.interpolation!r}; use 'nearest' or 'bilinear'"
        if not _BILINEAR_FACTORS.issuperset(layer.size):
            return f"bilinear factors {layer.size}; TFLite is exact for powers of 2 up to 64 only"
    return None


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
    if class_name(layer) == "Dense" and rank != 2:
        return "Dense needs a flat input; add a Flatten"
    if class_name(layer) == "Softmax" and layer.axis not in (-1, rank - 1):
        return "softmax must be over the last axis"
    if class_name(layer) == "BatchNormalization":
        if list(node.changes.get("axis", layer.axis)) != [rank - 1]:
            return "batch normalization must be over the last axis"
    return None


def _operands_problem(node: Node, shapes: list[Shape]) -> str | None:
    """Why the operands of a layer that computes element by element do not go together, or None."""
    if not is_elementwise(node.layer) or len(shapes) == 1:  # A swish is a product of one.
        return None
    if len(shapes) != 2:
        return "needs two operands; chain several layers"
    if shapes[0] == shapes[1]:
        return None
    gates = [shape for shape in shapes if shape[1:-1] == (1, 1)]
    if node.kind is Kind.MULTIPLY and gates and shapes[0][-1] == shapes[1][-1]:
        return None
    return f"operands of shapes {shapes[0]} and {shapes[1]}"
