"""Residual stages (He et al. 2015, arXiv 1512.03385; He et al. 2016, arXiv 1603.05027)."""

from collections.abc import Sequence
from typing import Any

from wrpn_tf.models.layers import batch_norm, bn_relu, conv2d, conv_bn
from wrpn_tf.models.namespaces import keras_of

EXPANSION = 4  # Of a bottleneck's last 1x1 convolution.

Convolutions = list[tuple[int, int]]  # Kernel size and filters of each.


def residual_stages(
    x: Any,
    filters: Sequence[int],
    blocks: Sequence[int],
    *,
    bottleneck: bool = False,
    preactivation: bool = False,
) -> Any:
    """Stages of residual blocks; every stage but the first begins with stride 2.

    A block is two 3x3 convolutions, or a bottleneck: 1x1, 3x3, and 1x1 with four times the filters.
    The stride is that of its first 3x3 convolution. Where a block changes the shape, its shortcut
    is a 1x1 convolution.

    Args:
        x: Activations behind a ReLU, [N, height, width, channels].
        filters: Of each stage.
        blocks: How many each stage has.
        bottleneck: Whether blocks are bottlenecks.
        preactivation: Batch normalization and ReLU before each convolution (behind `x` they are
            already there, and at the end one pair follows), so that nothing but sums and shortcuts
            is on the residual path; a shape-changing shortcut reads what its block's first
            convolution reads, and has no batch normalization. Otherwise batch normalization behind
            each convolution and a ReLU behind each sum.

    Returns:
        Activations behind a ReLU.
    """
    for stage, (width, count) in enumerate(zip(filters, blocks, strict=True), start=1):
        convolutions = [(3, width)] * 2
        if bottleneck:
            convolutions = [(1, width), (3, width), (1, EXPANSION * width)]
        for block in range(1, count + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            name = f"stage{stage}_block{block}"
            if not preactivation:
                x = _postactivation_block(x, convolutions, strides, name)
            else:
                activated = stage == block == 1
                x = _preactivation_block(x, convolutions, strides, name, activated)
    return bn_relu(x, bn="final_bn", relu="final_relu") if preactivation else x


def _postactivation_block(x: Any, convolutions: Convolutions, strides: int, name: str) -> Any:
    shortcut = x
    if _changes_shape(x, convolutions, strides):
        filters = convolutions[-1][1]
        shortcut = conv_bn(x, filters, 1, name=f"{name}_shortcut_conv", strides=strides)
    x = batch_norm(_body(x, convolutions, strides, name), f"{name}_bn{len(convolutions)}")
    x = keras_of(x).layers.Add(name=f"{name}_add")([x, shortcut])
    return keras_of(x).layers.ReLU(name=f"{name}_relu{len(convolutions)}")(x)


def _preactivation_block(
    x: Any, convolutions: Convolutions, strides: int, name: str, activated: bool
) -> Any:
    shortcut = x
    if not activated:
        x = bn_relu(x, bn=f"{name}_preact_bn", relu=f"{name}_preact_relu")
    if _changes_shape(x, convolutions, strides):
        filters = convolutions[-1][1]
        shortcut = conv2d(x, filters, 1, name=f"{name}_shortcut_conv", strides=strides)
    x = _body(x, convolutions, strides, name)
    return keras_of(x).layers.Add(name=f"{name}_add")([x, shortcut])


def _body(x: Any, convolutions: Convolutions, strides: int, name: str) -> Any:
    """The convolutions, with batch normalization and ReLU between them."""
    strided = [kernel_size for kernel_size, _ in convolutions].index(3)
    for index, (kernel_size, filters) in enumerate(convolutions):
        if index:
            x = bn_relu(x, bn=f"{name}_bn{index}", relu=f"{name}_relu{index}")
        step = strides if index == strided else 1
        x = conv2d(x, filters, kernel_size, name=f"{name}_conv{index + 1}", strides=step)
    return x


def _changes_shape(x: Any, convolutions: Convolutions, strides: int) -> bool:
    return strides != 1 or x.shape[-1] != convolutions[-1][1]
