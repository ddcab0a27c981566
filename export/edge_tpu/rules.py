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

from export.flatbuffer.reader import Operator, Subgraph, Tensor


class Verdict(enum.Enum):
    """What becomes of an operator."""

    TPU = "on TPU"
    CPU_FROM_HERE = "on CPU from here"
    CPU = "on CPU"
    UNKNOWN_SIZE = "unknown (size)"
    UNKNOWN_VERSION = "unknown (version)"
    UNUSED = "unused"
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
        """The values of a constant integer input by its position, flat, or None.

        None too where there are more values than any operator takes as a parameter.
        """
        tensor = self.subgraph.tensors[self.operator.inputs[position]]
        if tensor.data is None or tensor.type not in ("INT32", "INT64"):
            return None
        if tensor.size > _MOST_VALUES:
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


# In the order in which they are asked; `export.edge_tpu.operator_rules` adds to them.
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
_ALL_INPUTS_FLOW = frozenset(
    "ADD SUB MUL MAXIMUM MINIMUM SQUARED_DIFFERENCE CONCATENATION PACK".split()
)
_SUB_BYTE = ("INT4", "UINT4", "INT2")
_HIGHEST_BUILTIN_CODE = 145
_MOST_VALUES = 64
_ACTIVATION_BYTES = 128 * 2**20


def rule(
    sentence: str, fix: str, *operators: str, verdict: Verdict = Verdict.CPU
) -> Callable[[Callable[[Site], bool]], Callable[[Site], bool]]:
    """Makes a rule of a function and adds it to the table."""

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


@rule(
    "A batch that is computed (SHAPE, STRIDED_SLICE, PACK) makes the compiler refuse the file.",
    "Convert the model with a fixed batch of 1.",
    "SHAPE",
    verdict=Verdict.REJECTED,
)
def _computed_batch(site: Site) -> bool:
    return True


@rule(
    "Height, width and depth must be known to the compiler.",
    "Convert the model with a fixed size of its input.",
    verdict=Verdict.REJECTED,
)
def _unknown_size(site: Site) -> bool:
    return any(-1 in (tensor.signature or ())[1:] for tensor in site.activations)


@rule(
    "The compiler rejects grouped convolutions.",
    "Split a grouped convolution into one for each group, as export.to_tflite does.",
    "CONV_2D",
    verdict=Verdict.REJECTED,
)
def _grouped(site: Site) -> bool:
    source, kernel = site.inputs[:2]
    return source.shape[-1:] != kernel.shape[-1:]


@rule(
    "Version 4 of TRANSPOSE_CONV fuses an activation, which older parsers leave out silently.",
    "Write the activation as an operator of its own, behind version 3.",
    "TRANSPOSE_CONV",
    verdict=Verdict.REJECTED,
)
def _fused_transposed(site: Site) -> bool:
    return bool(site.option("fusedActivationFunction", 0))


@rule(
    "The compiler parses builtin operators up to code 145.",
    "Replace the operator by older ones.",
    verdict=Verdict.REJECTED,
)
def _newer_builtin(site: Site) -> bool:
    return site.operator.code > _HIGHEST_BUILTIN_CODE


@rule(
    "The compiler parses older versions of this operator only.",
    "Write the version that int8 needs; --fix does where nothing newer is used.",
    *_PARSED_VERSIONS,
    verdict=Verdict.REJECTED,
)
def _newer_version(site: Site) -> bool:
    return site.version > _PARSED_VERSIONS[site.operator.name]


@rule(
    "Tensors of fewer than 8 bits are expected to be rejected.",
    "Export int8 weights for the Edge TPU; packed int4 and int2 are for LiteRT on CPUs.",
    verdict=Verdict.REJECTED,
)
def _sub_byte(site: Site) -> bool:
    return any(tensor.type in _SUB_BYTE for tensor in site.inputs + site.outputs)


@rule(
    "The Edge TPU does not have this operator.",
    "Compute it after the model's output, or use operators that the Edge TPU has.",
)
def _unsupported(site: Site) -> bool:
    return site.operator.custom or site.operator.name not in SUPPORTED


@rule(
    "Only int8 and uint8 may flow through an operator.",
    "Quantize the model in full, with integer inputs and outputs.",
)
def _other_type(site: Site) -> bool:
    return any(tensor.type not in ("INT8", "UINT8") for tensor in site.activations)


@rule(
    "Activations of more than 128 MiB failed to compile in users' reports.",
    "Use smaller images, or compile it to know.",
    verdict=Verdict.UNKNOWN_SIZE,
)
def _large_activations(site: Site) -> bool:
    return sum(tensor.size for tensor in site.activations) > _ACTIVATION_BYTES


@rule(
    "Parameters outside the flatbuffer are no constants to the compiler.",
    "Write the weights into the flatbuffer; --fix does.",
)
def _external_buffer(site: Site) -> bool:
    return any(tensor.external for tensor in site.inputs)


@rule(
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


@rule(
    "Only the three innermost dimensions may be above 1; the batch is 1.",
    "Export with a batch of 1, and keep everything else in the last three dimensions.",
)
def _high_rank(site: Site) -> bool:
    return any(math.prod(tensor.shape[:-3]) > 1 for tensor in site.activations)
