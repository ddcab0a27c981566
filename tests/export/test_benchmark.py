"""Latency of several files over kernels and threads, as records, a table and a plot."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import random_graphs
from PIL import Image

from export.flatbuffer import reader, writer
from export.runtime import latency
from export.tools import benchmarking, latency_plot
from export.tools.benchmarking import Measurement


@pytest.fixture(name="files", scope="module")
def files_fixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = [folder / "one.tflite", folder / "two.tflite"]
    for seed, path in enumerate(paths):
        path.write_bytes(writer.to_flatbuffer(random_graphs.network(seed)))
    return list(map(str, paths))


def run(*arguments):
    command = [sys.executable, "-m", "export.benchmark", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_records_and_plot_of_two_files(files, tmp_path):
    plot = tmp_path / "latency.png"
    ran = run(
        *files, "--rounds=2", "--runs=3", "--threads=1,2", "--format=json", f"--plot={plot}",
        "--kernels=xnnpack", "--kernels=reference",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    records = json.loads(ran.stdout)
    assert [(row["model"], row["kernels"], row["threads"]) for row in records] == [
        (file, kernel_set, threads)
        for file in files
        for kernel_set in ("xnnpack", "reference")
        for threads in (1, 2)
    ]
    for row in records:
        assert len(row["milliseconds"]) == 6
        assert row["median"] == np.median(row["milliseconds"])
        assert 0 < min(row["milliseconds"]) <= row["low"] <= row["median"] <= row["high"]
        assert row["arena_bytes"] > 0
    with Image.open(plot) as image:
        assert image.format == "PNG" and min(image.size) > 400


def test_the_table_names_the_file_and_what_ran(files):
    ran = run(files[0], "--rounds=1", "--runs=1", "--threads=1", "--kernels=optimized")
    assert ran.returncode == 0, ran.stderr
    assert "latency in ms" in " ".join(ran.stdout.split()) and "1.00x" in ran.stdout
    (row,) = [line for line in ran.stdout.splitlines() if "optimized" in line]
    assert "KiB" in row


@pytest.mark.parametrize("threads", ["0", "two", ""])
def test_wrong_numbers_of_threads_are_a_sentence(files, threads):
    refused = run(files[0], f"--threads={threads}")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: --threads is ") and refused.stderr.count("\n") == 1


ROW = Measurement(
    model="a/model.tflite",
    kernel_set="xnnpack",
    threads=1,
    milliseconds=[1.0, 2.0, 3.0],
    arena_bytes=1,
    process_bytes=None,
    median=2.0,
    low=1.0,
    high=3.0,
)


def test_a_file_that_one_kernel_set_does_not_take_is_drawn_with_the_others(tmp_path):
    reference = dataclasses.replace(ROW, kernel_set="reference")
    other = dataclasses.replace(reference, model="b.tflite")
    latency_plot.draw([ROW, reference, other], str(tmp_path / "two.png"))
    assert (tmp_path / "two.png").stat().st_size > 1000


def test_one_file_alone_is_drawn(tmp_path):
    latency_plot.draw([ROW], str(tmp_path / "one.png"))
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"one\.png"):
        latency_plot.draw([ROW], str(tmp_path / "one.png" / "two.png"))


def test_tensors_far_from_the_arena_do_not_stretch_it():
    """Outputs of dynamic size and converted constants are allocated by themselves."""
    assert latency.arena_span([]) == 0
    assert latency.arena_span([(64, 128), (0, 64), (32, 96)]) == 128
    assert latency.arena_span([(0, 100), (110, 200)]) == 200  # A gap of alignment.
    assert latency.arena_span([(0, 100), (44 * 10**12, 44 * 10**12 + 50)]) == 150


def test_a_model_is_measured_with_the_kernels_that_run_it(monkeypatch):
    def start(factory, content, constants, kernel_set, threads):
        if kernel_set == "reference":
            raise ValueError("the interpreter died on this file: SIGABRT")
        return isolated(factory, content, constants, kernel_set, threads)

    isolated = benchmarking.Isolated
    monkeypatch.setattr(benchmarking, "Isolated", start)
    model = reader.read(writer.to_flatbuffer(random_graphs.one_operator("conv", 0)))
    sets = ("xnnpack", "reference")
    measured, problems = benchmarking.measure({"a": model}, sets, [1], rounds=1, runs=1)
    assert [row.kernel_set for row in measured] == ["xnnpack"]
    assert problems == ["a does not run with reference: the interpreter died on this file: SIGABRT"]
    with pytest.raises(ValueError, match="a does not run with reference: the interpreter died"):
        benchmarking.measure({"a": model}, ["reference"], [1], rounds=1, runs=1)
