"""Every demand of the Edge TPU, at its limit: one operator just inside and one just outside."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from rich.console import Console

from export.edge_tpu import tables
from export.edge_tpu.preflight import Finding, Prediction, predict
from export.edge_tpu.rules import Verdict
from export.flatbuffer.records import Model, Operator, Subgraph, Tensor

TPU, CPU, REJECTED = Verdict.TPU, Verdict.CPU, Verdict.REJECTED
UNKNOWN_SIZE, UNKNOWN_VERSION = Verdict.UNKNOWN_SIZE, Verdict.UNKNOWN_VERSION
PROBABILITY = {"scale": [1 / 256], "zero_point": [-128]}


def flow(*shape, type="INT8", scale=(0.5,), zero_point=(3,), variable=False) -> Tensor:
    """An activation."""
    return Tensor(
        name="activation",
        type=type,
        shape=shape,
        signature=None,
        scale=np.float32(scale),
        zero_point=np.array(zero_point, np.int64),
        axis=0,
        data=None,
        external=False,
        variable=variable,
    )


def constant(*shape, values=None, type="INT8", scale=(0.5,), axis=0, external=False) -> Tensor:
    """A kernel, or other parameters."""
    width = {"INT4": 0.5, "UINT4": 0.5, "INT2": 0.25, "INT32": 4, "INT64": 8}.get(type, 1)
    content = bytes(math.ceil(math.prod(shape) * width))
    if values is not None:
        content = np.array(values, type.lower()).tobytes()
    return dataclasses.replace(
        flow(*shape, type=type, scale=scale, zero_point=[3] * len(scale)),
        name="constant",
        axis=axis,
        data=memoryview(content),
        external=external,
    )


def integers(*values, type="INT32") -> Tensor:
    """A parameter that is a list of integers."""
    return constant(len(values), values=values, type=type, scale=())


def pads(amounts: list[list[int]]) -> Tensor:
    """Amounts of padding as files have them: before and behind, for each axis."""
    return constant(len(amounts), 2, values=amounts, type="INT32", scale=())


IMAGE = (1, 4, 4, 8)
SAMPLES: dict[str, tuple[list[Tensor], list[Tensor]]] = {
    **dict.fromkeys(
        "ADD SUB MUL MAXIMUM MINIMUM SQUARED_DIFFERENCE".split(),
        ([flow(*IMAGE), flow(*IMAGE)], [flow(*IMAGE)]),
    ),
    **dict.fromkeys(
        """
        AVERAGE_POOL_2D MAX_POOL_2D L2_NORMALIZATION RELU RELU6 RELU_N1_TO_1 RSQRT TANH QUANTIZE
        SPACE_TO_DEPTH
        """.split(),
        ([flow(*IMAGE)], [flow(*IMAGE)]),
    ),
    **dict.fromkeys(
        "MEAN SUM REDUCE_MAX REDUCE_MIN".split(),
        ([flow(*IMAGE), integers(1, 2)], [flow(1, 8)]),
    ),
    **dict.fromkeys(
        "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR".split(),
        ([flow(*IMAGE), integers(8, 8)], [flow(1, 8, 8, 8)]),
    ),
    "CONCATENATION": ([flow(*IMAGE), flow(*IMAGE)], [flow(1, 4, 4, 16)]),
    "CONV_2D": ([flow(*IMAGE), constant(6, 3, 3, 8)], [flow(1, 4, 4, 6)]),
    "DEPTHWISE_CONV_2D": ([flow(*IMAGE), constant(1, 3, 3, 8)], [flow(*IMAGE)]),
    "EXPAND_DIMS": ([flow(1, 8), integers(1)], [flow(1, 1, 8)]),
    "FULLY_CONNECTED": ([flow(1, 8), constant(6, 8)], [flow(1, 6)]),
    "LOGISTIC": ([flow(*IMAGE)], [flow(*IMAGE, **PROBABILITY)]),
    "PACK": ([flow(1, 8), flow(1, 8)], [flow(1, 2, 8)]),
    "PAD": ([flow(*IMAGE), integers(0, 0, 1, 1, 1, 1, 0, 0)], [flow(1, 6, 6, 8)]),
    "PRELU": ([flow(*IMAGE), constant(1, 1, 8)], [flow(*IMAGE)]),
    "RESHAPE": ([flow(*IMAGE), integers(1, 128)], [flow(1, 128)]),
    "SLICE": ([flow(*IMAGE), integers(0, 0, 0, 0), integers(1, 2, 2, 8)], [flow(1, 2, 2, 8)]),
    "SOFTMAX": ([flow(1, 8)], [flow(1, 8, **PROBABILITY)]),
    "SPLIT": ([integers(3), flow(*IMAGE)], [flow(1, 4, 4, 4), flow(1, 4, 4, 4)]),
    "SQUEEZE": ([flow(1, 1, 8)], [flow(1, 8)]),
    "STRIDED_SLICE": (
        [flow(*IMAGE), integers(0, 0, 0, 0), integers(1, 2, 2, 8), integers(1, 1, 1, 1)],
        [flow(1, 2, 2, 8)],
    ),
    "TILE": ([flow(1, 1, 1, 8), integers(1, 4, 4, 1)], [flow(*IMAGE)]),
    "TRANSPOSE": ([flow(*IMAGE), integers(0, 2, 1, 3)], [flow(*IMAGE)]),
    "TRANSPOSE_CONV": (
        [integers(1, 8, 8, 6), constant(6, 2, 2, 8), flow(*IMAGE)],
        [flow(1, 8, 8, 6)],
    ),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (
        [flow(1, 4, 8), constant(6, 8), flow(1, 6, type="INT16", variable=True)],
        [flow(1, 4, 6)],
    ),
}


def find(name, *, inputs=None, outputs=None, version=1, code=0, left_out=0, **options) -> Finding:
    """What is found about one operator; what is not said is as in `SAMPLES`."""
    sample = SAMPLES.get(name, SAMPLES["RELU"])
    reads, writes = inputs or sample[0], outputs or sample[1]
    operator = Operator(
        code=code,
        name=name,
        version=version,
        inputs=(*range(len(reads)), *[-1] * left_out),
        outputs=tuple(range(len(reads), len(reads) + len(writes))),
        options=({"axis": 1} if name == "PACK" else {}) | options,
    )
    graph = Subgraph(
        tensors=(*reads, *writes),
        operators=(operator,),
        inputs=(),
        outputs=operator.outputs,
    )
    (finding,) = predict(Model(subgraphs=(graph,), metadata={}, content=b"")).findings
    return finding


def check(verdict: Verdict, reason: str, name: str, **changes) -> None:
    finding = find(name, **changes)
    assert finding.verdict is verdict, finding
    assert reason in finding.reason
    assert bool(finding.reason) == bool(finding.fix) == (verdict is not TPU)


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("GATHER", "Compute it after the model's output, or use operators that the Edge TPU has."),
        ("RESHAPE", "Make it smaller, or compile it to know."),
    ],
)
def test_what_to_do_is_said(name, fix):
    assert find(name, outputs=[flow(1, 2_305)]).fix == fix


def test_inputs_may_be_left_out():
    for name in ("CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"):
        check(TPU, "", name, left_out=1)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_operator_that_the_edge_tpu_has(name):
    check(TPU, "", name)


def test_no_other_is():
    others = {name for name in vars(schema.BuiltinOperator) if name.isupper()} - set(SAMPLES)
    assert {"GATHER", "DIV", "LEAKY_RELU", "HARD_SWISH", "BATCH_MATMUL"} <= others
    for name in sorted(others - {"SHAPE"}):  # Of a batch that is computed.
        check(CPU, "does not have this operator", name)


def test_custom_operators_are_on_the_cpu():
    check(CPU, "does not have this operator", "RELU", code=32)


@pytest.mark.parametrize(("code", "verdict"), [(145, TPU), (146, REJECTED)])
def test_the_newest_builtin_code(code, verdict):
    check(verdict, "code 145" if verdict is REJECTED else "", "RELU", code=code)


@pytest.mark.parametrize(
    ("name", "mapped", "parsed"),
    [
        ("CONV_2D", 3, 5),
        ("DEPTHWISE_CONV_2D", 3, 3),
        ("FULLY_CONNECTED", 4, 4),
        ("RESIZE_BILINEAR", 3, 3),
        ("RESIZE_NEAREST_NEIGHBOR", 3, 3),
        ("TRANSPOSE_CONV", 3, 3),
        *((name, 2, 2) for name in "ADD SUB MUL CONCATENATION PAD AVERAGE_POOL_2D".split()),
        *((name, 2, 2) for name in "MAX_POOL_2D MEAN SOFTMAX LOGISTIC QUANTIZE TRANSPOSE".split()),
    ],
)
def test_the_newest_version_that_is_mapped_and_parsed(name, mapped, parsed):
    check(TPU, "", name, version=mapped)
    for version in range(mapped + 1, parsed + 1):
        check(UNKNOWN_VERSION, "Versions 4 and 5", name, version=version)
    check(REJECTED, "older versions", name, version=parsed + 1)


@pytest.mark.parametrize(
    ("type", "verdict"),
    [("INT8", TPU), ("UINT8", TPU), ("INT4", REJECTED), ("UINT4", REJECTED), ("INT2", REJECTED)],
)
def test_kernels_of_fewer_than_8_bits(type, verdict):
    kernel = constant(6, 8, type=type)
    reason = "" if verdict is TPU else "fewer than 8 bits"
    check(verdict, reason, "FULLY_CONNECTED", inputs=[flow(1, 8), kernel])


@pytest.mark.parametrize("type", ["INT16", "INT32", "FLOAT32", "BOOL"])
@pytest.mark.parametrize("place", ["inputs", "outputs"])
def test_what_flows_is_int8_or_uint8(place, type):
    check(TPU, "", "RELU", **{place: [flow(*IMAGE, type="UINT8")]})
    check(CPU, "Only int8 and uint8", "RELU", **{place: [flow(*IMAGE, type=type)]})


ROWS = {
    # Parameters.
    "kernel inside": (TPU, "", "CONV_2D", {}),
    "kernel outside": (
        CPU,
        "outside the flatbuffer",
        "CONV_2D",
        {"inputs": [flow(*IMAGE), constant(6, 3, 3, 8, external=True)]},
    ),
    "computed kernel": (
        CPU,
        "must be constants",
        "CONV_2D",
        {"inputs": [flow(*IMAGE), flow(6, 1, 1, 8)]},
    ),
    "computed shape": (
        CPU,
        "must be constants",
        "RESHAPE",
        {"inputs": [flow(*IMAGE), flow(2)]},
    ),
    "computed axis of a split": (
        CPU,
        "must be constants",
        "SPLIT",
        {"inputs": [flow(1), flow(*IMAGE)]},
    ),
    "computed kernel of a transposed convolution": (
        CPU,
        "must be constants",
        "TRANSPOSE_CONV",
        {"inputs": [integers(1, 8, 8, 6), flow(1, 2, 2, 8), flow(*IMAGE)]},
    ),
    "state that is no state": (
        CPU,
        "must be constants",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        {"inputs": [flow(1, 4, 8), constant(6, 8), flow(1, 6)]},
    ),
    # Rank.
    "three dimensions": (TPU, "", "RELU", {"inputs": [flow(1, 1, 9, 9, 9)]}),
    "four dimensions": (
        CPU,
        "three innermost",
        "RELU",
        {"inputs": [flow(1, 2, 9, 9, 9)]},
    ),
    "batch of 1": (TPU, "", "ADD", {"outputs": [flow(1, 4, 4, 8)]}),
    "batch of 2": (CPU, "the batch is 1", "ADD", {"outputs": [flow(2, 4, 4, 8)]}),
    # Fused activations.
    **{
        f"{name} with an activation": (
            CPU,
            "no fused activation",
            name,
            {"fusedActivationFunction": 1},
        )
        for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D", "CONCATENATION")
    },
    **{
        f"{name} with an activation": (TPU, "", name, {"fusedActivationFunction": 1})
        for name in ("CONV_2D", "FULLY_CONNECTED", "ADD")
    },
    # One scale and zero point.
    **{
        f"{name} with {what}": (
            CPU,
            "same scale and zero point",
            name,
            {"outputs": [flow(*SAMPLES[name][1][0].shape, **grid)]},
        )
        for name in (
            "AVERAGE_POOL_2D CONCATENATION MAX_POOL_2D PAD RESHAPE RESIZE_BILINEAR "
            "RESIZE_NEAREST_NEIGHBOR SPLIT STRIDED_SLICE TRANSPOSE"
        ).split()
        for what, grid in {
            "another scale": {"scale": [float(np.nextafter(np.float32(0.5), np.float32(1)))]},
            "another zero point": {"zero_point": [4]},
        }.items()
    },
    "RELU with another scale": (TPU, "", "RELU", {"outputs": [flow(*IMAGE, scale=[0.25])]}),
    # Concatenations.
    "concatenation with zeros": (
        TPU,
        "",
        "CONCATENATION",
        {"inputs": [flow(1, 1, 1, 4), constant(1, 1, 1, 4, values=[3, 3, 3, 3])]},
    ),
    "concatenation with codes of 0": (
        CPU,
        "the constant be zero",
        "CONCATENATION",
        {"inputs": [flow(1, 1, 1, 4), constant(1, 1, 1, 4, values=[3, 3, 3, 0])]},
    ),
    "concatenation with zeros that have no scale": (
        TPU,
        "",
        "CONCATENATION",
        {"inputs": [flow(1, 1, 1, 4), constant(1, 1, 1, 4, values=[0, 0, 0, 0], scale=())]},
    ),
    "concatenation with ones that have no scale": (
        CPU,
        "the constant be zero",
        "CONCATENATION",
        {"inputs": [flow(1, 1, 1, 4), constant(1, 1, 1, 4, values=[1, 1, 1, 1], scale=())]},
    ),
    "concatenation of three with zeros": (
        CPU,
        "must have two inputs",
        "CONCATENATION",
        {"inputs": [flow(1, 1, 1, 2), flow(1, 1, 1, 2), constant(1, 1, 1, 1, values=[3])]},
    ),
    "concatenation of three": (
        TPU,
        "",
        "CONCATENATION",
        {"inputs": [flow(*IMAGE), flow(*IMAGE), flow(*IMAGE)]},
    ),
    "concatenation of rank 4": (
        TPU,
        "",
        "CONCATENATION",
        {"outputs": [flow(1, 1, 600, 501)]},
    ),
    "concatenation of rank 3": (
        UNKNOWN_SIZE,
        "up to 17,680 elements",
        "CONCATENATION",
        {"outputs": [flow(1, 600, 500)]},
    ),
    "concatenation of rank 3 and 17,680": (
        TPU,
        "",
        "CONCATENATION",
        {"outputs": [flow(1, 4_420, 4)]},
    ),
    "concatenation of rank 3 and 17,681": (
        UNKNOWN_SIZE,
        "up to 17,680 elements",
        "CONCATENATION",
        {"outputs": [flow(1, 17_681, 1)]},
    ),
    "large concatenation of rank 3": (
        CPU,
        "above 300,000",
        "CONCATENATION",
        {"outputs": [flow(1, 1, 300_001)]},
    ),
    # Convolutions.
    **{
        f"{name} with dilation {rates}": (
            CPU if rates == (2, 3) else TPU,
            "Dilation" if rates == (2, 3) else "",
            name,
            {"dilationHFactor": rates[0], "dilationWFactor": rates[1]},
        )
        for name in ("CONV_2D", "DEPTHWISE_CONV_2D")
        for rates in ((1, 1), (2, 2), (1, 2), (2, 1), (2, 3))
    },
    "grouped convolution": (
        REJECTED,
        "grouped",
        "CONV_2D",
        {"inputs": [flow(*IMAGE), constant(6, 3, 3, 4)]},
    ),
    "convolution with a bias": (
        TPU,
        "",
        "CONV_2D",
        {"inputs": [flow(*IMAGE), constant(6, 3, 3, 8), constant(6, type="INT32")]},
    ),
    # Scales per channel.
    **{
        f"{name} with scales along axis {axis}": (
            TPU if axis == right else CPU,
            "" if axis == right else "belong to the output channels",
            name,
            {
                "inputs": [
                    SAMPLES[name][0][0],
                    constant(*shape, scale=[0.5] * shape[axis], axis=axis),
                ]
            },
        )
        for name, shape, right in (
            ("CONV_2D", (6, 3, 3, 8), 0),
            ("DEPTHWISE_CONV_2D", (2, 3, 3, 8), 3),
            ("FULLY_CONNECTED", (6, 8), 0),
        )
        for axis in range(len(shape))
    },
    "one scale along any axis": (
        TPU,
        "",
        "CONV_2D",
        {"inputs": [flow(*IMAGE), constant(6, 3, 3, 8, axis=3)]},
    ),
    # Dense layers.
    "shuffled weights": (CPU, "default format", "FULLY_CONNECTED", {"weightsFormat": 1}),
    "dense layer of one vector": (TPU, "", "FULLY_CONNECTED", {"outputs": [flow(1, 1, 6)]}),
    "dense layer of two": (
        CPU,
        "one-dimensional",
        "FULLY_CONNECTED",
        {"outputs": [flow(1, 2, 6)]},
    ),
    # Means.
    **{
        f"mean of {channels} channels over {axes}": (
            verdict,
            "" if verdict is TPU else "must not be over the batch",
            "MEAN",
            {"inputs": [flow(1, 4, 4, channels), integers(*axes)]},
        )
        for channels, axes, verdict in (
            (3, (1, 2), TPU),
            (3, (-2, -3), TPU),
            (4, (3,), TPU),
            (8, (1, -1), TPU),
            (3, (3,), CPU),
            (6, (-1,), CPU),
            (4, (0,), CPU),
            (4, (1, -4), CPU),
        )
    },
    "mean of a matrix over its first axis": (
        TPU,
        "",
        "MEAN",
        {"inputs": [flow(1, 8), integers(0)], "outputs": [flow(1, 8)]},
    ),
    "mean over axes of 64 bits": (
        TPU,
        "",
        "MEAN",
        {"inputs": [flow(*IMAGE), integers(1, 2, type="INT64")]},
    ),
    "mean over axes that are not integers": (
        CPU,
        "must not be over the batch",
        "MEAN",
        {"inputs": [flow(*IMAGE), constant(2, values=[1, 2])]},
    ),
    "mean of a number": (
        CPU,
        "must not be over the batch",
        "MEAN",
        {"inputs": [flow(), integers()], "outputs": [flow()]},
    ),
    # Padding and packing.
    "padding by what is no integer": (
        CPU,
        "along the batch",
        "PAD",
        {"inputs": [flow(*IMAGE), constant(4, 2, values=[0] * 8)]},
    ),
    "padding of the depth": (
        TPU,
        "",
        "PAD",
        {"inputs": [flow(*IMAGE), integers(0, 0, 0, 0, 0, 0, 1, 1)]},
    ),
    "padding before the batch": (
        CPU,
        "along the batch",
        "PAD",
        {"inputs": [flow(*IMAGE), integers(1, 0, 0, 0, 0, 0, 0, 0)]},
    ),
    "padding behind the batch": (
        CPU,
        "along the batch",
        "PAD",
        {"inputs": [flow(*IMAGE), integers(0, 1, 0, 0, 0, 0, 0, 0)]},
    ),
    "padding of the batch as a matrix": (
        CPU,
        "along the batch",
        "PAD",
        {"inputs": [flow(*IMAGE), pads([[1, 0], [0, 0], [0, 0], [0, 0]])]},
    ),
    "padding of an image as a matrix": (
        TPU,
        "",
        "PAD",
        {"inputs": [flow(*IMAGE), pads([[0, 0], [1, 1], [1, 1], [0, 0]])]},
    ),
    "padding without a batch": (
        TPU,
        "",
        "PAD",
        {"inputs": [flow(4, 4, 8), integers(1, 1, 0, 0, 0, 0)], "outputs": [flow(6, 4, 8)]},
    ),
    **{
        f"packing along {axis}": (
            CPU if axis in (0, -3) else TPU,
            "along the batch" if axis in (0, -3) else "",
            "PACK",
            {"axis": axis},
        )
        for axis in (0, 1, 2, -1, -2, -3)
    },
    "packing along no axis that is said": (CPU, "along the batch", "PACK", {"axis": None}),
    # Slopes.
    "slopes along the width": (
        CPU,
        "one slope per channel",
        "PRELU",
        {"inputs": [flow(*IMAGE), constant(1, 2, 8)]},
    ),
    # Softmax and sigmoid.
    "softmax of 16,000": (TPU, "", "SOFTMAX", {"outputs": [flow(1, 16_000, **PROBABILITY)]}),
    "softmax of 16,001": (
        CPU,
        "at most 16,000",
        "SOFTMAX",
        {"outputs": [flow(1, 16_001, **PROBABILITY)]},
    ),
    "softmax over pairs": (TPU, "", "SOFTMAX", {"outputs": [flow(1, 4_420, 2, **PROBABILITY)]}),
    "softmax over too many pairs": (
        CPU,
        "at most 16,000",
        "SOFTMAX",
        {"outputs": [flow(1, 8_001, 2, **PROBABILITY)]},
    ),
    "softmax of two rows": (
        CPU,
        "one-dimensional",
        "SOFTMAX",
        {"outputs": [flow(1, 2, 8, **PROBABILITY)]},
    ),
    **{
        f"{name} on {scale}, {zero_point}, {type}": (
            verdict,
            "" if verdict is TPU else "1/256",
            name,
            {
                "outputs": [
                    flow(
                        *SAMPLES[name][1][0].shape,
                        type=type,
                        scale=[scale],
                        zero_point=[zero_point],
                    )
                ]
            },
        )
        for name in ("SOFTMAX", "LOGISTIC")
        for scale, zero_point, type, verdict in (
            (1 / 256, -128, "INT8", TPU),
            (1 / 256, 0, "UINT8", TPU),
            (1 / 255, -128, "INT8", CPU),
            (1 / 256, -127, "INT8", CPU),
            (1 / 256, 0, "INT8", CPU),
            (1 / 256, -128, "UINT8", CPU),
        )
    },
    # Slices.
    "slice with strides": (
        CPU,
        "strides of 1",
        "STRIDED_SLICE",
        {"inputs": [*SAMPLES["STRIDED_SLICE"][0][:3], integers(1, 2, 1, 1)]},
    ),
    "slice backwards": (
        CPU,
        "strides of 1",
        "STRIDED_SLICE",
        {"inputs": [*SAMPLES["STRIDED_SLICE"][0][:3], integers(1, -1, 1, 1)]},
    ),
    "slice with strides that are no integers": (
        CPU,
        "strides of 1",
        "STRIDED_SLICE",
        {"inputs": [*SAMPLES["STRIDED_SLICE"][0][:3], constant(4, values=[1] * 4)]},
    ),
    "slice with masks": (TPU, "", "STRIDED_SLICE", {"beginMask": 3, "endMask": 3}),
    "slice with an ellipsis": (CPU, "no ellipsis", "STRIDED_SLICE", {"ellipsisMask": 1}),
    "slice with a new axis": (CPU, "no new axis", "STRIDED_SLICE", {"newAxisMask": 1}),
    # Sizes.
    "reshape of 2,304": (TPU, "", "RESHAPE", {"outputs": [flow(1, 2_304)]}),
    "reshape of 2,305": (UNKNOWN_SIZE, "2,304", "RESHAPE", {"outputs": [flow(1, 2_305)]}),
    "reshape to rank 4": (
        TPU,
        "",
        "RESHAPE",
        {"inputs": [flow(1, 40, 40, 255)], "outputs": [flow(1, 1_600, 3, 85)]},
    ),
    "reshape to rank 4 of more": (
        UNKNOWN_SIZE,
        "408,000 to rank 4",
        "RESHAPE",
        {"inputs": [flow(1, 1, 1, 408_001)], "outputs": [flow(1, 1, 1, 408_001)]},
    ),
    "reshape from rank 4 to 3": (
        CPU,
        "from rank 4 to rank 3 was not mapped",
        "RESHAPE",
        {"inputs": [flow(1, 1_600, 3, 85)], "outputs": [flow(1, 4_800, 85)]},
    ),
    # The whole file.
    "a computed batch": (REJECTED, "A batch that is computed", "SHAPE", {}),
    "large activations": (
        UNKNOWN_SIZE,
        "128 MiB",
        "CONV_2D",
        {
            "inputs": [flow(1, 1_024, 1_024, 64), constant(64, 1, 1, 64)],
            "outputs": [flow(1, 1_024, 1_024, 65)],
        },
    ),
    "activations of 128 MiB": (
        TPU,
        "",
        "CONV_2D",
        {
            "inputs": [flow(1, 1_024, 1_024, 64), constant(64, 1, 1, 64)],
            "outputs": [flow(1, 1_024, 1_024, 64)],
        },
    ),
    "an unknown height": (
        REJECTED,
        "Height, width and depth must be known",
        "RELU",
        {"inputs": [dataclasses.replace(flow(*IMAGE), signature=(-1, -1, 4, 8))]},
    ),
    "an unknown batch": (
        TPU,
        "",
        "RELU",
        {"inputs": [dataclasses.replace(flow(*IMAGE), signature=(-1, 4, 4, 8))]},
    ),
    "a fused transposed convolution": (
        REJECTED,
        "fuses an activation",
        "TRANSPOSE_CONV",
        {"fusedActivationFunction": 1, "version": 4},
    ),
    **{
        f"transpose of {size}": (
            verdict,
            "" if verdict is TPU else "108,800",
            "TRANSPOSE",
            {"outputs": [flow(1, 1, 1, size)]},
        )
        for size, verdict in (
            (57_600, TPU),
            (57_601, UNKNOWN_SIZE),
            (108_799, UNKNOWN_SIZE),
            (108_800, CPU),
        )
    },
    **{
        f"{name} from {before} to {after}": (
            verdict,
            reason,
            name,
            {"inputs": [flow(*before), integers(*after[1:3])], "outputs": [flow(*after)]},
        )
        for name in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
        for before, after, verdict, reason in (
            ((1, 48, 48, 24), (1, 48, 48, 24), TPU, ""),
            ((1, 24, 24, 24), (1, 48, 48, 24), TPU, ""),
            ((1, 24, 48, 24), (1, 48, 48, 24), TPU, ""),
            ((1, 4, 4, 8), (1, 12, 12, 8), UNKNOWN_SIZE, "factors of 1 and 2"),
            ((1, 4, 4, 8), (1, 8, 12, 8), UNKNOWN_SIZE, "factors of 1 and 2"),
            ((1, 4, 4, 8), (1, 6, 6, 8), UNKNOWN_SIZE, "factors of 1 and 2"),
            ((1, 1, 1, 1), (1, 32, 32, 1), UNKNOWN_SIZE, "factors of 1 and 2"),
            ((1, 1, 1, 1), (1, 33, 33, 1), CPU, "1x1 to 33x33"),
            ((1, 1, 1, 1), (1, 1, 33, 1), CPU, "1x1 to 33x33"),
            ((1, 256, 256, 5), (1, 512, 512, 5), UNKNOWN_SIZE, "55,296"),
            ((1, 513, 513, 1), (1, 513, 513, 1), CPU, "513x513"),
            ((8,), (8,), CPU, "513x513"),
        )
    },
    **{
        f"{name} of {size}": (
            verdict,
            "" if verdict is TPU else "55,296 elements, nearest to 819,200",
            name,
            {"inputs": [flow(1, 1, 1, size), integers(1, 1)], "outputs": [flow(1, 1, 1, size)]},
        )
        for name, size, verdict in (
            ("RESIZE_BILINEAR", 55_296, TPU),
            ("RESIZE_BILINEAR", 55_297, UNKNOWN_SIZE),
            ("RESIZE_NEAREST_NEIGHBOR", 819_200, TPU),
            ("RESIZE_NEAREST_NEIGHBOR", 819_201, UNKNOWN_SIZE),
        )
    },
}


@pytest.mark.parametrize("row", ROWS)
def test_rule(row):
    verdict, reason, name, changes = ROWS[row]
    check(verdict, reason, name, **changes)


def test_what_the_chip_caches():
    """7.9 MiB: 8,283,750 bytes."""
    streamed = [
        Prediction(findings=(), parameter_bytes=size).streamed_bytes
        for size in (0, 8_283_750, 8_283_751, 8_283_750 + 2**20)
    ]
    assert streamed == [0, 0, 1, 2**20]


def test_what_no_output_needs_is_unused():
    """The compiler drops it, whatever it is."""
    image = flow(*IMAGE)

    def operator(name, source, output):
        return Operator(
            code=0, name=name, version=1, inputs=(source,), outputs=(output,), options={}
        )

    graph = Subgraph(
        tensors=(image, image, image, image),
        operators=(operator("RELU", 0, 1), operator("ABS", 0, 2), operator("ABS", 2, 3)),
        inputs=(0,),
        outputs=(1,),
    )
    prediction = predict(Model(subgraphs=(graph,), metadata={}, content=b""))
    assert [each.verdict for each in prediction.findings] == [TPU, Verdict.UNUSED, Verdict.UNUSED]
    assert prediction.maps
    console = Console(width=100, file=io.StringIO())
    tables.show(console, "model.tflite", prediction, None, (), every=True)
    assert "is on the TPU" not in console.file.getvalue()
    needed = dataclasses.replace(graph, outputs=(1, 3))
    assert not predict(Model(subgraphs=(needed,), metadata={}, content=b"")).maps


def test_a_file_for_ethos_u_is_refused():
    image = flow(*IMAGE)
    compiled = Operator(code=32, name="ethos-u", version=1, inputs=(0,), outputs=(1,), options={})
    graph = Subgraph(tensors=(image, image), operators=(compiled,), inputs=(0,), outputs=(1,))
    with pytest.raises(ValueError, match="this file is compiled for Arm Ethos-U"):
        predict(Model(subgraphs=(graph,), metadata={}, content=b""))
