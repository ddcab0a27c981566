"""Arm Ethos-U: placement, code lengths and refusals of the real compiler."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import random_graphs
import small_networks

import export
import wrpn_tf
from benchmarks import devices
from export.ethos_u import compiler, remedies, tables
from export.ethos_u.compiler import Layer
from export.flatbuffer import editing, reader, writer

needs_vela = pytest.mark.skipif(
    not compiler.is_installed(), reason="no ethos-u-vela: it comes with the extra dev or devices"
)
U55 = ("ethos-u55-256", "Ethos_U55_Deep_Embedded", "Shared_Sram")


def digits_cnn(weight_bits, activation_bits=4, **options):
    model = wrpn_tf.models.build("digits_cnn", num_classes=10, input_shape=(8, 8, 1))
    model = wrpn_tf.quantize_model(
        model, weight_bits, activation_bits, input_range=(0.0, 1.0), **options
    )
    wrpn_tf.calibrate(model, [np.random.default_rng(0).random((16, 8, 8, 1), np.float32)])
    return export.realize(export.lower(model))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Networks with 8 and 2 bits as files."""
    folder = tmp_path_factory.mktemp("files")
    paths = []
    for bits in (8, 2):
        paths.append(folder / f"w{bits}.tflite")
        paths[-1].write_bytes(writer.to_flatbuffer(digits_cnn(bits)))
    return paths


def program(*words):
    command = [sys.executable, "-m", "export.ethosu", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


@needs_vela
def test_few_bits_are_few_bytes(files):
    wide, narrow = (compiler.compile_model(reader.read_path(path), *U55) for path in files)
    assert wide.on_cpu == narrow.on_cpu == []
    assert wide.weights == narrow.weights == 10_336  # 144 + 144 + 512 + 9,216 + 320
    assert narrow.encoded_bytes < wide.encoded_bytes / 3
    assert narrow.outside_bytes < wide.outside_bytes / 2
    assert narrow.seconds < wide.seconds and narrow.cycles < wide.cycles
    assert wide.sram_bytes == narrow.sram_bytes > 0
    (layer,) = (each for each in narrow.layers if each.output == "bn3")
    assert (layer.operator, layer.weights, layer.on_npu) == ("CONV_2D", 9216, True)
    assert layer.entropy < np.log2(3) and layer.entropy < layer.bits < 1.1 * layer.entropy
    assert sum(each.encoded_bytes for each in narrow.layers) == narrow.encoded_bytes
    # What estimates of layers leave out: the first starts when the commands have been read.
    assert 0.8 < sum(each.cycles for each in narrow.layers) / narrow.cycles <= 1


@needs_vela
def test_the_program_shows_files_side_by_side(files):
    shown = program(*files, "--layers")
    assert shown.returncode == 0, shown.stderr
    for text in ("bits a weight", "entropy of a weight", "10,336", "Ethos_U55_Deep_Embedded"):
        assert text in shown.stdout
    assert tables.ESTIMATE in shown.stdout.replace("\n", " ")
    shown = program(*files, "--json", "--accelerator=ethos-u85-256")
    records = json.loads(shown.stdout)
    assert [record["npu_operators"] for record in records] == [8, 8]
    assert records[1]["encoded_bytes"] < records[0]["encoded_bytes"]
    assert records[0]["system"] == "Ethos_U85_SYS_Flash_High"
    assert "estimate" in records[0]["basis"]


@needs_vela
def test_what_stays_on_the_cpu_is_said_with_the_remedy(tmp_path):
    model = small_networks.quantize(small_networks.decoder(1), 1, weight_bits=2, activation_bits=4)
    path = tmp_path / "decoder.tflite"
    path.write_bytes(writer.to_flatbuffer(export.realize(export.lower(model))))
    compiled = compiler.compile_model(reader.read_path(path), *U55)
    kinds = {layer.operator for layer in compiled.on_cpu}
    assert kinds == {"RESIZE_BILINEAR", "TRANSPOSE_CONV"}
    assert all(layer.reason for layer in compiled.on_cpu)
    assert "unsupported stride combination" in " ".join(each.reason for each in compiled.on_cpu)
    shown = program(path)
    assert shown.returncode == 1
    text = " ".join(shown.stdout.split())
    assert "Unsupported stride combination: (1,2). Use strides of 1x1 or 2x2" in text


@needs_vela
def test_names_do_not_change_what_is_read(files):
    """Vela's reports are CSV and lines of text, keyed by name."""
    model = reader.read_path(files[1])
    plain = compiler.compile_model(model, *U55)
    hard = ['a,b"c', "x', y", "two\nlines"]
    names = dict(zip([layer.output for layer in plain.layers], hard, strict=False))
    assert len(names) == len(hard)

    def rename(parsed):
        for tensor in parsed.subgraphs[0].tensors:
            tensor.name = names.get(tensor.name.decode(), tensor.name)

    renamed = compiler.compile_model(reader.read(editing.edit(model, rename)), *U55)
    for one, other in zip(renamed.layers, plain.layers, strict=True):
        assert one.output == names.get(other.output, other.output)
        assert dataclasses.replace(one, output=other.output) == other


@needs_vela
def test_int4_is_refused_in_a_sentence(tmp_path):
    graph = export.realize(
        export.lower(
            small_networks.quantize(small_networks.network(3), 3, weight_bits=2, activation_bits=4)
        ),
        weights="int4",
    )
    path = tmp_path / "int4.tflite"
    path.write_bytes(writer.to_flatbuffer(graph))
    shown = program(path)
    assert shown.returncode and "Traceback" not in shown.stderr
    assert "it holds INT4 weights, which end Vela with a division by zero" in shown.stderr


def test_files_of_other_compilers_are_refused(files):
    model = reader.read_path(files[0])
    for name, sentence in (
        ("ethos-u", "compiled for Ethos-U already"),
        ("TFLM_DECODE", "look-up tables for TensorFlow Lite Micro"),
    ):
        operator = dataclasses.replace(model.main.operators[0], code=32, name=name)
        graph = dataclasses.replace(model.main, operators=(operator, *model.main.operators[1:]))
        with pytest.raises(ValueError, match=sentence):
            compiler.check(dataclasses.replace(model, subgraphs=(graph,)))


def test_what_vela_does_not_compile_is_a_sentence(files, tmp_path):
    model = reader.read_path(files[0])
    first = model.main.tensors[0].name
    for program, sentence in (
        ("import sys; sys.exit('tensor_0_ is wrong')", f"does not compile this file: {first} is w"),
        ("import os; os.abort()", "died on this file: SIGABRT"),
    ):
        with pytest.raises(ValueError, match=f"^Vela {sentence}"):
            compiler._run([sys.executable, "-c", program], str(tmp_path), model)


@needs_vela
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("ethos-u55-32", None, None), ("Ethos_U55_Deep_Embedded", "Shared_Sram")),
        (
            ("ethos-u65-512", "Client_Server", None),
            ("Ethos_U65_Client_Server", "Dedicated_Sram_384KB"),
        ),
        (("ethos-u65-256", "Embedded", "Sram_Only"), ("Ethos_U65_Embedded", "Sram_Only")),
        (
            ("ethos-u85-256", "Ethos_U85_SYS_DRAM_Mid", None),
            ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
        ),
    ],
)
def test_names_of_systems(words, found):
    assert compiler.target(*words) == found


@needs_vela
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ethos-u9", None, None), "--accelerator is one of ethos-u55-32"),
        (("ethos-u55-256", "Client_Server", None), "--system of ethos-u55-256 is one of Ethos_U55"),
        (("ethos-u55-256", None, "Flash"), "--memory is one of Sram_Only"),
    ],
)
def test_unknown_names_are_sentences(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        compiler.target(*words)


def test_entropy():
    assert compiler.entropy(np.zeros(0)) == 0
    assert compiler.entropy(np.zeros(7)) == 0
    assert compiler.entropy(np.array([0, 1, 2, 3])) == 2
    assert compiler.entropy(np.array([0, 0, 1, 2])) == 1.5


def test_remedies():
    layer = Layer(
        operator="ABS", output="x", on_npu=False, cycles=0, weights=0, encoded_bytes=0, entropy=0.0
    )
    assert "supported-ops-report" in remedies.remedy(layer)
    layer = dataclasses.replace(layer, reason="Tensors must be one of ..., not Float32")
    assert "Give it integers" in remedies.remedy(layer)
    assert layer.bits == 0


def test_without_the_package_there_is_a_sentence(monkeypatch, files):
    monkeypatch.setattr(compiler, "is_installed", lambda: False)
    with pytest.raises(ValueError, match="the package ethos-u-vela is not installed"):
        compiler.target(*U55)
    with pytest.raises(ValueError, match="the package ethos-u-vela is not installed"):
        compiler.compile_model(reader.read_path(files[0]), *U55)


@needs_vela
@pytest.mark.parametrize("kind", ["conv", "dense", "add", "max", "reshape"])
def test_operators_of_random_graphs_are_placed(kind):
    content = writer.to_flatbuffer(random_graphs.one_operator(kind, 0))
    compiled = compiler.compile_model(reader.read(content), *U55)
    assert len(compiled.layers) == 1


def test_the_table_of_devices(tmp_path):
    row = devices.Row(
        name="w2a2x2",
        network="digits_cnn on digits",
        width=2.0,
        weight_bits=2,
        activation_bits=2,
        accuracy=0.99,
        file_bytes=49_562,
        gzip_bytes=15_270,
        table_bytes=20_986,
        arena_bytes=7_562,
        encoded_bytes=8_944,
        entropy=1.63,
        flash_bytes=10_976,
        sram_bytes=2_560,
        milliseconds=dict.fromkeys(devices.TARGETS, 0.12),
    )
    lines = devices.table([row, row], []).splitlines()
    assert len({line.count("|") for line in lines}) == 1 and len(lines) == 4
    assert lines[2].startswith("| 2x | 2/2 | 99.00% | 49,562 | 15,270 | 20,986 | 7,562 | 8,944 | ")
    devices.draw([row], [], str(tmp_path / "devices.svg"))
    assert "</svg>" in (tmp_path / "devices.svg").read_text()
    for accelerator, system in devices.TARGETS.values():
        if compiler.is_installed():
            assert compiler.target(accelerator, system, None)[0].endswith(system)
