"""Which kernel set runs an operator: XNNPACK's limits, ours and those of the Interpreter."""

import numpy as np
import pytest

from export.flatbuffer import writer
from export.ir.graph import IntegerGraph
from export.ir.operators import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
    Logistic,
    Multiply,
    Pool2D,
    Softmax,
    Subtract,
    TransposeConv2D,
)
from export.ir.tensors import Tensor
from export.kernel_sets import rules
from export.runtime import runner
from wrpn_tf import QuantizationParameters

int8 = QuantizationParameters.int8


def below(value):
    return float(np.nextafter(np.float32(value), np.float32(0)))


def binary(operator, one, other, output=1.0):
    """A graph of one operator on tensors of these scales."""
    scales = {"a": one, "b": other, "output": output}
    return IntegerGraph(
        tensors={
            name: Tensor(shape=(1, 2, 2, 16), quantization=int8(scale=scale, zero_point=0))
            for name, scale in scales.items()
        },
        operators=[operator(inputs=("a", "b"), output="output")],
        inputs=("a", "b"),
        outputs=("output",),
    )


def runs_on(graph, asked="xnnpack"):
    return rules.effective_kernel_set(graph, graph.operators[0], asked)


SUMS = [  # Each input scale in output scales: at least 2 ** -10, below 2 ** 8.
    (1.0, True),
    (2.0**-10, True),
    (below(2.0**-10), False),
    (below(2.0**8), True),
    (2.0**8, False),
]
PRODUCTS = [  # The product of the input scales: at least 2 ** -16, below 2 ** 8.
    (2.0**-8, 2.0**-8, True),
    (below(2.0**-8), 2.0**-8, False),
    (2.0**-8, below(2.0**-8), False),
    (2.0**-17, 2.0, True),
    (16.0, below(16.0), True),
    (16.0, 16.0, False),
]


@pytest.mark.parametrize(("scale", "taken"), SUMS)
@pytest.mark.parametrize("operator", [Add, Subtract])
def test_sums_within_their_scales(operator, scale, taken):
    for one, other, output in ((scale, 1.0, 1.0), (1.0, scale, 1.0), (2 * scale, 2.0, 2.0)):
        graph = binary(operator, one, other, output)
        assert runs_on(graph) == ("xnnpack" if taken else "optimized")
        assert runs_on(graph, "xnnpack_arm") == ("xnnpack" if taken else "optimized_arm")


@pytest.mark.parametrize(("one", "other", "taken"), PRODUCTS)
def test_products_within_their_scales(one, other, taken):
    for graph in (binary(Multiply, one, other), binary(Multiply, one, 2 * other, 2.0)):
        assert runs_on(graph) == ("xnnpack" if taken else "optimized")
        # Fixed point there, so that it stays a set of its own.
        assert runs_on(graph, "xnnpack_arm") == ("xnnpack_arm" if taken else "optimized_arm")


@pytest.mark.parametrize(
    "graph",
    [
        *(binary(kind, s, 1.0) for kind in (Add, Subtract) for s in (2.0**-10, below(2.0**-10))),
        *(binary(Multiply, s, 2.0**-8) for s in (2.0**-8, below(2.0**-8))),
        *(binary(Multiply, 0.5, s) for s in (1.0, 2.0**-15, below(2.0**-15))),
    ],
    ids=lambda graph: (
        f"{type(graph.operators[0]).__name__} {graph.tensors['a'].quantization.scale}"
    ),
)
def test_the_interpreter_has_the_same_lower_limits(graph):
    """The upper ones cannot be written: the built-in kernels have lower limits of their own."""
    delegated = runner.delegated_operators(writer.to_flatbuffer(graph))
    assert delegated == (runs_on(graph) == "xnnpack")


def weighted(operator, shape, output, *, taps=4, **fields):
    """A graph of one operator with a kernel of this shape."""
    channels = shape[3] if operator is DepthwiseConv2D else shape[0]
    quantization = int8(scale=1.0, zero_point=0)
    source = (1, 3, 3, taps) if len(shape) == 4 else (1, taps)
    return IntegerGraph(
        tensors={
            "input": Tensor(shape=source, quantization=quantization),
            "output": Tensor(shape=output, quantization=quantization),
        },
        operators=[
            operator(
                inputs=("input",),
                output="output",
                kernel=np.ones(shape, np.int8),
                kernel_scale=np.linspace(0.01, 0.02, channels, dtype=np.float32),
                bias=np.zeros(channels, np.int32),
                **fields,
            )
        ],
        inputs=("input",),
        outputs=("output",),
    )


@pytest.mark.parametrize(
    ("window", "strides", "padding", "taken"),
    [
        ((2, 2), (2, 2), "SAME", True),
        ((2, 2), (3, 2), "SAME", False),
        ((2, 2), (2, 3), "SAME", False),
        ((3, 2), (3, 2), "SAME", True),
        ((3, 2), (2, 3), "SAME", False),
        ((2, 2), (3, 3), "VALID", True),
        ((1, 1), (1, 2), "VALID", True),
    ],
)
def test_transposed_convolutions_with_gaps_and_same_padding_are_left(
    window, strides, padding, taken
):
    size = [
        3 * s if padding == "SAME" else 2 * s + max(s, w)
        for s, w in zip(strides, window, strict=True)
    ]
    graph = weighted(
        TransposeConv2D, (5, *window, 4), (1, *size, 5), strides=strides, padding=padding
    )
    assert runs_on(graph) == ("xnnpack" if taken else "optimized")
    assert runner.delegated_operators(writer.to_flatbuffer(graph)) == taken


@pytest.mark.parametrize(
    ("operator", "shape", "dtype_bits", "taken"),
    [
        (Conv2D, (6, 3, 3, 4), 8, True),
        (Conv2D, (6, 3, 3, 4), 4, False),
        (GroupedConv2D, (6, 3, 3, 2), 8, True),
        (DepthwiseConv2D, (1, 3, 3, 4), 8, True),
        (DepthwiseConv2D, (1, 3, 3, 4), 4, False),
        (FullyConnected, (6, 3), 8, True),
        (FullyConnected, (6, 4), 4, True),
        (FullyConnected, (6, 3), 4, False),  # Rows of a byte and a half.
        (FullyConnected, (6, 4), 2, True),
        (FullyConnected, (6, 6), 2, False),
    ],
)
def test_of_narrow_kernels_only_dense_ones_of_whole_bytes_are_taken(
    operator, shape, dtype_bits, taken
):
    dense = operator is FullyConnected
    channels = 4 if operator is DepthwiseConv2D else 6
    output = (1, 6) if dense else (1, 1, 1, channels)
    graph = weighted(operator, shape, output, taps=shape[1] if dense else 4, dtype_bits=dtype_bits)
    assert runs_on(graph) == ("xnnpack" if taken else "optimized")
    assert runner.delegated_operators(writer.to_flatbuffer(graph)) == taken


def unary(operator, quantization, **fields):
    tensor = Tensor(shape=(1, 2, 2, 4), quantization=quantization)
    return IntegerGraph(
        tensors={"input": tensor, "output": tensor},
        operators=[operator(inputs=("input",), output="output", **fields)],
        inputs=("input",),
        outputs=("output",),
    )


def test_average_pools_and_softmax_are_left():
    quantization = int8(scale=1 / 256, zero_point=-128)
    pool = {"window": (1, 1), "strides": (1, 1)}
    taken = {
        "max": unary(Pool2D, quantization, kind="max", **pool),
        "average": unary(Pool2D, quantization, kind="average", **pool),
        "softmax": unary(Softmax, quantization),
        "logistic": unary(Logistic, quantization),
    }
    expected = {"max": "xnnpack", "average": "optimized", "softmax": "optimized"}
    assert {name: runs_on(graph) for name, graph in taken.items()} == expected | {
        "logistic": "xnnpack"
    }
    for name, graph in taken.items():
        delegated = runner.delegated_operators(writer.to_flatbuffer(graph))
        assert delegated == (runs_on(graph) == "xnnpack"), name


def test_other_kernel_sets_run_everything():
    graph = binary(Add, below(2.0**-10), 1.0)
    for name in ("optimized", "optimized_arm", "reference", "reference_2_14"):
        assert runs_on(graph, name) == name
