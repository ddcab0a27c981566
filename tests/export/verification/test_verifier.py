"""Verification passes the exported file and refuses any other in one sentence."""

import dataclasses
import io
import types

import numpy as np
import pytest
from rich.console import Console

import export
import wrpn_tf
from benchmarks import fuzz_tflite
from export.flatbuffer import editing, reader, writer
from export.verification.verifier import verify
from export.verification.workdir import Workdir
from wrpn_tf import datasets


@pytest.fixture(name="training", scope="module")
def training_fixture():
    """What verification asks of a workdir, for a network that saw a few digits, and its file."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    data = datasets.load("digits")
    model = wrpn_tf.models.build("digits_cnn", num_classes=10, input_shape=(8, 8, 1))
    model = wrpn_tf.quantize_model(model, 2, 4, input_range=data.input_range)
    wrpn_tf.calibrate(model, [data.normalize(data.train_images[:64])])
    export.settle(model)
    graph = export.realize(export.lower(model))
    few = dataclasses.replace(
        data, test_images=data.test_images[:20], test_labels=data.test_labels[:20]
    )
    workdir = types.SimpleNamespace(
        model=model, graph=lambda weights: graph, load_data=lambda data_dir: few
    )
    return workdir, writer.to_flatbuffer(graph)


def failures(training, file):
    """What verification finds wrong, or the sentence it refuses the file with."""
    try:
        quiet = Console(file=io.StringIO())
        return list(verify(training, file, images=5, console=quiet).failures)
    except ValueError as error:
        return [str(error)]


def test_the_exported_file_is_verified(training):
    assert failures(*training) == []


def rename(which):
    def change(parsed):
        graph = parsed.subgraphs[0]
        index = {"input": graph.inputs[0], "output": graph.outputs[0]}.get(which)
        index = graph.operators[0].outputs[0] if index is None else index
        graph.tensors[index].name = b"other"

    return change


def cut_last_operator(parsed):
    graph = parsed.subgraphs[0]
    graph.operators = graph.operators[:-1]
    graph.outputs = graph.operators[-1].outputs
    parsed.signatureDefs = []


def regrid(parsed):
    graph = parsed.subgraphs[0]
    graph.tensors[graph.outputs[0]].quantization.scale = [1.0]


def reshape(parsed):
    graph = parsed.subgraphs[0]
    graph.tensors[graph.inputs[0]].shape = [1, 4, 16, 1]


def flip_code(parsed):
    graph = parsed.subgraphs[0]
    kernel = parsed.buffers[graph.tensors[graph.operators[-1].inputs[1]].buffer]
    kernel.data = np.asarray(kernel.data) ^ 64


def move_bias(parsed):
    graph = parsed.subgraphs[0]
    bias = parsed.buffers[graph.tensors[graph.operators[-1].inputs[2]].buffer]
    bias.data = (np.frombuffer(bytes(bias.data), "<i4") + 4000).view(np.uint8)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (rename("input"), "its inputs are 'other', not 'image'"),
        (rename("output"), "its outputs are 'other', not 'logits'"),
        (rename("first"), "it has no tensor "),
        (cut_last_operator, "its outputs are "),
        (regrid, "its tensor 'logits' has another scale or zero point"),
        (reshape, "its tensor 'image' is INT8 [1, 4, 16, 1], not INT8 [1, 8, 8, 1]"),
        (flip_code, "Wrong constant: logits (other codes)."),
        (move_bias, "logits differs from the executor in "),
    ],
)
def test_another_file_is_refused_in_a_sentence(training, change, sentence):
    workdir, file = training
    found = failures(workdir, editing.edit(reader.read(file), change))
    assert found and sentence in found[0], found


def test_malformed_files_are_sentences(training):
    workdir, file = training
    random = np.random.default_rng(0)
    for _ in range(25):
        mutation = fuzz_tflite.mutate(file, random)
        assert all(sentence for sentence in failures(workdir, mutation))


def test_a_folder_without_a_training_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not the workdir of a finished training"):
        Workdir.load(tmp_path)
