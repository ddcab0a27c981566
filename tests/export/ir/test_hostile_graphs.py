"""Saved graphs that are small and ask for much, or are of the wrong types: one sentence each."""

import bz2
import dataclasses
import io
import itertools
import json
import lzma
import re
import time
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import random_graphs
import small_networks
from rich.console import Console

import export
from benchmarks import fuzz_graphs
from benchmarks.fuzzing import Meter
from export.c99 import generator
from export.ir import geometry, packed_kernels
from export.ir.graph import IntegerGraph
from export.ir.operators import Conv2D, Pool2D
from export.ir.provenance import TRAINED
from export.ir.saving import load, save
from export.ir.tensors import Tensor
from export.kernel_sets import ideal
from export.proof import report
from export.realization import accumulator_range
from wrpn_tf import QuantizationParameters
from wrpn_tf.terminal import cell, printable

GRID = QuantizationParameters(scale=0.5, low=-128, high=127, bits=8)
HOSTILE = ("*/ static int hostile; /*", "*\\\n/ static int hostile;", "[/x]", "\x1b[2J", "\u202e")


@pytest.fixture(name="file", scope="module")
def file_fixture(tmp_path_factory) -> Path:
    """A trained graph."""
    path = tmp_path_factory.mktemp("graphs") / "graph.npz"
    model = small_networks.quantize(small_networks.network(0), 0)
    save(export.realize(export.lower(model)), path)
    return path


def changed(file: Path, path: Path, change) -> Path:
    """The graph of a file with another structure."""
    structure, arrays = fuzz_graphs.read_parts(file)
    change(structure, arrays)
    np.savez_compressed(path, graph=np.array(json.dumps(structure)), **arrays)
    return path


def test_a_few_hundred_mutations(file):
    old = Path(__file__).parent / "version1.wrpn"
    found = fuzz_graphs.fuzz([file, old], 300)
    assert found.failures == found.over == []
    assert sum(found.counts.values()) == 300
    assert found.counts["refused when loaded"] < 300


def with_member(file, name, data, kind=zipfile.ZIP_DEFLATED):
    content = io.BytesIO(file.read_bytes())
    with zipfile.ZipFile(content, "a", kind) as archive:
        archive.writestr(name, data)
    return content.getvalue()


def test_what_expands_is_refused_before_it_does(file, tmp_path, monkeypatch):
    monkeypatch.setattr("export.ir.saving.MOST_BYTES", 2**24)
    zeros = bytes(2**27)
    graph = tmp_path / "graph"
    for content in (
        lzma.compress(zeros),
        lzma.compress(bytes(2**23)) * 3,
        with_member(file, "zeros.npy", zeros),
        with_member(file, "zeros.npy", bz2.compress(zeros), zipfile.ZIP_BZIP2),
    ):
        graph.write_bytes(content)
        with Meter() as taken, pytest.raises(ValueError, match=f"{graph} "):
            load(graph)
        assert len(content) < 2**18 and taken.grown < 2**26


@pytest.mark.parametrize(
    "shape", [(2**40,), (2**31, 2**31), (2**62, 4), (-1,), (-(2**40), -1), (0, 2**63), ()]
)
def test_headers_are_checked_before_memory_is_taken(shape, file, tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|i1", "fortran_order": False, "shape": shape}
    )
    graph = tmp_path / "graph"
    graph.write_bytes(with_member(file, "999.npy", header.getvalue() + bytes(64)))
    with Meter() as taken, pytest.raises(ValueError, match="is not a saved integer graph"):
        load(graph)
    assert taken.grown < 2**23


def at(*keys, value):
    """Puts a value where the keys lead to."""

    def change(structure, arrays):
        for key in keys[:-1]:
            structure = structure[key]
        structure[keys[-1]] = value

    return change


def renamed(new):
    def change(structure, arrays):
        fuzz_graphs.rename(structure, structure["inputs"][0], new)

    return change


WRONG = {
    "an axis of text": at("operators", 0, "relu", value="yes"),
    "strides of more": at("operators", 0, "strides", value=[1, 1, 1]),
    "strides of 64 bits": at("operators", 0, "strides", value=[2**40, 1]),
    "strides of 0": at("operators", 0, "strides", value=[0, 1]),
    "a multiplier of 0": at("operators", 0, "code_multiplier", value=0),
    "a multiplier of 128": at("operators", 0, "code_multiplier", value=128),
    "bits of a weight": at("operators", 0, "bits", value=2**30),
    "no inputs": at("operators", 0, "inputs", value=None),
    "an unknown operator": at("operators", 0, "type", value="Lambda"),
    "an operator that is a list": at("operators", 0, value=[]),
    "a type that is a list": at("operators", 0, "type", value=[]),
    "operators that are a number": at("operators", value=7),
    "a shape of 2**62": at("tensors", "image", "shape", value=[1, 2**31, 2**31, 1]),
    "a large shape": at("tensors", "image", "shape", value=[1, 20_000, 20_000, 1]),
    "many dimensions": at("tensors", "image", "shape", value=[1] * 40),
    "a shape of reals": at("tensors", "image", "shape", value=[1.0, 6.0]),
    "a scale of infinity": at("tensors", "image", "quantization", "scale", value=float("inf")),
    "a scale beyond float32": at("tensors", "image", "quantization", "scale", value=1e300),
    "a scale whose codes are beyond float32": at(
        "tensors", "image", "quantization", "scale", value=2.0**121
    ),
    "a normalization beyond float32": at(
        "metadata", value={"normalization": {"image": {"mean": [1e300], "std": [1.0]}}}
    ),
    "a scale of text": at("tensors", "image", "quantization", "scale", value="1"),
    "a range of 2**31": at("provenance", "quantization", "image", "high", value=2**31 - 1),
    "trained bits": at("provenance", "quantization", "image", "bits", value=10**6),
    "layers that are numbers": at("provenance", "layers", "image", value=3),
    "labels that are numbers": at("metadata", value={"labels": [1, 2]}),
    "labels that are text": at("metadata", value={"labels": 3}),
    "a normalization of text": at("metadata", value={"normalization": {"image": "x"}}),
    "a version that is a list": at("format_version", value=[2]),
    "a long name": renamed("n" * 1025),
    "a name that is no Unicode": renamed("\ud800"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_values_are_a_sentence(case, file, tmp_path):
    wrong = changed(file, tmp_path / "graph.npz", WRONG[case])
    with Meter() as taken, pytest.raises(ValueError, match=str(wrong)) as caught:
        load(wrong)
    assert "\n" not in str(caught.value)
    assert taken.grown < 2**23 and taken.seconds < 5


def test_json_without_end_is_a_sentence(file, tmp_path):
    structure, arrays = fuzz_graphs.read_parts(file)
    text = json.dumps(structure | {"metadata": 0}).replace("0", "[" * 100_000 + "]" * 100_000, 1)
    np.savez_compressed(tmp_path / "graph.npz", graph=np.array(text), **arrays)
    with pytest.raises(ValueError, match="is not a saved integer graph"):
        load(tmp_path / "graph.npz")


def test_bits_of_version_1_are_bounded(tmp_path):
    structure, arrays = fuzz_graphs.read_parts(Path(__file__).parent / "version1.npz")
    structure["tensors"]["image"]["bits"] = 2**31 - 1
    np.savez_compressed(tmp_path / "graph.npz", graph=np.array(json.dumps(structure)), **arrays)
    with Meter() as taken, pytest.raises(ValueError, match="is not a saved integer graph"):
        load(tmp_path / "graph.npz")
    assert taken.seconds < 5


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e40])
def test_trained_numbers_are_those_of_a_training(value, file, tmp_path):
    def change(structure, arrays):
        name = next(name for name in arrays if name.endswith(".trained"))
        arrays[name]["offset"][0] = value
        if value == 1e40:
            arrays[name]["variance"][0] = 0.0

    wrong = changed(file, tmp_path / "graph.npz", change)
    with pytest.raises(ValueError, match="what was trained is not finite, or a variance"):
        load(wrong)


def test_thresholds_are_found_however_far_the_first_guess_is():
    """An offset that swallows the slope: float64 is off by 2**40 accumulators."""
    trained = np.zeros(1, TRAINED)
    trained["scale"], trained["gain"], trained["variance"] = 2.0**-40, 1.0, 1.0
    trained["shift"], trained["offset"] = 2.0**50, -(2.0**50) + 2.0**-3
    start = time.monotonic()
    (found,) = ideal.thresholds(trained, 1.0, 1.0, np.array([1]))[0]
    channel = ideal.Channel(trained[0], 1.0)
    assert channel.reaches(int(found), Fraction(1, 2))
    assert not channel.reaches(int(found) - 1, Fraction(1, 2))
    assert time.monotonic() - start < 1
    for guess in (0, 1, int(found) - 5, int(found), int(found) + 10**9):
        assert channel.threshold(Fraction(1, 2), guess) == found


def test_window_counts_are_those_of_the_windows():
    axes = itertools.product(range(1, 9), range(1, 10), range(1, 5), ("SAME", "VALID"))
    for size, window, stride, padding in axes:
        if geometry.output_size(size, window, stride, 1, padding) < 1:
            continue
        ones = np.ones((1, size, 1, 1), np.int64)
        view = geometry.windows(ones, (window, 1), (stride, 1), (1, 1), padding, 0)
        expected = np.unique(view.sum(axis=(4, 5))).tolist()
        assert geometry.window_counts(size, window, stride, padding).tolist() == expected


def pooled(size: int, window: int) -> IntegerGraph:
    grids = {"x": GRID, "y": GRID}
    pool = Pool2D(inputs=("x",), output="y", kind="average", window=(window,) * 2, strides=(1, 1))
    places = size - window + 1
    graph = IntegerGraph(
        tensors={
            "x": Tensor(shape=(1, size, size, 1), quantization=GRID),
            "y": Tensor(shape=(1, places, places, 1), quantization=GRID),
        },
        operators=[pool],
        inputs=("x",),
        outputs=("y",),
    )
    provenance = dataclasses.replace(graph.provenance, quantization=grids)
    return dataclasses.replace(graph, provenance=provenance)


def test_an_average_of_many_pixels_does_not_hang_the_proof():
    with Meter() as taken:
        assert export.prove(pooled(16_000, 5)).operators[1].cases == 25 * 255 + 1
        with pytest.raises(ValueError, match="'y': its windows have more than 1,073,741,824 sums"):
            export.prove(pooled(16_000, 8_000))
    assert taken.grown < 2**25 and taken.seconds < 10


def test_channels_with_gaps_are_bounded(monkeypatch):
    monkeypatch.setattr(accumulator_range, "_MOST_HELD", 245)
    codes = np.arange(100, 104, dtype=np.int8)[None]
    with pytest.raises(ValueError, match="1 channels have too many gaps"):
        accumulator_range.AccumulatorRange(codes, 0, 7)


def named(name: str) -> IntegerGraph:
    """A graph whose tensors all have a hostile name."""
    graph = random_graphs.network(0)
    new = {old: f"{name}{number}" for number, old in enumerate(graph.tensors)}
    operators = [
        dataclasses.replace(
            each, inputs=tuple(new[old] for old in each.inputs), output=new[each.output]
        )
        for each in graph.operators[:5]
    ]
    output = operators[-1].output
    tensors = {new[old]: tensor for old, tensor in graph.tensors.items()}
    known = {*(new[old] for old in graph.inputs), *(each.output for each in operators)}
    return dataclasses.replace(
        graph,
        tensors={each: tensor for each, tensor in tensors.items() if each in known},
        operators=operators,
        inputs=tuple(new[old] for old in graph.inputs),
        outputs=(output,),
        metadata={},
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_comments_in_c_and_no_code(name):
    source = generator.generate(named(name), "network")
    for text in (source.header, source.body):
        assert text.isascii() and text.isprintable() is False  # Lines, and nothing else.
        assert re.search(r"[^\n -~]", text) is None
        without_strings = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
        without = re.sub(r"/\*.*?\*/", "", without_strings, flags=re.DOTALL)
        assert "hostile" not in without and "*/" not in without
        assert "/*" not in without


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_in_tables(name, file, tmp_path):
    path = changed(file, tmp_path / "graph.npz", renamed(name))
    console = Console(file=io.StringIO(), width=200)
    graph = load(path)
    outputs = {each.output: f"{name}{i}" for i, each in enumerate(graph.operators)}
    proof = export.prove(graph)
    rows = [
        dataclasses.replace(row, name=outputs.get(row.name, row.name)) for row in proof.operators
    ]
    report.show(dataclasses.replace(proof, operators=tuple(rows)), console)
    shown = console.file.getvalue()
    assert printable(name) in shown
    assert "\x1b" not in shown and "\u202e" not in shown


def test_printable():
    assert printable("é 雪\x1b[31m\n\u202e\ud800") == "é 雪\\x1b[31m\\n\\u202e\\ud800"
    assert printable("one\ntwo\x07", keep="\n") == "one\ntwo\\x07"
    assert cell("[red]x[/]:smile:").plain == "[red]x[/]:smile:"


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**100])
def test_pairs_of_any_scale_are_proven_or_refused(scale):
    """As trained, one step of an input is 2**100 output steps, or as many the other way."""
    graph = random_graphs.one_operator("add", 0)
    known = {name: tensor.quantization for name, tensor in graph.tensors.items()}
    name = graph.inputs[0]
    known[name] = dataclasses.replace(known[name], scale=scale)
    provenance = dataclasses.replace(graph.provenance, quantization=known)
    proof = export.prove(dataclasses.replace(graph, provenance=provenance))
    assert proof.operators[0].problems  # The scale is not that of the training.
    assert proof.operators[-1].cases == 256 * 256


@pytest.mark.parametrize("part", packed_kernels.FIELDS)
def test_packed_kernels_are_of_integers(part):
    fields = {
        "alphabet": np.array([-1, 0, 1], np.int8),
        "alive": np.packbits(np.array([1], np.uint8)),
        "digits": np.array([5], np.uint64),
        "shape": np.array([1, 1, 1, 2]),
    }
    assert packed_kernels.unpack(fields, Conv2D, 2).size == 2
    fields[part] = fields[part].astype(complex)
    with pytest.raises(ValueError, match=f"packed kernel whose {part} are no integers"):
        packed_kernels.unpack(fields, Conv2D, 2)
