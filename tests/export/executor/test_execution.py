"""The NumPy executor against the Interpreter: equal integers, for all three kernel sets."""

from __future__ import annotations

import numpy as np
import pytest
import random_graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from export.executor import execution
from export.flatbuffer import editing, writer
from export.ir.graph import IntegerGraph
from export.ir.operators import PROBABILITIES, Add, FullyConnected, Multiply, Softmax
from export.ir.tensors import Tensor
from export.kernel_sets import addition, rules
from export.runtime import runner
from export.runtime.isolation import Isolated
from wrpn_tf import QuantizationParameters

int8 = QuantizationParameters.int8
SEEDS = st.integers(0, 2**32 - 1)


def assert_equal(graph: IntegerGraph, inputs: dict[str, np.ndarray], name: str) -> None:
    """Every tensor of the executor equals the Interpreter's; shows the first that do not."""
    ours = execution.execute(graph, inputs, name)
    exposed = editing.expose_tensors(writer.to_flatbuffer(graph))
    found = runner.run(exposed, inputs, name)
    theirs = {tensor: found[tensor] for tensor in graph.tensors}
    assert set(ours) == set(theirs)
    for tensor, codes in theirs.items():
        wrong = np.argwhere(ours[tensor] != codes)
        first = [
            (tuple(map(int, at)), int(ours[tensor][tuple(at)]), int(codes[tuple(at)]))
            for at in wrong[:5]
        ]
        assert not len(wrong), (
            f"{tensor} under {name}: {len(wrong)} of {codes.size} differ; "
            f"(index, executor, interpreter): {first}"
        )


def inputs_for(graph: IntegerGraph, batch: int, seed: int) -> dict[str, np.ndarray]:
    draw = random_graphs.Draw(seed)
    return {name: draw.codes((batch, *graph.tensors[name].shape[1:])) for name in graph.inputs}


@pytest.mark.parametrize("name", rules.KERNEL_SETS)
@pytest.mark.parametrize("kind", random_graphs.KINDS)
@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_operator_equals_interpreter(kind, name, seed):
    graph = random_graphs.one_operator(kind, seed)
    assert_equal(graph, inputs_for(graph, 5, seed), name)


@pytest.mark.parametrize("name", rules.KERNEL_SETS)
@settings(max_examples=8, deadline=None)
@given(SEEDS)
def test_network_equals_interpreter(name, seed):
    graph = random_graphs.network(seed)
    assert_equal(graph, inputs_for(graph, 3, seed), name)


@pytest.mark.parametrize("name", rules.KERNEL_SETS)
@settings(max_examples=4, deadline=None)
@given(SEEDS)
def test_add_equals_interpreter_on_every_pair(name, seed):
    draw = random_graphs.Draw(seed)
    axis = np.arange(-128, 128, dtype=np.int8)
    left, right = (codes.reshape(1, -1) for codes in np.meshgrid(axis, axis))
    graph = IntegerGraph(
        tensors={
            key: Tensor(shape=left.shape, quantization=draw.quantization())
            for key in ("a", "b", "sum")
        },
        operators=[Add(inputs=("a", "b"), output="sum", relu=draw.one(True, False))],
        inputs=("a", "b"),
        outputs=("sum",),
    )
    assert_equal(graph, {"a": left, "b": right}, name)


@pytest.mark.parametrize("name", rules.KERNEL_SETS)
@pytest.mark.parametrize(
    "zero_points", [(-128, -128, 127), (127, -128, -128), (79, -107, -83), (0, 0, 0)]
)
def test_large_products_equal_the_interpreters_on_every_pair(name, zero_points):
    """Up to 255 * 255 steps of .93 each, which 16 bits do not hold."""
    axis = np.arange(-128, 128, dtype=np.int8)
    pairs = [np.resize(codes, (1, 65_536 + 5)) for codes in np.meshgrid(axis, axis)]
    names, scales = ("a", "b", "product"), (0.93, 1.0, 1.0)
    graph = IntegerGraph(
        tensors={
            key: Tensor(
                shape=pairs[0].shape,
                quantization=int8(scale=random_graphs.float32(scale), zero_point=zero_point),
            )
            for key, scale, zero_point in zip(names, scales, zero_points, strict=True)
        },
        operators=[Multiply(inputs=("a", "b"), output="product")],
        inputs=("a", "b"),
        outputs=("product",),
    )
    assert_equal(graph, dict(zip(names[:2], pairs, strict=True)), name)


@pytest.mark.parametrize("name", rules.KERNEL_SETS)
@pytest.mark.parametrize(
    ("shape", "other"),
    [
        ((1, 2, 3, 37), (1, 1, 1, 37)),
        ((1, 2, 3, 15), (1, 1, 1, 15)),
        ((1, 5, 7, 1), (1, 1, 1, 1)),
        ((1, 1, 1, 7), (1, 1, 1, 7)),
        ((1, 3, 2, 19), (1, 3, 2, 1)),
        ((1, 3, 2, 19), (1, 1, 2, 1)),
        ((1, 3, 2, 19), (1, 1, 1, 1)),
        ((1, 3, 5, 5), (1, 1, 5, 5)),
        ((1, 3, 5, 9), (1, 3, 1, 9)),
        ((1, 3, 21, 1), (1, 3, 1, 1)),
        ((1, 21), (1, 1)),
    ],
)
def test_gates_of_large_products_equal_the_interpreters(name, shape, other):
    """At each of these shapes the optimized kernel has other ends of its vectors."""
    grids = {"a": (0.93, -128), "b": (1.0, -128), "product": (1.0, 127)}
    shapes = {"b": other}
    graph = IntegerGraph(
        tensors={
            key: Tensor(
                shape=shapes.get(key, shape),
                quantization=int8(scale=random_graphs.float32(scale), zero_point=zero_point),
            )
            for key, (scale, zero_point) in grids.items()
        },
        operators=[Multiply(inputs=("a", "b"), output="product")],
        inputs=("a", "b"),
        outputs=("product",),
    )
    ends = np.random.default_rng(0).choice(np.int8([-128, 127]), (5, *shape[1:]), p=(0.2, 0.8))
    gate = ends[tuple(slice(None, size if index else None) for index, size in enumerate(other))]
    assert_equal(graph, {"a": ends, "b": gate}, name)


def test_optimized_add_rounds_its_last_elements_as_the_reference_does():
    ends = {
        "a": int8(scale=0.25, zero_point=126),
        "b": int8(scale=random_graphs.float32(1 / 15), zero_point=0),
        "sum": int8(scale=1.0, zero_point=0),
    }
    axis = np.arange(-128, 128, dtype=np.int8)
    pairs = [codes.reshape(-1) for codes in np.meshgrid(axis, axis)]
    operator = Add(inputs=("a", "b"), output="sum")
    ordered = (ends["a"], ends["b"], ends["sum"])
    vector, scalar = (
        addition.add_codes(operator, *pairs, ordered, name) for name in ("optimized", "reference")
    )
    differing = np.flatnonzero(vector != scalar)
    assert differing.size
    picked = [np.resize(codes[differing], 23) for codes in pairs]
    graph = IntegerGraph(
        tensors={name: Tensor(shape=(1, 23), quantization=each) for name, each in ends.items()},
        operators=[operator],
        inputs=("a", "b"),
        outputs=("sum",),
    )
    inputs = {"a": picked[0][None], "b": picked[1][None]}
    assert_equal(graph, inputs, "optimized")


@pytest.mark.parametrize("classes", [511, 512])
def test_reference_softmax_of_512_equal_scores_ends_the_process(classes):
    shapes = {"scores": int8(scale=0.5, zero_point=0), "output": PROBABILITIES}
    graph = IntegerGraph(
        tensors={
            name: Tensor(shape=(1, classes), quantization=each) for name, each in shapes.items()
        },
        operators=[Softmax(inputs=("scores",), output="output")],
        inputs=("scores",),
        outputs=("output",),
    )
    inputs = {"scores": np.zeros((1, classes), np.int8)}
    assert_equal(graph, inputs, "xnnpack")
    with Isolated(runner.Runner, writer.to_flatbuffer(graph), "reference") as run:
        if classes == 511:
            codes = execution.execute(graph, inputs, "reference")["output"]
            assert np.array_equal(run(inputs)["output"], codes)
        else:
            with pytest.raises(ValueError, match="add up to 512 or more"):
                execution.execute(graph, inputs, "reference")
            with pytest.raises(ValueError, match="SIGABRT"):
                run(inputs)


def test_batch_is_sliced_without_a_trace(monkeypatch):
    graph = random_graphs.network(3)
    inputs = inputs_for(graph, 7, 3)
    for name in ("xnnpack", "reference"):
        whole = execution.execute(graph, inputs, name)
        monkeypatch.setattr(execution, "_SLICE_BYTES", 1)
        parts = execution.execute(graph, inputs, name)
        monkeypatch.undo()
        for tensor, codes in whole.items():
            assert np.array_equal(codes, parts[tensor])


@pytest.mark.parametrize("taps", [3, 3000])  # exact in float32, only in float64
def test_accumulators_are_exact_integers(taps):
    draw = random_graphs.Draw(taps)
    kernel = draw.codes((4, taps)).clip(-127, 127)
    graph = IntegerGraph(
        tensors={
            "x": Tensor(shape=(1, taps), quantization=int8(scale=1.0, zero_point=-128)),
            "y": Tensor(shape=(1, 4), quantization=int8(scale=1.0, zero_point=0)),
        },
        operators=[
            FullyConnected(
                inputs=("x",),
                output="y",
                kernel=kernel,
                kernel_scale=np.full(4, 1e-6, np.float32),
                bias=np.array([0, 1, -1, 2**20], np.int32),
            )
        ],
        inputs=("x",),
        outputs=("y",),
    )
    codes = draw.codes((6, taps))
    operator = graph.operators[0]
    expected = (codes.astype(object) + 128) @ kernel.T.astype(object) + operator.bias.astype(object)
    assert np.array_equal(execution.accumulate(graph, operator, codes), expected.astype(np.int64))


def test_wrong_inputs_are_refused():
    graph = random_graphs.one_operator("softmax", 0)
    shape = graph.tensors["input"].shape
    for inputs, message in (
        ({}, "inputs are"),
        ({"input": np.zeros(shape, np.uint8)}, "uint8"),
        ({"input": np.zeros((1, 99), np.int8)}, "99"),
    ):
        with pytest.raises(ValueError, match=message):
            execution.execute(graph, inputs)
    with pytest.raises(ValueError, match="kernels must be"):
        execution.execute(graph, {"input": np.zeros(shape, np.int8)}, "gpu")
