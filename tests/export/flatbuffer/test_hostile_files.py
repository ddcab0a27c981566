"""Files that are small and ask for much: refused before memory or time is taken."""

import bz2
import io
import os
import struct
import time
import zipfile

import numpy as np
import pytest
import random_graphs
from ai_edge_litert import schema_py_generated as schema
from rich.console import Console

from benchmarks.fuzzing import Meter
from benchmarks.hostile_files import endless, padded, relu, shared, tflite, with_archive
from export.edge_tpu import tables
from export.edge_tpu.fixes import Fixed
from export.edge_tpu.preflight import predict
from export.flatbuffer import archive, editing, reader, writer
from export.runtime import isolation, runner
from export.runtime.isolation import Isolated
from export.tools import classifier
from wrpn_tf.files import read_bytes


@pytest.fixture(name="content", scope="module")
def content_fixture():
    return writer.to_flatbuffer(random_graphs.network(5))


FLOAT = schema.TensorType.FLOAT32
RELU = schema.BuiltinOperator.RELU
BIG = 20_000


def test_a_large_input_is_refused():
    small = relu((1, BIG, BIG, 3))
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
        reader.read(tflite((RELU, None, [0], [3]), tensors=tensors, inputs=(0, 1, 2), outputs=(3,)))


def test_an_image_that_no_camera_makes_is_refused():
    tensors = [("image", (1, 5000, 5000, 1), 9, 0), ("out", (1, 10), 9, 0)]
    with pytest.raises(ValueError, match=r"\[1, 5000, 5000, 1\]; an image has at most 16,777,216"):
        classifier.interface(reader.read(tflite((RELU, None, [0], [1]), tensors=tensors)))


def test_a_false_shape_within_is_refused_by_the_process_that_runs_it():
    """The shape that the file states is small; what its operator makes is not."""
    content = padded(2 * BIG)
    assert len(content) < 800
    model = reader.read(content)
    with (
        Meter() as taken,
        pytest.raises(ValueError, match=r"(?i)interpreter"),
        Isolated(runner.Runner, model.content, "reference", seconds=30) as run,
    ):
        run({"image": np.zeros((1, 1, 1, 1), np.float32)})
    assert taken.grown < 2**26


def test_a_loop_without_end_is_ended():
    model = reader.read(endless())
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


def test_archives_of_zeros_are_refused(content):
    zeros = archive.MOST_BYTES + 1
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
    large = bytearray(with_archive(content, "more.txt", 2**26))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = large.rindex(signature) + place
        large[at : at + 4] = struct.pack("<I", 16)
    with Meter() as taken, pytest.raises(ValueError, match="cannot be read"):
        archive.appended_files(bytes(large))
    assert taken.grown < 2**22


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
    tables.show(
        Console(file=text, width=200),
        "[/y]",
        predict(model),
        Fixed(content=b"", done=("[/z]",), left=()),
        {0},
        every=True,
    )
    assert "[/x]\\x1b[2J" in text.getvalue()
    assert "Fixed: [/z]" in text.getvalue() and "[/y]: predicted" in text.getvalue()
    assert "\x1b" not in text.getvalue()


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/stdin"])
def test_what_may_never_end_is_not_read(device):
    with pytest.raises(ValueError, match=f"Cannot read {device}: it is not a regular file"):
        read_bytes(device)


def test_a_dense_archive_is_what_it_says():
    assert len(bz2.compress(bytes(2**26))) < 100  # Why bzip2 is refused: it may expand so.


class Closes:
    """Closes what its replies are written to, and lives on."""

    def __call__(self):
        os.closerange(3, 100)
        time.sleep(60)


def test_a_process_that_lives_on_without_replies_is_ended(monkeypatch):
    monkeypatch.setattr(isolation, "_LAST_SECONDS", 0.1)
    with Isolated(Closes) as closes, pytest.raises(ValueError, match="gave no reply that can be"):
        closes()


@pytest.mark.parametrize(("shape", "fed", "expected"), [(1, 1, 1), (1, 100, 100), (100, 100, 1)])
def test_the_batch_of_a_file_gives_it_no_time(shape, fed, expected, monkeypatch):
    run = runner.Runner(relu((shape, 4)), "reference")
    asked = []
    monkeypatch.setattr(runner, "restart_clock", asked.append)
    for _ in range(2):
        run({"image": np.zeros((fed, 4), np.float32)})
    assert asked == [expected, expected]
