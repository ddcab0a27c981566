"""The weights and the configuration of a layer whose channels are copied.

Net2Wider (Chen et al., arXiv 1511.05641, section 2.2): a copy of a channel has the weights of the
original, and whoever sums over channels divides its weights by the number of copies. Where Net2Net
adds noise to the copies, here it moves the shares: equal ones become random ones with the same sum,
drawn anew for each weight. The function stays the same, and the copies get different gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wrpn_tf.graph.roles import Layer, class_name
from wrpn_tf.widening.channel_roles import SEPARABLE, TRANSPOSED, Role, role
from wrpn_tf.widening.channels import Call


def widened_config(call: Call, copies: np.ndarray) -> dict[str, Any]:
    """The entries of the layer's configuration that change with its channels.

    Args:
      call: a call of the layer.
      copies: number of copies of each channel id.
    """
    layer = call.layer
    if _is_as_it_was(call, copies):
        return {}
    outputs = int(copies[call.outputs[0]].sum())
    if call.shuffle is not None and class_name(layer) == "Permute":
        return {"dims": (*layer.dims, len(layer.dims) + 1)}
    if call.shuffle is not None and call.shuffle.splits:
        return {"target_shape": (*layer.target_shape, int(copies[call.outputs[0]][0]))}
    match role(layer):
        case Role.CHOOSE:
            return {"units" if class_name(layer) == "Dense" else "filters": outputs}
        case Role.DEPTHWISE if _is_grouped(layer):
            return {"filters": outputs, "groups": int(copies[call.inputs[0]].sum())}
        case Role.RESHAPE if class_name(layer) == "Reshape" and layer.target_shape[-1] != -1:
            return {"target_shape": (*layer.target_shape[:-1], outputs)}
        case Role.FOLLOW if class_name(layer) == "LayerScale":
            return {"projection_dim": outputs}
    return {}


def widened_weights(
    call: Call, copies: np.ndarray, noise: float, random: np.random.Generator
) -> list[np.ndarray]:
    """The layer's weights for copied channels, in the order of `get_weights`.

    Args:
      call: a call of the layer.
      copies: number of copies of each channel id, at least 1.
      noise: standard deviation of the shares of copies in a sum, relative to the equal share.
      random: where the noise comes from.
    """
    layer, weights = call.layer, call.layer.get_weights()
    if _is_as_it_was(call, copies):
        return weights
    reads, writes = copies[call.inputs[0]], copies[call.outputs[0]]
    match role(layer):
        case Role.CHOOSE if class_name(layer) in SEPARABLE:
            depthwise, pointwise, *vectors = weights
            between = np.repeat(reads, layer.depth_multiplier)
            pointwise = _share(pointwise, between, -2, noise, random)
            kernels = [_copy_depthwise(depthwise, between), np.repeat(pointwise, writes, axis=-1)]
        case Role.CHOOSE:
            kernel, *vectors = weights
            inputs, outputs = (-1, -2) if class_name(layer) in TRANSPOSED else (-2, -1)
            group = reads[: kernel.shape[inputs]]  # all groups are alike
            kernel = _share(kernel, group, inputs, noise, random)
            kernels = [np.repeat(kernel, writes, axis=outputs)]
        case Role.DEPTHWISE if _is_grouped(layer):
            kernel, *vectors = weights
            kernels = [np.repeat(kernel, writes, axis=-1)]
        case Role.DEPTHWISE:
            kernel, *vectors = weights
            kernels = [_copy_depthwise(kernel, writes)]
        case _:
            kernels, vectors = [], weights
    return kernels + [_copy_vector(layer, weight, writes) for weight in vectors]


def _is_as_it_was(call: Call, copies: np.ndarray) -> bool:
    """Whether all channels around a call have one copy; so have those of layers not known."""
    return all((copies[layout] == 1).all() for layout in (*call.inputs, *call.outputs))


def _share(
    kernel: np.ndarray, copies: np.ndarray, axis: int, noise: float, random: np.random.Generator
) -> np.ndarray:
    """Repeats a kernel along an axis that is summed over, each copy with its share of the sum."""
    shape = [1] * kernel.ndim
    shape[axis] = -1
    shares = np.repeat(kernel / copies.reshape(shape).astype(kernel.dtype), copies, axis)
    if noise and (copies > 1).any():
        precision = np.promote_types(np.float32, shares.dtype)
        deviation = random.standard_normal(shares.shape, precision)
        starts = np.cumsum(copies) - copies
        means = np.add.reduceat(deviation, starts, axis) / copies.reshape(shape)
        deviation -= np.repeat(means, copies, axis)
        shares *= 1 + noise * deviation
    return shares


def _is_grouped(layer: Layer) -> bool:
    """Whether it is a convolution in groups: its kernel is [..., channels of a group, outputs]."""
    return getattr(layer, "groups", 1) > 1


def _copy_depthwise(kernel: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Repeats the outputs of a depthwise kernel [..., C, multiplier].

    The m outputs of n equal channels
    are the n copies of each of m outputs, in whatever order.
    """
    multiplier = kernel.shape[-1]
    flat = kernel.reshape(*kernel.shape[:-2], -1)
    return np.repeat(flat, copies, axis=-1).reshape(*kernel.shape[:-2], -1, multiplier)


def _copy_vector(layer: Layer, weight: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Repeats a weight with a value for each channel; a scalar or a shared one stays."""
    shared = class_name(layer) == "PReLU" and weight.ndim in (layer.shared_axes or ())
    if shared or weight.ndim == 0:
        return weight
    return np.repeat(weight, copies, axis=-1)
