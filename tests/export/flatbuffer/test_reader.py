"""Malformed files are one clear sentence in every tool, whatever LiteRT does with them."""

import subprocess
import sys

import pytest
import random_graphs

from benchmarks import fuzz_tflite
from export.flatbuffer import editing, reader, writer
from export.runtime.isolation import Isolated


@pytest.fixture(name="content", scope="module")
def content_fixture():
    return writer.to_flatbuffer(random_graphs.network(5))


def test_a_few_hundred_mutations(content):
    counts, failures = fuzz_tflite.fuzz([content], 300)
    assert failures == []
    assert counts["refused by the reader"] > 50
    assert sum(counts.values()) == 300


@pytest.mark.parametrize("data", [b"", b"text", b"\x1c\0\0\0TFL3" + bytes(100)])
def test_wrong_files(data):
    with pytest.raises(ValueError, match=r"not a (sound )?TFLite model"):
        reader.read(data)


def test_truncation_is_refused(content):
    for length in range(8, len(content) // 2, 997):
        with pytest.raises(ValueError, match="TFLite model"):
            reader.read(content[:length])


def test_constants_must_fill_their_shapes(content):
    def grow(parsed):
        kernel = parsed.subgraphs[0].tensors[parsed.subgraphs[0].operators[-1].inputs[0]]
        kernel.shape = [-1, *list(kernel.shape)[1:]]

    broken = editing.edit(reader.read(content), grow)
    with pytest.raises(ValueError, match="has the shape"):
        reader.read(broken)


class Dies:
    def __call__(self, how):
        import os
        import time

        if how == "sleep":
            time.sleep(60)
        os.abort()


def test_a_death_is_a_sentence():
    with Isolated(Dies) as dies, pytest.raises(ValueError, match="died on this file: SIGABRT"):
        dies("abort")
    with Isolated(Dies, seconds=8) as dies, pytest.raises(ValueError, match="within 8 seconds"):
        dies("sleep")


@pytest.mark.parametrize("program", ["edgetpu", "benchmark", "evaluate"])
def test_programs_refuse_in_one_line(program, content, tmp_path):
    file = tmp_path / "cut.tflite"
    file.write_bytes(content[:500])
    options = [f"--model={file}", "--folder=."] if program == "evaluate" else [str(file)]
    command = [sys.executable, "-m", f"export.{program}", *options]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert (
        refused.stderr == f"error: {file} is not a sound TFLite model: cut short or overwritten\n"
    )
