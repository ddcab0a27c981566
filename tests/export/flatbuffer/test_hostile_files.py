"""Files that are small and ask for much: refused before memory or time is taken."""

import bz2
import io
import struct
import time
import zipfile

import flatbuffers
import numpy as np
import pytest
import random_graphs
from ai_edge_litert import schema_py_generated as schema
from rich.console import Console

from benchmarks import fuzz_tflite
from benchmarks.fuzzing import Meter
from export.edge_tpu import tables
from export.edge_tpu.preflight import predict
from export.flatbuffer import archive, editing, reader, writer
from export.ir.files import read_bytes
from export.runtime import isolation, runner
from export.runtime.isolation import Isolated
from export.tools import classifier


@pytest.fixture(name="content", scope="module")
def content_fixture():
    return writer.to_flatbuffer(random_graphs.network(5))


def model_of(*operators, tensors, inputs=(0,), outputs=None, buffers=()):
    """A file of (builtin code, options, inputs, outputs) over (name, shape, type, buffer)."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    for data in buffers:
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(data, np.uint8)
    model.operatorCodes, graph.operators, graph.tensors = [], [], []
    for name, shape, kind, buffer in tensors:
        graph.tensors.append(schema.TensorT())
        graph.tensors[-1].name, graph.tensors[-1].shape = name, list(shape)
        graph.tensors[-1].type, graph.tensors[-1].buffer = kind, buffer
    for index, (code, options, read, written) in enumerate(operators):
        model.operatorCodes.append(schema.OperatorCodeT())
        model.operatorCodes[-1].builtinCode = code
        model.operatorCodes[-1].deprecatedBuiltinCode = min(code, 127)
        model.operatorCodes[-1].version = 1
        graph.operators.append(schema.OperatorT())
        operator = graph.operators[-1]
        operator.opcodeIndex, operator.inputs, operator.outputs = index, read, written
        if options is not None:
            operator.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
    graph.inputs = list(inputs)
    graph.outputs = list(graph.operators[-1].outputs if outputs is None else outputs)
    return editing.pack(model)


FLOAT, INT32 = schema.TensorType.FLOAT32, schema.TensorType.INT32
RELU = schema.BuiltinOperator.RELU
BIG = 20_000


def test_a_large_input_is_refused():
    tensors = [("image", (1, BIG, BIG, 3), FLOAT, 0), ("out", (1, BIG, BIG, 3), FLOAT, 0)]
    small = model_of((RELU, None, [0], [1]), tensors=tensors)
    assert len(small) < 600
    with (
        Meter() as taken,
        pytest.raises(ValueError, match=r"'image' would take 4,800,000,000 bytes"),
    ):
        reader.read(small)
    assert taken.grown < 2**20


def test_all_inputs_together_are_refused():
    shape = (1, 5000, 5000, 1)
    tensors = [(name, shape, FLOAT, 0) for name in ("a", "b", "c", "out")]
    with pytest.raises(ValueError, match=r"its inputs would take 300,000,000 bytes"):
        reader.read(
            model_of((RELU, None, [0], [3]), tensors=tensors, inputs=(0, 1, 2), outputs=(3,))
        )


def test_an_image_that_no_camera_makes_is_refused():
    tensors = [("image", (1, 5000, 5000, 1), 9, 0), ("out", (1, 10), 9, 0)]
    with pytest.raises(ValueError, match=r"\[1, 5000, 5000, 1\]; an image has at most 16,777,216"):
        classifier.interface(reader.read(model_of((RELU, None, [0], [1]), tensors=tensors)))


def test_a_false_shape_within_is_refused_by_the_process_that_runs_it():
    """The shape that the file states is small; what its operator makes is not."""
    paddings = np.array([[0, 0], [0, 40_000], [0, 40_000], [0, 0]], np.int32).tobytes()
    tensors = [
        ("image", (1, 1, 1, 1), FLOAT, 0),
        ("paddings", (4, 2), INT32, 1),
        ("out", (1, 1, 1, 1), FLOAT, 0),
    ]
    options = schema.PadOptionsT()
    content = model_of(
        (schema.BuiltinOperator.PAD, options, [0, 1], [2]), tensors=tensors, buffers=[paddings]
    )
    assert len(content) < 800
    model = reader.read(content)
    with Meter() as taken, pytest.raises(ValueError, match=r"(?i)interpreter"):
        with Isolated(runner.Runner, model.content, "reference", seconds=30) as run:
            run({"image": np.zeros((1, 1, 1, 1), np.float32)})
    assert taken.grown < 2**26


def test_a_loop_without_end_is_ended():
    tensors = [("image", (1, 4), FLOAT, 0), ("out", (1, 4), FLOAT, 0)]
    parsed = schema.ModelT.InitFromPackedBuf(model_of((RELU, None, [0], [1]), tensors=tensors), 0)
    fuzz_tflite.add_loop(parsed)
    model = reader.read(editing.pack(parsed))
    start = time.monotonic()
    with (
        Isolated(runner.Runner, model.content, "reference", seconds=2) as run,
        pytest.raises(ValueError, match="did not finish within 2 seconds"),
    ):
        run({"image": np.zeros((1, 4), np.float32)})
    assert time.monotonic() - start < 30


class Greedy:
    """Takes memory when it is called."""

    def __call__(self, size):
        return len(np.ones(size, np.uint8))


class Talkative:
    """Gives much back."""

    def __call__(self, size):
        return np.zeros(size, np.uint8)


def test_the_process_has_limits():
    assert (isolation.SECONDS, isolation.MEMORY, isolation.REPLY) == (60, 2**32, 2**30)
    with Isolated(Greedy) as greedy:
        assert greedy(2**20) == 2**20
        with pytest.raises(ValueError, match="needs more than 4 GiB of memory"):
            greedy(5 * 2**30)
        assert greedy(2**20) == 2**20
    with Isolated(Talkative) as talkative, pytest.raises(ValueError, match="more than 1 GiB"):
        talkative(2**30)


def test_large_batches_have_more_seconds(monkeypatch):
    asked = []
    monkeypatch.setattr(isolation.signal, "setitimer", lambda _, seconds: asked.append(seconds))
    isolation.restart_clock()
    monkeypatch.setattr(isolation, "_seconds", 60)
    for batch in (1, 10, 100):
        isolation.restart_clock(batch)
    assert asked == [60, 60, 600]


def with_archive(content, name, data, kind=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", kind) as appended:
        appended.writestr(name, data)
    return stream.getvalue()


def test_archives_of_zeros_are_refused(content):
    zeros = bytes(archive.MOST_BYTES + 1)
    large = with_archive(content, "more.txt", zeros)
    assert len(large) < len(content) + 2**16
    with (
        Meter() as taken,
        pytest.raises(ValueError, match="bytes uncompressed, more than 33,554,432"),
    ):
        archive.appended_files(large)
    assert taken.grown < 2**20
    packed = with_archive(content, "more.txt", zeros, zipfile.ZIP_BZIP2)
    with pytest.raises(ValueError, match=r"'more\.txt' is neither stored nor deflated"):
        archive.appended_files(packed)


def test_a_false_size_in_an_archive_is_not_exceeded(content):
    """The directory says 16 bytes; what is compressed are 64 MiB."""
    large = bytearray(with_archive(content, "more.txt", bytes(2**26)))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = large.rindex(signature) + place
        large[at : at + 4] = struct.pack("<I", 16)
    with Meter() as taken, pytest.raises(ValueError, match="cannot be read"):
        archive.appended_files(bytes(large))
    assert taken.grown < 2**22


def shared(count):
    """A file whose list of tensors names one table many times, with a long name."""
    builder = flatbuffers.Builder(0)
    name = builder.CreateString("n" * 100_000)
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    tensor = schema.TensorEnd(builder)
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graph = schema.SubGraphEnd(builder)
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.BufferStart(builder)
    buffer = schema.BufferEnd(builder)
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddBuffers(builder, buffers)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def test_parts_that_share_their_bytes_are_counted():
    with Meter() as taken, pytest.raises(ValueError, match="share their bytes too often"):
        reader.read(shared(20_000))
    assert taken.grown < 2**24


def test_names_are_printed_and_not_obeyed(content):
    def rename(parsed):
        for code in parsed.operatorCodes:
            code.builtinCode = code.deprecatedBuiltinCode = 32
            code.customCode = "[/x]\x1b[2J"

    model = reader.read(editing.edit(reader.read(content), rename))
    text = io.StringIO()
    tables.show(Console(file=text, width=200), "[/y]", predict(model), ["[/z]"], {0}, every=True)
    assert "[/x]\\x1b[2J" in text.getvalue()
    assert "Fixed: [/z]" in text.getvalue() and "[/y]: predicted" in text.getvalue()
    assert "\x1b" not in text.getvalue()


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/stdin"])
def test_what_may_never_end_is_not_read(device):
    with pytest.raises(ValueError, match=f"Cannot read {device}: it is not a regular file"):
        read_bytes(device)


def test_a_dense_archive_is_what_it_says():
    assert len(bz2.compress(bytes(2**26))) < 100  # Why bzip2 is refused: it may expand so.
