"""Kernels in 4 and 2 bits, in .tflite files and for transport."""

import dataclasses

import numpy as np
import pytest
import random_graphs
import small_networks
from equality import assert_same

import export
from export import checks, runtime, storage, tflite_edit, tflite_file, writer
from export.graph import IntegerGraph, Weighted
from export.kernels import KERNELS


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 3, 1), (1, 1), (4, 4)])
def test_packing_inverts(bits, shape):
    largest = storage.LARGEST[bits]
    codes = np.random.default_rng(0).integers(-largest - 1, largest + 1, shape).astype(np.int8)
    assert_same(storage.unpack(storage.pack(codes, bits), bits, shape), codes)


def test_packing_is_low_bits_first():
    assert_same(storage.pack(np.array([1, -1, 3], np.int8), 4), np.array([0xF1, 0x03], np.uint8))


@pytest.mark.parametrize("weights", ["int4", "int2"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_files_equal_executor_and_int8_twin(weights, bits):
    model = small_networks.quantize(
        small_networks.network(5), 5, weight_bits=bits, activation_bits=4
    )
    graph = export.lower(model, weights=weights)
    assert {op.storage for op in graph.operators if isinstance(op, Weighted)} >= {4, 8}
    file = export.to_tflite(model, weights=weights)
    twin = writer.to_flatbuffer(storage.as_int8(graph))
    assert checks.wrong_kernels(model, graph, file) == []
    assert tflite_file.float_tensors(file) == []
    assert len(file) < len(twin)
    images = small_networks.codes(model, 8, 6)
    inputs = {graph.inputs[0]: images}
    for kernels in KERNELS:
        actual = runtime.run(tflite_edit.expose_tensors(file), inputs, kernels)
        expected = export.execute(graph, inputs, kernels)
        for name in actual:
            assert_same(actual[name], expected[name])
        if kernels != "xnnpack":  # which takes other operators of the twin than of the file
            other = runtime.run(tflite_edit.expose_tensors(twin), inputs, kernels)
            for name in actual:
                assert_same(actual[name], other[name])


def test_transport_loads_the_same_integers(tmp_path):
    graph = random_graphs.network(1)
    graph.operators[0].kernel[2] = 0  # a channel without gain
    graph.save(tmp_path / "plain.npz")
    graph.save(tmp_path / "small.wrpn", for_transport=True)
    plain, small = (IntegerGraph.load(tmp_path / name) for name in ("plain.npz", "small.wrpn"))
    for one, other in zip(plain.operators, small.operators, strict=True):
        assert type(one) is type(other)
        for field in dataclasses.fields(one):
            assert_same(getattr(other, field.name), getattr(one, field.name))
    assert (plain.tensors, plain.inputs, plain.outputs) == (
        small.tensors,
        small.inputs,
        small.outputs,
    )


def test_unknown_weights_are_refused():
    with pytest.raises(ValueError, match="int8, int4, int2"):
        storage.check_weights("int3")
