"""The written file: its tables, its metadata, and what the Interpreter makes of it."""

from __future__ import annotations

import dataclasses
import io
import zipfile

import flatbuffers
import numpy as np
import pytest
import random_graphs
from ai_edge_litert import schema_py_generated as schema
from flatbuffers.table import Table

from export.flatbuffer import editing, metadata_writer, reader, writer
from export.ir.graph import IntegerGraph
from export.ir.validation import validate
from export.kernel_sets.rules import KERNEL_SETS
from export.runtime import runner

BUILTIN = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
# The highest operator versions that fixed-function compilers are known to map.
HIGHEST = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "ADD": 2,
    "MAX_POOL_2D": 2,
    "AVERAGE_POOL_2D": 2,
    "CONCATENATION": 2,
    "PAD": 2,
    "RESHAPE": 1,
    "SOFTMAX": 2,
}


@pytest.fixture(name="graph", scope="module")
def graph_fixture() -> IntegerGraph:
    return random_graphs.network(5)


@pytest.fixture(name="content", scope="module")
def content_fixture(graph) -> bytes:
    return writer.to_flatbuffer(graph)


@pytest.fixture(name="model", scope="module")
def model_fixture(content):
    return schema.ModelT.InitFromPackedBuf(content, 0)


def test_operators_and_versions(model):
    assert model.version == 3
    assert {BUILTIN[code.builtinCode]: code.version for code in model.operatorCodes} == HIGHEST
    for code in model.operatorCodes:
        assert code.deprecatedBuiltinCode == code.builtinCode


def test_tensors_carry_names_grids_and_constants(graph, model):
    tensors = {tensor.name.decode(): tensor for tensor in model.subgraphs[0].tensors}
    for name, tensor in graph.tensors.items():
        written = tensors[name]
        assert written.type == schema.TensorType.INT8
        assert tuple(written.shape) == tensor.shape
        assert [np.float32(value) for value in written.quantization.scale] == [
            tensor.quantization.scale
        ]
        assert list(written.quantization.zeroPoint) == [tensor.quantization.zero_point]
    for operator in graph.operators:
        if not hasattr(operator, "kernel"):
            continue
        scale = (
            np.float32(graph.tensors[operator.inputs[0]].quantization.scale) * operator.kernel_scale
        )
        axis = 3 if type(operator).__name__ == "DepthwiseConv2D" else 0
        for key, array, scales, dimension in (
            ("kernel", operator.kernel, operator.kernel_scale, axis),
            ("bias", operator.bias, scale, 0),
        ):
            written = tensors[f"{operator.output}/{key}"]
            data = model.buffers[written.buffer].data.tobytes()
            assert np.array_equal(np.frombuffer(data, array.dtype).reshape(array.shape), array)
            quantization = written.quantization
            assert np.array_equal(np.asarray(quantization.scale, np.float32), scales)
            assert list(quantization.zeroPoint) == [0] * len(scales)
            assert quantization.quantizedDimension == dimension


def test_no_tensor_is_float(model):
    kinds = {tensor.type for tensor in model.subgraphs[0].tensors}
    assert kinds == {schema.TensorType.INT8, schema.TensorType.INT32}


def test_buffers_are_inline_and_aligned(content, model):
    for buffer in model.buffers:
        assert (buffer.offset, buffer.size) == (0, 0)
        if buffer.data is not None:
            position = content.find(buffer.data.tobytes())
            assert position >= 0
    view = schema.Model.GetRootAs(content, 0)
    for index in range(view.BuffersLength()):
        buffer = view.Buffers(index)
        if not buffer.DataIsNone():
            table = buffer._tab
            start = table.Vector(flatbuffers.number_types.UOffsetTFlags.py_type(table.Offset(4)))
            assert start % 16 == 0


@pytest.mark.parametrize(("kind", "per_tensor"), [("dense", False), ("dense per tensor", True)])
def test_equal_dense_scales_become_one(kind, per_tensor):
    seed = next(
        seed
        for seed in range(100)
        if len(random_graphs.one_operator(kind, seed).operators[0].bias) > 3
    )
    graph = random_graphs.one_operator(kind, seed)
    graph.operators[0].kernel_scale[0] *= 1 if per_tensor else 1.5
    model = schema.ModelT.InitFromPackedBuf(writer.to_flatbuffer(graph), 0)
    tensors = {tensor.name.decode(): tensor for tensor in model.subgraphs[0].tensors}
    channels = 1 if per_tensor else len(graph.operators[0].bias)
    for name in ("output/kernel", "output/bias"):
        assert len(tensors[name].quantization.scale) == channels
        assert len(tensors[name].quantization.zeroPoint) == channels


def test_signature_runs_by_name(content, graph):
    interpreter = runner.load(content)
    signature = interpreter.get_signature_list()["serving_default"]
    assert signature == {"inputs": ["image"], "outputs": ["output"]}
    signature_runner = interpreter.get_signature_runner("serving_default")
    image = np.zeros((1, 9, 8, 3), np.int8)
    expected = runner.run(content, {"image": image})["output"]
    assert np.array_equal(signature_runner(image=image)["output"], expected)


def test_batch_resizes(content):
    images = random_graphs.Draw(0).codes((4, 9, 8, 3))
    whole = runner.run(content, {"image": images})["output"]
    single = [runner.run(content, {"image": image[None]})["output"] for image in images]
    assert np.array_equal(whole, np.concatenate(single))


def test_a_transposed_convolution_runs_at_any_batch():
    graph = random_graphs.one_operator("transposed", 3)
    operator = dataclasses.replace(graph.operators[0], relu=True)
    content = writer.to_flatbuffer(dataclasses.replace(graph, operators=[operator]))
    names = [(op.name, op.version) for op in reader.read(content).main.operators]
    assert names == [("TRANSPOSE_CONV", 3), ("RELU", 2)]
    images = random_graphs.Draw(0).codes((3, *graph.tensors["input"].shape[1:]))
    for kernel_set in KERNEL_SETS:
        whole = runner.run(content, {"input": images}, kernel_set)["output"]
        single = [runner.run(content, {"input": image[None]}, kernel_set) for image in images]
        assert np.array_equal(whole, np.concatenate([each["output"] for each in single]))
    assert reader.kernels(content).keys() == {"output"}
    entry = reader.read(content).metadata["min_runtime_version"]
    assert entry == b"2.3.0".ljust(16, b"\0")


@pytest.mark.parametrize(
    ("kind", "dtype_bits", "version"),
    [
        ("dense", 8, b"1.14.0"),
        ("conv", 8, b"1.14.0"),
        ("bilinear", 8, b"2.2.0"),
        ("transposed", 8, b"2.3.0"),
        ("grouped conv", 8, b"2.9.0"),
        ("dense", 4, b"2.11.0"),
        ("conv", 4, b"2.11.0"),
        ("dense", 2, b"2.11.0"),
    ],
)
def test_the_least_runtime_is_that_of_the_newest_kernel(kind, dtype_bits, version):
    graph = random_graphs.one_operator(kind, 0)
    (operator,) = graph.operators
    if dtype_bits < 8:
        narrow = np.sign(operator.kernel)
        operator = dataclasses.replace(operator, kernel=narrow, dtype_bits=dtype_bits)
    content = writer.to_flatbuffer(dataclasses.replace(graph, operators=[operator]))
    entry = reader.read(content).metadata["min_runtime_version"]
    assert entry == version.ljust(16, b"\0")


@pytest.mark.parametrize("size", [(4, 3), (3, 128)])
def test_bilinear_factors_that_are_not_exact_are_refused(size):
    graph = random_graphs.one_operator("bilinear", 0)
    shape = graph.tensors["input"].shape
    tensor = dataclasses.replace(
        graph.tensors["output"], shape=(1, shape[1] * size[0], shape[2] * size[1], shape[3])
    )
    wrong = dataclasses.replace(graph, tensors=graph.tensors | {"output": tensor})
    with pytest.raises(ValueError, match="only powers of 2 up to 64 are exact"):
        validate(wrong)


def test_xnnpack_takes_all_but_the_average_and_softmax(content, graph):
    assert runner.delegated_operators(content) == len(graph.operators) - 2


def test_exposed_variant_differs_only_in_outputs(content, graph, model):
    exposed = schema.ModelT.InitFromPackedBuf(editing.expose_tensors(content), 0)
    assert len(exposed.subgraphs[0].outputs) == len(graph.operators)
    assert set(model.subgraphs[0].outputs) <= set(exposed.subgraphs[0].outputs)
    assert len(exposed.subgraphs[0].tensors) == len(model.subgraphs[0].tensors)


def test_writing_is_deterministic(content, graph):
    assert writer.to_flatbuffer(graph) == content


def test_labels_are_an_appended_zip(content, graph):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["labels.txt"]
        labels = archive.read("labels.txt").decode().splitlines()
    assert labels == graph.metadata["labels"]


def test_metadata_reads_back(model):
    entries = {entry.name.decode(): model.buffers[entry.buffer].data for entry in model.metadata}
    assert bytes(entries["min_runtime_version"]) == b"1.14.0".ljust(16, b"\0")
    data = bytes(entries["TFLITE_METADATA"])
    assert data[4:8] == b"M001"
    position = flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0)
    root = Reader(Table(bytearray(data), position))
    assert root.text(0) == "network"
    assert root.text(1) == "A network for tests"
    assert root.text(7) == "1.0.0"
    (subgraph,) = root.tables(3)
    (image,) = subgraph.tables(2)
    assert image.text(0) == "image"
    content = image.table(3)
    assert content.byte(0) == 2  # ImageProperties
    assert content.table(1).byte(0) == 1  # RGB
    size = content.table(1).table(1)
    assert (size.uint(0), size.uint(1)) == (8, 9)
    (unit,) = image.tables(4)
    assert unit.byte(0) == 1  # NormalizationOptions
    assert unit.table(1).floats(0) == [127.5]
    assert unit.table(1).floats(1) == [127.5]
    np.testing.assert_allclose(image.table(5).floats(0), [128 / 127])
    np.testing.assert_allclose(image.table(5).floats(1), [-1.0])
    (output,) = subgraph.tables(3)
    assert output.text(0) == "output"
    assert output.table(3).byte(0) == 1  # FeatureProperties
    (labels,) = output.tables(6)
    assert labels.text(0) == "labels.txt"
    assert labels.byte(2) == 2  # TENSOR_AXIS_LABELS
    (unit,) = output.tables(4)
    assert unit.byte(0) == 3  # ScoreThresholdingOptions


def test_the_lowest_score_is_the_threshold_of_labels(graph):
    logits = graph.tensors["logits"].quantization
    linear = dataclasses.replace(graph, operators=graph.operators[:-1], outputs=("logits",))
    data = metadata_writer.model_metadata(linear)
    position = flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0)
    (subgraph,) = Reader(Table(bytearray(data), position)).tables(3)
    ((unit,),) = [output.tables(4) for output in subgraph.tables(3)]
    lowest = np.float32(logits.scale * (-128 - logits.zero_point))
    assert unit.table(1).number(0) == lowest < 0


class Reader:
    """Reads fields of a flatbuffer table by slot."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def _offset(self, slot: int) -> int:
        offset = self._table.Offset(4 + 2 * slot)
        assert offset, f"slot {slot} is missing"
        return offset

    def text(self, slot: int) -> str:
        return self._table.String(self._offset(slot) + self._table.Pos).decode()

    def table(self, slot: int) -> Reader:
        position = self._table.Indirect(self._offset(slot) + self._table.Pos)
        return Reader(Table(self._table.Bytes, position))

    def tables(self, slot: int) -> list[Reader]:
        start, length = self._vector(slot)
        positions = (self._table.Indirect(start + 4 * index) for index in range(length))
        return [Reader(Table(self._table.Bytes, position)) for position in positions]

    def floats(self, slot: int) -> list[float]:
        start, length = self._vector(slot)
        return np.frombuffer(bytes(self._table.Bytes), "<f4", length, start).tolist()

    def number(self, slot: int) -> float:
        position = self._offset(slot) + self._table.Pos
        return np.frombuffer(bytes(self._table.Bytes), "<f4", 1, position).item()

    def byte(self, slot: int) -> int:
        return self._table.Bytes[self._offset(slot) + self._table.Pos]

    def uint(self, slot: int) -> int:
        position = self._offset(slot) + self._table.Pos
        return int.from_bytes(self._table.Bytes[position : position + 4], "little")

    def _vector(self, slot: int) -> tuple[int, int]:
        offset = self._offset(slot)
        return self._table.Vector(offset), self._table.VectorLen(offset)


def test_wrong_labels_are_refused(graph):
    for labels in (["one"], ["a\nb"] * 10):
        broken = IntegerGraph(
            tensors=graph.tensors,
            operators=graph.operators,
            inputs=graph.inputs,
            outputs=graph.outputs,
            metadata={"labels": labels},
        )
        with pytest.raises(ValueError, match="label"):
            writer.to_flatbuffer(broken)


def test_other_files_are_one_value_error(content):
    image = {"image": np.zeros((1, 9, 8, 3), np.int8)}
    for data in (b"", b"text", content[:300], b"\x1c\0\0\0TFL3" + bytes(100)):
        with pytest.raises(ValueError, match="not a TFLite model"):
            runner.run(data, image)
    for inputs in (
        {},
        {"image": np.zeros((1, 9, 8, 3), np.uint8)},
        {"image": np.zeros(3, np.int8)},
    ):
        with pytest.raises(ValueError, match="the model takes"):
            runner.run(content, inputs)
