"""Saving, loading and validating integer graphs."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import random_graphs
from hypothesis import given, settings
from hypothesis import strategies as st

import export
from export.executor.execution import execute
from export.ir.graph import IntegerGraph
from export.ir.operators import Add, Conv2D, Softmax
from export.ir.provenance import SplitConvolution
from export.ir.saving import load, save
from export.ir.tensors import Tensor
from export.ir.validation import validate
from wrpn_tf import QuantizationParameters

int8 = QuantizationParameters.int8
QUANTIZATION = int8(scale=0.5, zero_point=3)


def assert_same(left: IntegerGraph, right: IntegerGraph) -> None:
    for name in ("tensors", "inputs", "outputs", "metadata", "provenance"):
        assert getattr(left, name) == getattr(right, name)
    assert len(left.operators) == len(right.operators)
    for one, other in zip(left.operators, right.operators, strict=True):
        assert type(one) is type(other)
        for field in dataclasses.fields(one):
            ours, theirs = getattr(one, field.name), getattr(other, field.name)
            if isinstance(ours, np.ndarray):
                assert ours.dtype == theirs.dtype
                assert np.array_equal(ours, theirs)
            else:
                assert ours == theirs
                assert type(ours) is type(theirs)


@pytest.mark.parametrize("kind", random_graphs.KINDS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_round_trip_is_exact(tmp_path_factory, kind, seed):
    path = tmp_path_factory.mktemp("graph") / "graph.npz"
    graph = random_graphs.one_operator(kind, seed)
    save(graph, path)
    assert_same(graph, load(path))


def test_network_round_trips_and_replaces_the_file(tmp_path):
    path = tmp_path / "graph"
    for seed in (0, 1):
        graph = random_graphs.network(seed)
        save(graph, path)
        assert_same(graph, load(path))
    assert os.listdir(tmp_path) == ["graph"]


def test_broken_graph_leaves_the_old_file(tmp_path):
    path = tmp_path / "graph.npz"
    graph = random_graphs.network(0)
    save(graph, path)
    unwritable = dataclasses.replace(graph, metadata={"name": object()})
    with pytest.raises(TypeError):
        save(unwritable, path)
    assert_same(graph, load(path))
    assert os.listdir(tmp_path) == ["graph.npz"]


def test_other_files_are_refused_in_one_sentence(tmp_path):
    path = tmp_path / "graph.npz"
    save(random_graphs.network(0), path)
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", kernel=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    contents = {
        "empty": b"",
        "text": b"not a graph",
        "truncated": whole[: len(whole) // 2],
        "damaged": whole[:200] + bytes(100) + whole[300:],
        "npz": (tmp_path / "other.npz").read_bytes(),
        "npy": (tmp_path / "array.npy").read_bytes(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is not a saved integer graph") as error:
            load(tmp_path / name)
        assert "export.tflite writes with --graph=model.npz" in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")


def test_other_format_versions_are_named(tmp_path, monkeypatch):
    path = tmp_path / "graph.npz"
    monkeypatch.setattr("export.ir.saving.FORMAT_VERSION", 7)
    save(random_graphs.network(0), path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format 7"):
        load(path)


@pytest.mark.parametrize("name", ["version1.npz", "version1.wrpn"])
def test_files_of_version_1_are_read(name, tmp_path):
    """Made by the code of commit d8e0354 of a network with groups, for transport in the second."""
    graph = load(Path(__file__).parent / name)
    image, logits = (np.array(graph.metadata.pop(key), np.int8) for key in ("image", "logits"))
    assert graph.metadata == {
        "name": "small",
        "description": "made by the code of d8e0354",
        "normalization": {"image": {"mean": [127.0], "std": [127.49999245978005]}},
    }
    assert logits.tolist() == [[-124, -100, 109], [-126, -111, 99]]
    assert np.array_equal(execute(graph, {"image": image})["logits"], logits)

    image, relu, logits = (
        QuantizationParameters(scale=scale, low=low, high=high, bits=bits)
        for scale, low, high, bits in (
            (0.007843137718737125, -127, 128, 8),
            (0.633987545967102, 0, 3, 2),
            (0.0061751785688102245, -64, 191, 8),
        )
    )
    provenance = graph.provenance
    assert len(graph.tensors) == len(provenance.quantization) == 11
    for known in (provenance.quantization, {n: t.quantization for n, t in graph.tensors.items()}):
        assert known["image"] == known["relu/group1/input"] == image
        assert known["relu"] == known["relu/group0"] == relu
        assert known["logits"] == logits
    assert provenance.layers == {
        "image": "quantize_image",
        "relu": "quant_relu",
        "depthwise": "quant_depthwise",
        "sum": "sum",
        "pool": "pool",
        "pool_flatten": "pool_flatten",
        "logits": "quant_logits",
    }
    assert provenance.inexact_channels == {
        output: {"xnnpack": xnnpack}
        | dict.fromkeys(("optimized", "optimized_arm", "reference", "reference_2_14"), others)
        for output, xnnpack, others in (("relu", 0, 1), ("depthwise", 0, 1), ("logits", 3, 3))
    }
    assert provenance.split_convolutions == {
        "relu": SplitConvolution(source="image", parts=("relu/group0", "relu/group1"))
    }
    save(graph, tmp_path / "graph.npz")
    assert_same(graph, load(tmp_path / "graph.npz"))
    if name == "version1.npz":  # Files for transport leave the training out.
        assert export.prove(graph).share(("xnnpack",), range(1, 9)) == (8, 11)


def conv(**changes) -> IntegerGraph:
    """A valid one-convolution graph, with `changes` to the operator or to the tensors."""
    fields = {
        "kernel": np.ones((2, 1, 1, 3), np.int8),
        "kernel_scale": np.full(2, 0.01, np.float32),
        "bias": np.zeros(2, np.int32),
    }
    tensors = {
        "x": Tensor(shape=(1, 4, 4, 3), quantization=QUANTIZATION),
        "y": Tensor(shape=(1, 4, 4, 2), quantization=QUANTIZATION),
    }
    for name, value in changes.items():
        (tensors if name in tensors else fields)[name] = value
    operator = Conv2D(**{"inputs": ("x",), "output": "y", **fields})
    return IntegerGraph(tensors=tensors, operators=[operator], inputs=("x",), outputs=("y",))


def tensor_of(**quantization) -> Tensor:
    known = QuantizationParameters(scale=0.5, **quantization)
    return Tensor(shape=(1, 4, 4, 3), quantization=known)


BROKEN = {
    "dtype": (conv(kernel=np.ones((2, 1, 1, 3), np.int32)), "'y'.*int32"),
    "channels": (conv(kernel=np.ones((2, 1, 1, 4), np.int8)), "'y'.*does not fit 3 channels"),
    "code -128": (conv(kernel=np.full((2, 1, 1, 3), -128, np.int8)), "'y'.*-128"),
    "scale length": (conv(kernel_scale=np.ones(3, np.float32)), "'y'.*kernel_scale"),
    "scale sign": (conv(kernel_scale=np.array([1, 0], np.float32)), "'y'.*not positive"),
    "bias dtype": (conv(bias=np.zeros(2, np.int64)), "'y'.*bias"),
    "accumulator": (conv(bias=np.full(2, 2**31 - 700, np.int32)), "'y'.*int32"),
    "multiplier": (conv(kernel_scale=np.full(2, 300, np.float32)), "'y'.*XNNPACK"),
    "padding": (conv(padding="FULL"), "'y'.*FULL"),
    "window": (conv(dilation=(0, 1)), "'y'.*at least 1"),
    "output shape": (conv(y=Tensor(shape=(1, 4, 5, 2), quantization=QUANTIZATION)), "'y'.*shape"),
    "rank": (conv(x=Tensor(shape=(1, 3), quantization=QUANTIZATION)), "'y'.*4 dimensions"),
    "batch": (conv(x=Tensor(shape=(2, 4, 4, 3), quantization=QUANTIZATION)), "'x'"),
    "grid scale": (
        conv(x=Tensor(shape=(1, 4, 4, 3), quantization=int8(scale=0.1, zero_point=0))),
        "'x'.*float32",
    ),
    "zero point": (
        conv(x=Tensor(shape=(1, 4, 4, 3), quantization=int8(scale=1.0, zero_point=128))),
        "'x'.*zero point",
    ),
    "bits": (
        conv(x=Tensor(shape=(1, 4, 4, 3), quantization=int8(scale=0.5, zero_point=3, bits=9))),
        r"'x': 9 bits are outside \[1, 8\]",
    ),
    "range": (
        conv(x=tensor_of(low=0, high=16, bits=4)),
        "'x': 17 codes from 0 to 16 are not 1 to 16, as 4 bits have",
    ),
    "no range": (conv(x=tensor_of(low=1, high=0, bits=4)), "'x': 0 codes"),
    "order": (conv(inputs=("y",)), "'y' is read before"),
    "unknown": (conv(inputs=("z",)), "'z' is not in the graph"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_graphs_are_named(case):
    graph, message = BROKEN[case]
    with pytest.raises(ValueError, match=message):
        validate(graph)


def test_sound_graphs_are_accepted():
    validate(conv())
    for low, high, bits in ((0, 15, 4), (-255, 0, 8), (0, 0, 1), (-3, 12, 4)):
        validate(conv(x=tensor_of(low=low, high=high, bits=bits)))
    for kind in random_graphs.KINDS:
        for seed in range(20):
            validate(random_graphs.one_operator(kind, seed))


@pytest.mark.parametrize("kind", ["max", "concatenate", "pad", "reshape"])
def test_one_grid_operators_need_one_grid(kind):
    graph = random_graphs.one_operator(kind, 1)
    graph.tensors["output"] = dataclasses.replace(
        graph.tensors["output"], quantization=QUANTIZATION
    )
    with pytest.raises(ValueError, match=r"'output'.*the output has scale 0\.5 and zero point 3"):
        validate(graph)


def test_softmax_and_add_name_their_limits():
    graph = random_graphs.one_operator("softmax", 0)
    graph.tensors["output"] = dataclasses.replace(
        graph.tensors["output"], quantization=QUANTIZATION
    )
    with pytest.raises(ValueError, match=r"'output'.*0\.00390625"):
        validate(graph)
    fine = int8(scale=2.0**-9, zero_point=0)
    tensors = {
        "a": Tensor(shape=(1, 2), quantization=QUANTIZATION),
        "y": Tensor(shape=(1, 2), quantization=fine),
    }
    operators = [Add(inputs=("a", "a"), output="y")]
    graph = IntegerGraph(tensors=tensors, operators=operators, inputs=("a",), outputs=("y",))
    with pytest.raises(ValueError, match=r"'y'.*16 bits"):
        validate(graph)
    graph.operators[:] = [Softmax(inputs=("a",), output="a")]
    with pytest.raises(ValueError, match=r"'a'.*written twice"):
        validate(graph)


def test_a_compressed_graph_has_the_same_integers(tmp_path):
    graph = random_graphs.network(1)
    graph.operators[0].kernel[2] = 0  # a channel without gain
    save(graph, tmp_path / "plain.npz")
    save(graph, tmp_path / "small.wrpn", compressed=True)
    plain, small = (load(tmp_path / name) for name in ("plain.npz", "small.wrpn"))
    assert_same(plain, small)


def test_compression_comes_close_to_the_entropy_of_the_codes(tmp_path):
    rng = np.random.default_rng(0)
    kernel = rng.choice(np.array([-127, 0, 127], np.int8), (64, 3, 3, 64), p=(0.05, 0.9, 0.05))
    tensors = {
        name: Tensor(shape=(1, size, size, 64), quantization=QUANTIZATION)
        for name, size in (("x", 4), ("y", 2))
    }
    graph = conv(kernel=kernel, kernel_scale=np.full(64, 1e-3, np.float32), bits=2, **tensors)
    graph.operators[0] = dataclasses.replace(graph.operators[0], bias=np.zeros(64, np.int32))
    save(graph, tmp_path / "sparse.wrpn", compressed=True)
    entropy = 0.569 * kernel.size / 8  # Bytes: -0.9 log2 0.9 - 0.1 log2 0.05 bits a code.
    assert (tmp_path / "sparse.wrpn").stat().st_size < 1.3 * entropy + 1024
