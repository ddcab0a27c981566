"""TensorFlow Lite Micro: its interpreter computes the executor's integers, compressed or not."""

import dataclasses
import re
import sys

import numpy as np
import pytest
import random_graphs
import small_networks
import trained_layers

import export
import wrpn_tf
from export.executor.execution import execute
from export.flatbuffer import borders, reader, writer
from export.ir.graph import IntegerGraph
from export.ir.operators import (
    PROBABILITIES,
    Concatenate,
    Conv2D,
    DepthwiseConv2D,
    Logistic,
    Slice,
)
from export.ir.tensors import Tensor
from export.kernel_sets import logistic
from export.kernel_sets.rules import TARGETS
from export.runtime.isolation import Isolated
from export.tflm import compression, interpreter, limits
from export.tflm.interpreter import MicroRunner
from export.verification import checks, verifier
from wrpn_tf import QuantizationParameters
from wrpn_tf.progress import ProgressLine

needs_interpreter = pytest.mark.skipif(
    not interpreter.is_installed(),
    reason="no tflite-micro: it comes for Linux on x86-64, with the extra dev or devices",
)
NO_LINE = ProgressLine("verify", shown=False)
BUILDS = {
    "network": small_networks.network,
    "gated": small_networks.gated,
    "decoder": small_networks.decoder,
    "compared": small_networks.compared,
}


def random_codes(graph: IntegerGraph, images: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {name: (images, *graph.tensors[name].shape[1:]) for name in graph.inputs}
    return {n: rng.integers(-128, 128, shape).astype(np.int8) for n, shape in shapes.items()}


def assert_equals_executor(graph: IntegerGraph, images: int = 4) -> int:
    """Every integer that an operator writes; returns how many were compared."""
    inputs = random_codes(graph, images)
    expected = execute(graph, inputs, "tflm")
    with Isolated(MicroRunner, writer.to_flatbuffer(graph)) as run:
        found = run(inputs)
    written = [operator.output for operator in graph.operators]
    for name in written:
        assert np.array_equal(found[name], expected[name]), name
    return sum(expected[name].size for name in written)


@needs_interpreter
@pytest.mark.parametrize("kind", random_graphs.KINDS)
def test_every_operator_equals_the_executor(kind):
    for seed in range(8):
        graph = random_graphs.one_operator(kind, seed)
        inputs = random_codes(graph, 2)
        content = writer.to_flatbuffer(graph)
        if kind == "transpose" and len(graph.tensors["input"].shape) > 5:
            with pytest.raises(ValueError, match="Transpose op only supports 1D-5D input arrays"):
                MicroRunner(content)
            assert "'output' is a transposition of 6 axes, which" in limits.refusal(graph).sentence
            continue
        assert not limits.refusal(graph)
        found = MicroRunner(content)(inputs)
        assert np.array_equal(found["output"], execute(graph, inputs, "tflm")["output"]), seed


@needs_interpreter
@pytest.mark.parametrize("build", BUILDS)
def test_networks_equal_the_executor_compressed_or_not(build):
    model = small_networks.quantize(BUILDS[build](1), 1, weight_bits=2, activation_bits=4)
    graph = export.realize(export.lower(model))
    compared = assert_equals_executor(graph)
    content = writer.to_flatbuffer(graph)
    if build == "compared":  # Kernels of a few codes, which tables would make larger.
        with pytest.raises(ValueError, match="no kernel of this file would be smaller"):
            compression.compress(content)
        return
    compressed = compression.compress(content)
    assert compressed.integers >= compared and compressed.tensors
    assert reader.read(compressed.content).metadata.keys() == reader.read(content).metadata.keys()


@needs_interpreter
@pytest.mark.parametrize("weight_bits", [1, 4, 8])
def test_compression_of_a_network_worth_it(weight_bits):
    model = wrpn_tf.models.build("digits_cnn", num_classes=10, input_shape=(8, 8, 1))
    model = wrpn_tf.quantize_model(model, weight_bits, 4, input_range=(0.0, 1.0))
    wrpn_tf.calibrate(model, [np.random.default_rng(0).random((16, 8, 8, 1), np.float32)])
    graph = export.realize(export.lower(model))
    content = writer.to_flatbuffer(graph)
    if weight_bits == 8:
        with pytest.raises(ValueError, match="no kernel of this file would be smaller"):
            compression.compress(content)
        return
    compressed = compression.compress(content)
    assert len(compressed.content) < len(content)
    operators = [operator.name for operator in reader.read(compressed.content).main.operators]
    assert operators.count("TFLM_DECODE") == len(compressed.tensors) >= 1
    stored = {t.name: t for t in reader.read(compressed.content).main.tensors}
    for name in compressed.tensors:
        size = {t.name: t.size for t in reader.read(content).main.tensors}[name]
        assert stored[name].size < size


@needs_interpreter
def test_one_table_for_several_scales_is_never_written():
    """What the decoder makes of it depends on its version: where it is wrong, it is so silently."""
    graph = random_graphs.one_operator("conv", 1)
    (operator,) = graph.operators
    kernel = np.ones((8, 3, 3, 16), np.int8)
    kernel[::2] = -1
    scale = np.linspace(0.01, 0.02, 8, dtype=np.float32)
    form = {"kernel": kernel, "kernel_scale": scale, "bias": np.zeros(8, np.int32)}
    operator = dataclasses.replace(operator, **form, padding="SAME", strides=(1, 1))
    image = Tensor(shape=(1, 4, 4, 16), quantization=graph.tensors["input"].quantization)
    output = Tensor(shape=(1, 4, 4, 8), quantization=graph.tensors["output"].quantization)
    tensors = {"input": image, "output": output}
    content = writer.to_flatbuffer(
        dataclasses.replace(graph, tensors=tensors, operators=[operator])
    )
    tables = [
        compression._table(t) for t in reader.read(content).main.tensors if "kernel" in t.name
    ]
    assert tables == [{"index_bitwidth": 1, "per_channel": {"axis": 0}}]
    assert compression.compress(content).tensors == ("output/kernel",)


@needs_interpreter
def test_other_integers_are_an_error(monkeypatch):
    graph = random_graphs.network(0)
    content = writer.to_flatbuffer(graph)
    other = dataclasses.replace(graph.operators[0], bias=graph.operators[0].bias + 4000)
    changed = dataclasses.replace(graph, operators=[other, *graph.operators[1:]])
    with pytest.raises(ValueError, match="the compressed file computes other integers: stem"):
        compression._compare(content, writer.to_flatbuffer(changed))


@needs_interpreter
def test_what_it_takes_is_measured():
    assert 1000 < interpreter.arena_bytes(writer.to_flatbuffer(random_graphs.network(0))) < 50_000


@needs_interpreter
def test_files_that_do_not_load_are_sentences():
    graph = random_graphs.one_operator("dense", 0)
    (dense,) = graph.operators
    kernel = np.clip(dense.kernel, -7, 7)
    narrow = dataclasses.replace(dense, kernel=kernel, dtype_bits=4)
    graph = dataclasses.replace(graph, operators=[narrow])
    with pytest.raises(ValueError, match=r"TensorFlow Lite Micro cannot load this model: .*Int4"):
        interpreter.check_loads(writer.to_flatbuffer(graph))
    assert "a dense layer with INT4 weights and a scale for each" in limits.refusal(graph).sentence
    with pytest.raises(ValueError, match="not a TFLite model"):
        interpreter.check_loads(b"no model")


def joined(parts: int) -> IntegerGraph:
    tensor = Tensor(shape=(1, 3), quantization=QuantizationParameters.int8(scale=1, zero_point=0))
    names = tuple(f"part{index}" for index in range(parts))
    whole = dataclasses.replace(tensor, shape=(1, 3 * parts))
    return IntegerGraph(
        tensors=dict.fromkeys(names, tensor) | {"output": whole},
        operators=[Concatenate(inputs=names, output="output", axis=1)],
        inputs=names,
        outputs=("output",),
    )


def sliced(axes: int) -> IntegerGraph:
    tensor = Tensor(
        shape=(1,) * (axes - 1) + (4,),
        quantization=QuantizationParameters.int8(scale=1, zero_point=0),
    )
    return IntegerGraph(
        tensors={"input": tensor, "output": tensor},
        operators=[Slice(inputs=("input",), output="output", begin=(0,) * (axes - 1))],
        inputs=("input",),
        outputs=("output",),
    )


@needs_interpreter
@pytest.mark.parametrize(
    ("taken", "refused", "sentence"),
    [
        (joined(10), joined(11), "a concatenation of 11 tensors, more than 10, which"),
        (sliced(4), sliced(5), "a slice of 5 axes, which"),
    ],
)
def test_what_has_too_many_parts_or_axes_is_known_before(taken, refused, sentence):
    assert not limits.refusal(taken)
    interpreter.check_loads(writer.to_flatbuffer(taken))
    with pytest.raises(ValueError, match=interpreter.REFUSED):
        interpreter.check_loads(writer.to_flatbuffer(refused))
    assert f"'output' is {sentence}" in limits.refusal(refused).sentence


@needs_interpreter
def test_narrow_kernels_that_load_are_let_pass():
    for kind, seed in (("conv", 1), ("depthwise", 0), ("dense per tensor", 0)):
        graph = random_graphs.one_operator(kind, seed)
        (operator,) = graph.operators
        kernel = np.clip(operator.kernel, -7, 7)
        narrow = dataclasses.replace(operator, kernel=kernel, dtype_bits=4)
        graph = dataclasses.replace(graph, operators=[narrow])
        assert not limits.refusal(graph)
        assert_equals_executor(graph)


def test_int2_is_refused():
    graph = random_graphs.one_operator("dense per tensor", 0)
    narrow = dataclasses.replace(
        graph.operators[0], kernel=np.sign(graph.operators[0].kernel), dtype_bits=2
    )
    refused = limits.refusal(dataclasses.replace(graph, operators=[narrow]))
    assert re.search("a layer with INT2 weights .* which TensorFlow", refused.sentence)


def sigmoid_of_every_code(grid):
    """The codes that TensorFlow Lite Micro computes for int8 codes -128 to 127 of a grid."""
    codes = np.arange(-128, 128).astype(np.int8).reshape(1, 256)
    graph = IntegerGraph(
        tensors={
            "input": Tensor(shape=(1, 256), quantization=grid),
            "output": Tensor(shape=(1, 256), quantization=PROBABILITIES),
        },
        operators=[Logistic(inputs=("input",), output="output")],
        inputs=("input",),
        outputs=("output",),
    )
    return MicroRunner(writer.to_flatbuffer(graph))({"input": codes})["output"][0]


@needs_interpreter
def test_a_sigmoid_in_fixed_point():
    """Grids on which a table of float32 differs, found among 3,000 random ones, and others."""
    random = np.random.default_rng(0)
    different = 0
    for _ in range(60):
        scale = float(np.float32(2.0 ** random.uniform(-9, 1)))
        grid = QuantizationParameters.int8(scale=scale, zero_point=int(random.integers(-128, 128)))
        found = sigmoid_of_every_code(grid)
        assert np.array_equal(found, logistic.table(grid, "tflm"))
        different += np.count_nonzero(found != logistic.table(grid, "reference"))
    assert different <= 1


@needs_interpreter
@pytest.mark.parametrize("scale", [2.0, 7.875, 8.0, 15.5, 500.0])
def test_a_sigmoid_of_coarse_steps(scale):
    """Where one step is 8 or more, a real 0 is none to the kernel: its sigmoid is 0, not 1/2."""
    grid = QuantizationParameters.int8(scale=scale, zero_point=-6)
    found = sigmoid_of_every_code(grid)
    assert np.array_equal(found, logistic.table(grid, "tflm"))
    assert found[128 - 6] == (0 if scale < 8 else -128)


@needs_interpreter
def test_settling_aims_at_it():
    model = small_networks.quantize(small_networks.network(1), 1, weight_bits=8, activation_bits=8)
    default = export.realize(export.lower(model)).provenance.inexact_channels
    export.settle(model, kernel_sets=("tflm",))
    graph = export.realize(export.lower(model), kernel_sets=("tflm",))
    aimed = graph.provenance.inexact_channels
    assert sum(each["tflm"] for each in aimed.values()) < sum(
        each["tflm"] for each in default.values()
    )
    assert_equals_executor(graph)
    with pytest.raises(ValueError, match=r"kernel_sets must be of .*; 'cmsis' is not among them"):
        export.settle(model, kernel_sets=("cmsis",))
    assert "tflm" in TARGETS


def test_verification_says_where_there_is_no_interpreter(monkeypatch):
    monkeypatch.setattr(verifier, "is_installed", lambda: False)
    graph = random_graphs.network(0)
    samples = verifier._samples(graph, random_codes(graph, 2))
    rows, notes, _ = verifier._kernel_sets(graph, writer.to_flatbuffer(graph), samples, NO_LINE)
    assert [row.kernel_set for row in rows] == ["xnnpack", "optimized", "reference"]
    (note,) = notes
    assert note.startswith("TensorFlow Lite Micro was not compared: the package tflite-micro is no")


@pytest.mark.parametrize("operator", [Conv2D, DepthwiseConv2D])
def test_images_are_as_many_as_products_allow(operator, monkeypatch):
    """9 channels of 3 taps; never fewer than 10 images."""
    graph = trained_layers.layer(0, operator=operator, taps=3)
    for most, images in ((27 * 40 - 1, 39), (27 * 40, 40), (27 * 5, 10)):
        monkeypatch.setattr(verifier, "_MICRO_PRODUCTS", most)
        assert verifier._micro_images(graph) == images


@needs_interpreter
def test_verification_compares_and_names_what_differs():
    graph = random_graphs.network(0)
    codes = random_codes(graph, 12)
    file = writer.to_flatbuffer(graph)
    samples = verifier._samples(graph, codes)
    rows, notes, wrong = verifier._kernel_sets(graph, file, samples, NO_LINE)
    assert (notes, wrong) == ((), [])
    assert verifier._micro_images(graph) > 10**4
    per_image = sum(int(np.prod(tensor.shape)) for tensor in graph.tensors.values())
    (row,) = (row for row in rows if row.kernel_set == "tflm")
    assert (row.images, row.integers, row.different) == (12, 12 * per_image, 0)
    other = dataclasses.replace(graph.operators[0], bias=graph.operators[0].bias + 4000)
    changed = dataclasses.replace(graph, operators=[other, *graph.operators[1:]])
    file = writer.to_flatbuffer(graph)
    differences, _ = checks.compare_with_executor(changed, file, codes, "tflm")
    assert differences["stem"].different > 0


@needs_interpreter
def test_verification_goes_on_where_the_interpreter_refuses():
    graph = random_graphs.one_operator("dense", 1)
    (dense,) = graph.operators
    narrow = dataclasses.replace(dense, kernel=np.clip(dense.kernel, -7, 7), dtype_bits=4)
    graph = dataclasses.replace(graph, operators=[narrow])
    samples = verifier._samples(graph, random_codes(graph, 2))
    rows, notes, _ = verifier._kernel_sets(graph, writer.to_flatbuffer(graph), samples, NO_LINE)
    assert len(rows) == 3 and notes[0].startswith("Not for microcontrollers: TensorFlow Lite Micro")


def test_without_the_package_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(compression, "is_installed", lambda: False)
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    with pytest.raises(ValueError, match="the package tflite-micro is not installed"):
        compression.compress(writer.to_flatbuffer(random_graphs.network(0)))


@needs_interpreter
def test_files_of_floats_are_not_compressed():
    content = borders.with_borders(writer.to_flatbuffer(random_graphs.network(0)), "float32")
    with pytest.raises(ValueError, match="is of floats: give the file int8 or uint8 borders"):
        compression.compress(content)
