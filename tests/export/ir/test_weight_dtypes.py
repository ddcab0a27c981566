"""Kernels in 4 and 2 bits, in .tflite files and for transport."""

import numpy as np
import pytest
import small_networks
import tf_keras as keras
from equality import assert_same
from tf_keras import layers

import export
from export.flatbuffer import editing, reader, writer
from export.ir import weight_dtypes
from export.ir.graph import as_int8
from export.ir.operators import Weighted
from export.kernel_sets import rules
from export.runtime import runner
from export.tools import weight_report
from export.verification import checks
from export.verification.workdir import Workdir


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 3, 1), (1, 1), (4, 4)])
def test_packing_inverts(bits, shape):
    largest = weight_dtypes.LARGEST[bits]
    codes = np.random.default_rng(0).integers(-largest - 1, largest + 1, shape).astype(np.int8)
    assert_same(weight_dtypes.unpack(weight_dtypes.pack(codes, bits), bits, shape), codes)


def test_packing_is_low_bits_first():
    assert_same(
        weight_dtypes.pack(np.array([1, -1, 3], np.int8), 4), np.array([0xF1, 0x03], np.uint8)
    )


def small_model(bits):
    """Each kind of layer that may get fewer bits, behind a first layer that stays int8."""
    image = x = keras.Input((6, 6, 3), name="image")
    kernel_set = (
        layers.Conv2D(4, 3, use_bias=False),
        layers.Conv2D(8, 3, padding="same", use_bias=False),
        layers.DepthwiseConv2D(3, use_bias=False),
        layers.Conv2D(4, 1, use_bias=False),
    )
    for kernel in kernel_set:
        x = layers.ReLU()(layers.BatchNormalization()(kernel(x)))
    x = layers.Dense(8)(layers.Flatten()(x))
    model = keras.Model(image, layers.Dense(4, name="logits")(layers.ReLU()(x)))
    small_networks.randomize(model, bits)
    return small_networks.quantize(model, bits, weight_bits=bits, activation_bits=4)


def wide_model(bits):
    """Convolutions that are written as dense layers: strides, dilation, and a single position."""
    image = x = keras.Input((9, 9, 3), name="image")
    kernel_set = (
        layers.Conv2D(4, 3, use_bias=False),
        layers.Conv2D(120, 3, strides=(2, 1), padding="same", use_bias=False),
        layers.Conv2D(4, 1, use_bias=False),
        layers.Conv2D(116, 2, dilation_rate=(1, 3), use_bias=False),
        layers.Conv2D(4, 1, use_bias=False),
        layers.Conv2D(118, 1, strides=2, use_bias=False),
        layers.Conv2D(120, 2, use_bias=False),
    )
    for kernel in kernel_set:
        x = layers.ReLU()(layers.BatchNormalization()(kernel(x)))
    model = keras.Model(image, layers.Dense(4, name="logits")(layers.Flatten()(x)))
    small_networks.randomize(model, bits)
    return small_networks.quantize(model, bits, weight_bits=bits, activation_bits=4)


@pytest.mark.parametrize(
    ("build", "weights", "bits"),
    [
        (small_model, "int4", 1),
        (small_model, "int4", 4),
        (wide_model, "int4", 4),
        (wide_model, "int2", 2),
    ],
)
def test_files_equal_executor_and_int8_twins(build, weights, bits):
    model = build(bits)
    export.settle(model, weights=weights)
    trained = export.lower(model)
    graph, twin = export.realize(trained, weights=weights), export.realize(trained)
    assert {op.dtype_bits for op in graph.operators if isinstance(op, Weighted)} >= {4, 8}
    for name, counts in graph.provenance.inexact_channels.items():
        operator = next(op for op in graph.operators if op.output == name)
        assert counts[rules.effective_kernel_set(graph, operator, "xnnpack")] == 0, name
    assert sum(c["xnnpack"] for c in twin.provenance.inexact_channels.values()) == 0

    channels = sum(len(operator.bias) for operator in graph.weighted)
    assert export.prove(graph).share(("xnnpack",), range(1, 9)) == (channels, channels)

    file, same = writer.to_flatbuffer(graph), writer.to_flatbuffer(as_int8(graph))
    assert checks.wrong_kernels(model, graph, file) == []
    assert reader.float_tensors(file) == []
    assert len(file) < len(same)
    inputs = {graph.inputs[0]: small_networks.codes(model, 32, 6)}
    for found in checks.compare_with_keras(model, graph, file, inputs).values():
        assert found.different == 0, found
    for name in rules.KERNEL_SETS:
        actual = runner.run(editing.expose_tensors(file), inputs, name)
        expected = export.execute(graph, inputs, name)
        also = runner.run(editing.expose_tensors(same), inputs, name)
        assert also.keys() == actual.keys()
        for tensor, codes in actual.items():
            assert_same(codes, expected[tensor])
            assert_same(codes, also[tensor])
        if name == "xnnpack":  # Whose kernels the int8 file, with biases of its own, is exact for.
            for tensor, codes in runner.run(
                editing.expose_tensors(writer.to_flatbuffer(twin)), inputs
            ).items():
                assert_same(codes, actual[tensor])


def test_unknown_weights_are_refused():
    with pytest.raises(ValueError, match="int8, int4, int2"):
        weight_dtypes.check_weights("int3")


def test_a_network_of_narrow_layers_has_nothing_in_int4(tmp_path):
    """Its int4 graph is the int8 one, for which nothing moves, and the report says so."""
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu")(image)
    x = layers.Conv2D(4, 3, name="head")(layers.Conv2D(4, 3, padding="same", activation="relu")(x))
    model = keras.Model(image, x)
    small_networks.randomize(model, 0)
    model = small_networks.quantize(model, 0, weight_bits=4, activation_bits=4)
    before = model.get_weights()
    workdir = Workdir(
        path=tmp_path,
        model=model,
        dataset="random",
        data_dir=None,
        labels=(),
        image_size=0,
        test_images=0,
    )
    graph = workdir.graph("int4")
    assert graph is workdir.graph()
    assert {operator.dtype_bits for operator in graph.weighted} == {8}
    for one, other in zip(before, model.get_weights(), strict=True):
        assert_same(one, other)
    assert weight_report.beside_int8(graph, b"", b"", "int4").startswith(
        "Nothing is stored in int4"
    )
