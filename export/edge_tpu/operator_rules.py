"""What the Edge TPU compiler takes of single operators; see `export.edge_tpu.rules`."""

from __future__ import annotations

import math

import numpy as np

from export.edge_tpu.rules import MAPPED_VERSIONS, RULES, Rule, Site, Verdict, rule
from export.ir.operators import PROBABILITIES

# Operators that move codes, or choose among them, without computing new ones.
_SAME_GRID = frozenset(
    """
    AVERAGE_POOL_2D CONCATENATION MAX_POOL_2D PAD RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
    SPLIT STRIDED_SLICE TRANSPOSE
    """.split()
)

# Points where the compiler was seen to map an operator, or not to; in elements of the output.
_RESHAPE_MAPS = {3: 2_304, 4: 408_000}  # By the rank of the output.
_TRANSPOSE_MAPS, _TRANSPOSE_FAILS = 57_600, 108_800
_CONCATENATION_MAPS, _CONCATENATION_FAILS = 17_680, 300_000
_RESIZE_MAPS = {"RESIZE_BILINEAR": 48 * 48 * 24, "RESIZE_NEAREST_NEIGHBOR": 819_200}
_RESIZE_FAILS = 513 * 513
_SOFTMAX_LONGEST = 16_000


@rule(
    "This operator has no fused activation on the Edge TPU.",
    "Move the activation into the operator before it.",
    "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
    "CONCATENATION",
)
def _fused_activation(site: Site) -> bool:
    return bool(site.option("fusedActivationFunction", 0))


@rule(
    "Inputs and output must have the same scale and zero point.",
    "Give both the same quantization; --fix does where that changes no integer.",
    *_SAME_GRID,
)
def _unequal_grids(site: Site) -> bool:
    found = {tensor.quantization for tensor in site.inputs + site.outputs if len(tensor.scale)}
    return len(found) > 1


@rule(
    "A concatenation with a constant must have two inputs, and the constant be zero.",
    "Pad instead, or concatenate the constant before export.",
    "CONCATENATION",
)
def _constant_operand(site: Site) -> bool:
    constants = [tensor for tensor in site.inputs if tensor.data is not None]
    return bool(constants) and (
        len(site.inputs) != 2
        or any(
            np.any(t.array() != (t.zero_point[0] if len(t.zero_point) else 0)) for t in constants
        )
    )


@rule(
    "A concatenation of tensors of rank 3 was never mapped above 300,000 elements.",
    "Concatenate along the depth of an image, or give the parts as outputs of their own.",
    "CONCATENATION",
)
def _concatenation_too_large(site: Site) -> bool:
    return len(site.outputs[0].shape) == 3 and site.outputs[0].size > _CONCATENATION_FAILS


@rule(
    "A concatenation of tensors of rank 3 was seen mapped up to 17,680 elements.",
    "Concatenate along the depth of an image, or compile it to know.",
    "CONCATENATION",
    verdict=Verdict.UNKNOWN_SIZE,
)
def _concatenation_unknown(site: Site) -> bool:
    return len(site.outputs[0].shape) == 3 and site.outputs[0].size > _CONCATENATION_MAPS


@rule(
    "Dilation must be the same along height and width, or 1 along one of them.",
    "Use equal dilation rates.",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
)
def _unequal_dilation(site: Site) -> bool:
    factors = {site.option("dilationHFactor", 1), site.option("dilationWFactor", 1)}
    return len(factors) > 1 and 1 not in factors


@rule(
    "Scales per channel must belong to the output channels.",
    "Quantize the kernel per output channel or per tensor.",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
)
def _other_axis(site: Site) -> bool:
    kernel = site.inputs[1]
    axis = len(kernel.shape) - 1 if site.operator.name == "DEPTHWISE_CONV_2D" else 0
    return len(kernel.scale) > 1 and kernel.axis != axis


@rule(
    "Dense weights must be in the default format.",
    "Convert the model without shuffled weights.",
    "FULLY_CONNECTED",
)
def _shuffled_weights(site: Site) -> bool:
    return bool(site.option("weightsFormat", 0))


@rule(
    "The output of a dense layer must be one-dimensional.",
    "Flatten its input, or use a 1x1 convolution.",
    "FULLY_CONNECTED",
)
def _dense_rank(site: Site) -> bool:
    return any(math.prod(tensor.shape[:-1]) > 1 for tensor in site.outputs)


@rule(
    "A mean must not be over the batch, and over the depth only of a multiple of 4 channels.",
    "Average over height and width, as AVERAGE_POOL_2D.",
    "MEAN",
)
def _mean_axes(site: Site) -> bool:
    axes, shape = site.parameter(1), site.inputs[0].shape
    if axes is None or not len(shape):
        return True
    reduced = {int(axis) % len(shape) for axis in axes}
    batch = len(shape) == 4 and 0 in reduced
    return batch or (len(shape) - 1 in reduced and shape[-1] % 4 != 0)


@rule(
    "Padding must not be along the batch.",
    "Pad height, width or depth alone.",
    "PAD",
)
def _padded_batch(site: Site) -> bool:
    amounts = site.parameter(1)
    return amounts is None or (len(amounts) == 8 and bool(np.any(amounts[:2])))


@rule("Packing must not be along the batch.", "Pack along another axis.", "PACK")
def _packed_batch(site: Site) -> bool:
    return site.option("axis", 0) in (0, -len(site.outputs[0].shape))


@rule(
    "PRELU must have one slope per channel.",
    "Share the slopes along height and width.",
    "PRELU",
)
def _prelu_slopes(site: Site) -> bool:
    return math.prod(site.inputs[1].shape[:-1]) > 1


@rule(
    "Softmax must be one-dimensional of at most 16,000 elements, or over rows of 2.",
    "Give the logits as output and compute the softmax on the CPU.",
    "SOFTMAX",
)
def _softmax_shape(site: Site) -> bool:
    shape = site.outputs[0].shape
    rows = math.prod(shape[:-1]) > 1 and shape[-1] != 2
    return rows or math.prod(shape) > _SOFTMAX_LONGEST


@rule(
    "The output's scale must be 1/256, its zero point the lowest code.",
    "Give it that quantization.",
    "SOFTMAX",
    "LOGISTIC",
)
def _probability_grid(site: Site) -> bool:
    return site.outputs[0].quantization != PROBABILITIES


@rule(
    "A strided slice must have strides of 1, no ellipsis and no new axis.",
    "Slice with strides of 1, or pool.",
    "STRIDED_SLICE",
)
def _strided(site: Site) -> bool:
    strides = site.parameter(3)
    masks = site.option("ellipsisMask", 0) or site.option("newAxisMask", 0)
    return bool(masks) or strides is None or bool(np.any(strides != 1))


@rule(
    "A reshape of 408,000 elements from rank 4 to rank 3 was not mapped.",
    "Give the parts before it as outputs.",
    "RESHAPE",
)
def _reshape_too_large(site: Site) -> bool:
    before, after = site.inputs[0], site.outputs[0]
    return (len(before.shape), len(after.shape)) == (4, 3) and after.size >= _RESHAPE_MAPS[4]


@rule(
    "A reshape was seen mapped up to 2,304 elements, or 408,000 to rank 4, only.",
    "Make it smaller, or compile it to know.",
    "RESHAPE",
    verdict=Verdict.UNKNOWN_SIZE,
)
def _reshape_unknown(site: Site) -> bool:
    output = site.outputs[0]
    return output.size > _RESHAPE_MAPS.get(len(output.shape), _RESHAPE_MAPS[3])


@rule(
    "A transpose of 108,800 elements was not mapped.",
    "Choose a layout that needs no transpose.",
    "TRANSPOSE",
)
def _transpose_too_large(site: Site) -> bool:
    return site.outputs[0].size >= _TRANSPOSE_FAILS


@rule(
    "A transpose was seen mapped up to 57,600 elements, and not of 108,800.",
    "Make it smaller, or compile it to know.",
    "TRANSPOSE",
    verdict=Verdict.UNKNOWN_SIZE,
)
def _transpose_unknown(site: Site) -> bool:
    return site.outputs[0].size > _TRANSPOSE_MAPS


@rule(
    "Resizing from 1x1 to 33x33, or to 513x513, was not mapped.",
    "Resize by 2 at a time, use TILE from 1x1, or resize after the model's output.",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
)
def _resize_too_large(site: Site) -> bool:
    ratio, pixels = _resize(site)
    return pixels >= _RESIZE_FAILS or ratio >= 33


@rule(
    "Resizing was seen mapped by factors of 1 and 2 only, to 55,296 elements, nearest to 819,200.",
    "Resize by 2 at a time, or compile it to know.",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    verdict=Verdict.UNKNOWN_SIZE,
)
def _resize_unknown(site: Site) -> bool:
    ratio, _ = _resize(site)
    return ratio not in (1, 2) or site.outputs[0].size > _RESIZE_MAPS[site.operator.name]


def _resize(site: Site) -> tuple[float, int]:
    """The larger factor of height and width, and the pixels of the output."""
    before, after = (tensor.shape[1:3] for tensor in (site.inputs[0], site.outputs[0]))
    ratios = [new / max(old, 1) for old, new in zip(before, after, strict=False)]
    return max(ratios, default=math.inf), math.prod(after)


@rule(
    "Versions 4 and 5 of CONV_2D are parsed, but were not seen mapped.",
    "Write version 3; --fix does where nothing newer is used.",
    "CONV_2D",
    verdict=Verdict.UNKNOWN_VERSION,
)
def _unseen_version(site: Site) -> bool:
    return site.version > MAPPED_VERSIONS["CONV_2D"]


ALL_RULES: tuple[Rule, ...] = tuple(RULES)
