"""What the Edge TPU compiler takes, one rule at a time.

A rule is a small pure function that says whether an operator breaks it, with one sentence for what
the Edge TPU asks and one for what to do. They were gathered from Coral's "TensorFlow models on the
Edge TPU" (coral.ai/docs/edgetpu/models-intro) and from pairs of models and what the compiler made
of them; sizes at which an operator stops to map were seen only at single points, and what lies
between the points is unknown.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from export.tflite_file import Operator, Subgraph, Tensor


class Verdict(enum.Enum):
    """What becomes of an operator."""

    TPU = "on TPU"
    CPU_FROM_HERE = "on CPU from here"
    CPU = "on CPU"
    UNKNOWN_SIZE = "unknown (size)"
    UNKNOWN_VERSION = "unknown (version)"
    REJECTED = "rejected"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """An operator with its tensors, as the rules look at it."""

    operator: Operator
    subgraph: Subgraph

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors it reads, without those left out."""
        return [self.subgraph.tensors[index] for index in self.operator.inputs if index >= 0]

    @property
    def outputs(self) -> list[Tensor]:
        """The tensors it writes."""
        return [self.subgraph.tensors[index] for index in self.operator.outputs]

    @property
    def activations(self) -> list[Tensor]:
        """The tensors that flow through it: neither constants nor state."""
        flowing = [t for t in self.inputs if t.data is None and not t.variable]
        return flowing + self.outputs

    @property
    def version(self) -> int:
        """The operator's version."""
        return self.operator.version

    def option(self, name: str, default: Any) -> Any:
        """A field of the options table."""
        value = self.operator.options.get(name)
        return default if value is None else value

    def parameter(self, position: int) -> np.ndarray | None:
        """The values of a constant integer input by its position, flat, or None."""
        tensor = self.subgraph.tensors[self.operator.inputs[position]]
        if tensor.data is None or tensor.type not in ("INT32", "INT64"):
            return None
        return tensor.array().reshape(-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One demand of the Edge TPU.

    Attributes:
      sentence: what it asks, or what the compiler was seen to do.
      fix: what to do about an operator that breaks it.
      broken: whether an operator breaks it.
      verdict: what becomes of an operator that does.
      operators: names of the operators it is for; empty: all.
    """

    sentence: str
    fix: str
    broken: Callable[[Site], bool]
    verdict: Verdict
    operators: frozenset[str]

    def applies(self, site: Site) -> bool:
        """Whether the operator is one that the rule is for, and breaks it."""
        return (not self.operators or site.operator.name in self.operators) and self.broken(site)


RULES: list[Rule] = []

SUPPORTED = frozenset(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED
    L2_NORMALIZATION LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE
    REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
    RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH
    TILE TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM
    """.split()
)
# The highest version that was seen mapped.
MAPPED_VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "RESIZE_BILINEAR": 3,
    "RESIZE_NEAREST_NEIGHBOR": 3,
    "TRANSPOSE_CONV": 3,
    **dict.fromkeys("ADD SUB MUL CONCATENATION PAD AVERAGE_POOL_2D MAX_POOL_2D".split(), 2),
    **dict.fromkeys("MEAN SOFTMAX LOGISTIC QUANTIZE TRANSPOSE".split(), 2),
}
# The highest that compiler 16.0 parses, where that is more.
_PARSED_VERSIONS = MAPPED_VERSIONS | {"CONV_2D": 5}
# Operators that move codes, or choose among them, without computing new ones.
SAME_GRID = frozenset(
    """
    AVERAGE_POOL_2D CONCATENATION MAX_POOL_2D PAD RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
    SPLIT STRIDED_SLICE TRANSPOSE
    """.split()
)
_ALL_INPUTS_FLOW = frozenset(
    "ADD SUB MUL MAXIMUM MINIMUM SQUARED_DIFFERENCE CONCATENATION PACK".split()
)
_SUB_BYTE = ("INT4", "UINT4", "INT2")
_HIGHEST_BUILTIN_CODE = 145

# Points where the compiler was seen to map an operator, or not to; in elements of the output.
_RESHAPE_MAPS = 2_304
_TRANSPOSE_MAPS, _TRANSPOSE_FAILS = 57_600, 230_400
_CONCATENATION_FAILS = 300_000
_RESIZE_MAPS, _RESIZE_FAILS = 48 * 48 * 24, 513 * 513
_SOFTMAX_LONGEST = 16_000


def _rule(
    sentence: str, fix: str, *operators: str, verdict: Verdict = Verdict.CPU
) -> Callable[[Callable[[Site], bool]], Callable[[Site], bool]]:
    def add(broken: Callable[[Site], bool]) -> Callable[[Site], bool]:
        RULES.append(
            Rule(
                sentence=sentence,
                fix=fix,
                broken=broken,
                verdict=verdict,
                operators=frozenset(operators),
            )
        )
        return broken

    return add


@_rule(
    "The compiler parses builtin operators up to code 145.",
    "Replace the operator by older ones.",
    verdict=Verdict.REJECTED,
)
def _newer_builtin(site: Site) -> bool:
    return site.operator.code > _HIGHEST_BUILTIN_CODE


@_rule(
    "The compiler parses older versions of this operator only.",
    "Write the version that int8 needs; --fix does where nothing newer is used.",
    *_PARSED_VERSIONS,
    verdict=Verdict.REJECTED,
)
def _newer_version(site: Site) -> bool:
    return site.version > _PARSED_VERSIONS[site.operator.name]


@_rule(
    "Tensors of fewer than 8 bits are expected to be rejected.",
    "Export int8 weights for the Edge TPU; packed int4 and int2 are for other devices.",
    verdict=Verdict.REJECTED,
)
def _sub_byte(site: Site) -> bool:
    return any(tensor.type in _SUB_BYTE for tensor in site.inputs + site.outputs)


@_rule(
    "The Edge TPU does not have this operator.",
    "Compute it after the model's output, or use operators that the Edge TPU has.",
)
def _unsupported(site: Site) -> bool:
    return site.operator.custom or site.operator.name not in SUPPORTED


@_rule(
    "Only int8 and uint8 may flow through an operator.",
    "Quantize the model in full, with integer inputs and outputs.",
)
def _other_type(site: Site) -> bool:
    return any(tensor.type not in ("INT8", "UINT8") for tensor in site.activations)


@_rule(
    "Parameters outside the flatbuffer are no constants to the compiler.",
    "Write the weights into the flatbuffer; --fix does.",
)
def _external_buffer(site: Site) -> bool:
    return any(tensor.external for tensor in site.inputs)


@_rule(
    "Weights, shapes and other parameters must be constants.",
    "Compute them before export: give Flatten and Reshape a fixed batch of 1.",
)
def _computed_parameter(site: Site) -> bool:
    if site.operator.name in _ALL_INPUTS_FLOW:
        return False
    flowing = {"SPLIT": 1, "TRANSPOSE_CONV": 2}.get(site.operator.name, 0)
    parameters = [
        site.subgraph.tensors[index]
        for position, index in enumerate(site.operator.inputs)
        if position != flowing and index >= 0
    ]
    return any(tensor.data is None and not tensor.variable for tensor in parameters)


@_rule(
    "Only the three innermost dimensions may be above 1; the batch is 1.",
    "Export with a batch of 1, and keep everything else in the last three dimensions.",
)
def _high_rank(site: Site) -> bool:
    return any(math.prod(tensor.shape[:-3]) > 1 for tensor in site.activations)


@_rule(
    "This operator has no fused activation on the Edge TPU.",
    "Move the activation into the operator before it.",
    "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
    "CONCATENATION",
)
def _fused_activation(site: Site) -> bool:
    return bool(site.option("fusedActivationFunction", 0))


@_rule(
    "Inputs and output must have the same scale and zero point.",
    "Give both the same quantization; --fix does where that changes no integer.",
    *SAME_GRID,
)
def _unequal_grids(site: Site) -> bool:
    quantized = [tensor.grid for tensor in site.inputs + site.outputs if len(tensor.scale)]
    return any(grid != quantized[0] for grid in quantized)


@_rule(
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


@_rule(
    "A concatenation of tensors of rank 3 was never mapped above 300,000 elements.",
    "Concatenate along the depth of an image, or give the parts as outputs of their own.",
    "CONCATENATION",
)
def _concatenation_too_large(site: Site) -> bool:
    return len(site.outputs[0].shape) == 3 and site.outputs[0].size > _CONCATENATION_FAILS


@_rule(
    "A concatenation of tensors of rank 3 maps up to a size that is not known.",
    "Concatenate along the depth of an image, or compile it to know.",
    "CONCATENATION",
    verdict=Verdict.UNKNOWN_SIZE,
)
def _concatenation_unknown(site: Site) -> bool:
    return len(site.outputs[0].shape) == 3


@_rule(
    "Dilation must be the same along height and width.",
    "Use equal dilation rates.",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
)
def _unequal_dilation(site: Site) -> bool:
    return site.option("dilationHFactor", 1) != site.option("dilationWFactor", 1)


@_rule(
    "The compiler rejects grouped convolutions.",
    "Split a grouped convolution into one for each group.",
    "CONV_2D",
    verdict=Verdict.REJECTED,
)
def _grouped(site: Site) -> bool:
    source, kernel = site.inputs[:2]
    return source.shape[-1:] != kernel.shape[-1:]


@_rule(
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


@_rule(
    "Dense weights must be in the default format.",
    "Convert the model without shuffled weights.",
    "FULLY_CONNECTED",
)
def _shuffled_weights(site: Site) -> bool:
    return bool(site.option("weightsFormat", 0))


@_rule(
    "The output of a dense layer must be one-dimensional.",
    "Flatten its input, or use a 1x1 convolution.",
    "FULLY_CONNECTED",
)
def _dense_rank(site: Site) -> bool:
    return any(math.prod(tensor.shape[:-1]) > 1 for tensor in site.outputs)


@_rule(
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


@_rule(
    "Padding must not be along the batch.",
    "Pad height, width or depth alone.",
    "PAD",
)
def _padded_batch(site: Site) -> bool:
    amounts = site.parameter(1)
    return amounts is None or (len(amounts) == 8 and bool(np.any(amounts[:2])))


@_rule("Packing must not be along the batch.", "Pack along another axis.", "PACK")
def _packed_batch(site: Site) -> bool:
    return site.option("axis", 0) in (0, -len(site.outputs[0].shape))


@_rule(
    "PRELU must have one slope per channel.",
    "Share the slopes along height and width.",
    "PRELU",
)
def _prelu_slopes(site: Site) -> bool:
    return math.prod(site.inputs[-1].shape[:-1]) > 1


@_rule(
    "Softmax must be one-dimensional, of at most 16,000 elements.",
    "Give the logits as output and compute the softmax on the CPU.",
    "SOFTMAX",
)
def _softmax_shape(site: Site) -> bool:
    shape = site.outputs[0].shape
    return math.prod(shape[:-1]) > 1 or math.prod(shape) > _SOFTMAX_LONGEST


@_rule(
    "The output's scale must be 1/256, its zero point the lowest code.",
    "Give it that quantization.",
    "SOFTMAX",
    "LOGISTIC",
)
def _probability_grid(site: Site) -> bool:
    lowest = -128 if site.outputs[0].type == "INT8" else 0
    return site.outputs[0].grid != ([1 / 256], [lowest])


@_rule(
    "A strided slice must have strides of 1, no ellipsis and no new axis.",
    "Slice with strides of 1, or pool.",
    "STRIDED_SLICE",
)
def _strided(site: Site) -> bool:
    strides = site.parameter(3)
    masks = site.option("ellipsisMask", 0) or site.option("newAxisMask", 0)
    return bool(masks) or strides is None or bool(np.any(strides != 1))


@_rule(
    "A reshape was seen mapped up to 2,304 elements only.",
    "Make it smaller, or compile it to know.",
    "RESHAPE",
    verdict=Verdict.UNKNOWN_SIZE,
)
def _reshape_unknown(site: Site) -> bool:
    return site.outputs[0].size > _RESHAPE_MAPS


@_rule(
    "A transpose of 230,400 elements was not mapped.",
    "Choose a layout that needs no transpose.",
    "TRANSPOSE",
)
def _transpose_too_large(site: Site) -> bool:
    return site.outputs[0].size >= _TRANSPOSE_FAILS


@_rule(
    "A transpose was seen mapped up to 57,600 elements, and not of 230,400.",
    "Make it smaller, or compile it to know.",
    "TRANSPOSE",
    verdict=Verdict.UNKNOWN_SIZE,
)
def _transpose_unknown(site: Site) -> bool:
    return site.outputs[0].size > _TRANSPOSE_MAPS


@_rule(
    "Resizing from 1x1 to 33x33, or to 513x513, was not mapped.",
    "Resize by 2 at a time, use TILE from 1x1, or resize after the model's output.",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
)
def _resize_too_large(site: Site) -> bool:
    ratio, pixels = _resize(site)
    return pixels >= _RESIZE_FAILS or ratio >= 33


@_rule(
    "Resizing was seen mapped by factors of 1 and 2 up to 55,296 elements only.",
    "Resize by 2 at a time, or compile it to know.",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    verdict=Verdict.UNKNOWN_SIZE,
)
def _resize_unknown(site: Site) -> bool:
    ratio, _ = _resize(site)
    return ratio not in (1, 2) or site.outputs[0].size > _RESIZE_MAPS


def _resize(site: Site) -> tuple[float, int]:
    """The larger factor of height and width, and the pixels of the output."""
    before, after = (tensor.shape[1:3] for tensor in (site.inputs[0], site.outputs[0]))
    ratios = [new / max(old, 1) for old, new in zip(before, after, strict=False)]
    return max(ratios, default=math.inf), math.prod(after)


@_rule(
    "Versions 4 and 5 of CONV_2D are parsed, but were not seen mapped.",
    "Write version 3; --fix does where nothing newer is used.",
    "CONV_2D",
    verdict=Verdict.UNKNOWN_VERSION,
)
def _unseen_version(site: Site) -> bool:
    return site.version > MAPPED_VERSIONS["CONV_2D"]
