"""The runner for devices feeds and ranks as the exporter does, in a process of its own."""

import dataclasses
import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tf_keras as keras
from PIL import Image
from tf_keras import layers

import export
import wrpn_tf
from export.flatbuffer import reader, writer
from export.flatbuffer.borders import with_borders
from export.flatbuffer.metadata_reader import read_metadata
from export.tools import classifier

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "examples" / "classify.py"
LABELS = ("ant", "bee", "cow", "dog", "elk")
SIZE = 16
RANGES = {"pixel / 128": (0.0, 255 / 128), "from -1 to 1": (-1.0, 1.0), "wide": (-2.0, 127 / 64)}


@pytest.fixture(name="classify", scope="module")
def classify_fixture():
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("classify", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exported(channels, input_range=(-1.0, 1.0), names=("image",)):
    """The integer graph of a small network with random weights; several images are added up."""
    random = np.random.default_rng(channels)
    images = [keras.Input((SIZE, SIZE, channels), name=name) for name in names]
    x = [layers.Conv2D(8, 3, strides=2, activation="relu")(image) for image in images]
    x = layers.Add()(x) if len(x) > 1 else x[0]
    x = layers.Dense(len(LABELS), name="logits")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(images, x)
    model.set_weights([random.normal(0, 1, weight.shape) for weight in model.get_weights()])
    model = wrpn_tf.quantize_model(model, 2, 4, input_range=input_range)
    batch = [random.uniform(*input_range, (8, SIZE, SIZE, channels)) for _ in names]
    batch = [array.astype(np.float32) for array in batch]
    wrpn_tf.calibrate(model, [batch if len(batch) > 1 else batch[0]])
    return export.realize(export.lower(model, {"labels": list(LABELS)}))


def run(*arguments):
    command = [sys.executable, str(PROGRAM), *map(str, arguments), "--cpu"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_ranks_a_png_as_the_executor_does(channels, tmp_path):
    graph = exported(channels)
    model, picture = tmp_path / "model.tflite", tmp_path / "picture.png"
    model.write_bytes(writer.to_flatbuffer(graph))
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, channels)).astype(np.uint8)
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(picture)
    codes = (pixels.astype(np.int16) - 128).astype(np.int8)[None]
    (scores,) = export.execute(graph, {"image": codes}, "xnnpack")["logits"]
    grid = graph.tensors["logits"].quantization
    logits = (scores.astype(np.float32) - grid.zero_point) * np.float32(grid.scale)
    order = np.argsort(-logits)
    ran = run(model, picture, f"--top={len(LABELS)}")
    assert ran.returncode == 0, ran.stderr
    *ranking, timing = ran.stdout.splitlines()
    assert ranking == [f"{logits[index]:8.3f}  {LABELS[index]}" for index in order]
    assert timing.endswith(" ms on the CPU")


@pytest.mark.parametrize("input_range", RANGES.values(), ids=RANGES)
def test_it_and_the_exporter_feed_pixels_as_training_did(classify, input_range):
    graph = exported(1, input_range)
    content = writer.to_flatbuffer(graph)
    pixels = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(1, SIZE, SIZE, 1)
    expected = pixels.astype(np.int16) - 128
    grid = graph.tensors["image"].quantization
    source = {
        "shape": (1, SIZE, SIZE, 1),
        "dtype": np.int8,
        "quantization": (grid.scale, grid.zero_point),
    }
    normalization = classify.read_normalization(content)
    fed = classify.encode(Image.fromarray(pixels[0, ..., 0]), source, *normalization)
    assert fed.dtype == np.int8 and np.array_equal(fed, expected)
    description = classifier.interface(reader.read(content))
    assert np.array_equal(description.encode(pixels), expected)
    assert list(map(list, normalization)) == list(map(list, description.normalization))
    assert graph.metadata["normalization"].keys() == {"image"}


def test_normalization_belongs_to_each_input(classify, tmp_path):
    graph = exported(3, names=("left", "right"))
    graph.metadata["normalization"] = {
        "left": {"mean": [1.0], "std": [2.0]},
        "right": {"mean": [3.0], "std": [4.0]},
    }
    for names in (graph.inputs, graph.inputs[::-1]):
        content = writer.to_flatbuffer(dataclasses.replace(graph, inputs=names))
        first = graph.metadata["normalization"][names[0]]
        metadata = read_metadata(reader.read(content))
        assert (list(metadata.mean), list(metadata.std)) == (first["mean"], first["std"])
        mean, std = classify.read_normalization(content)
        assert (list(mean), list(std)) == (first["mean"], first["std"])
    with pytest.raises(ValueError, match="the model has 2 inputs"):
        classifier.interface(reader.read(content))
    model, picture = tmp_path / "model.tflite", tmp_path / "picture.png"
    model.write_bytes(content)
    Image.new("RGB", (SIZE, SIZE)).save(picture)
    refused = run(model, picture)
    assert refused.returncode == 1
    sentence = f"error: {model} does not take one image [1, height, width, 1 or 3]\n"
    assert refused.stderr.endswith(sentence)  # after what LiteRT reports


def test_wrong_files_are_a_sentence(tmp_path):
    text, picture = tmp_path / "text", tmp_path / "picture.png"
    text.write_text("text", encoding="utf-8")
    Image.new("L", (8, 8)).save(picture)
    for arguments, word in (
        ((text, picture), "is not a .tflite file"),
        ((tmp_path / "missing", picture), "No such file"),
        ((text, text), "cannot identify image file"),
    ):
        refused = run(*arguments)
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: ") and word in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_frames_of_a_camera_rank_alike_with_every_type_of_file(tmp_path):
    graph = exported(3)
    labels = ("ant\x1b[31m", "\u202ebee", *LABELS[2:])
    graph = dataclasses.replace(graph, metadata=graph.metadata | {"labels": list(labels)})
    frame = np.random.default_rng(1).integers(0, 256, (24, 40, 3)).astype(np.uint8)
    frame[:, :8], frame[:, -8:] = 0, 255  # What --crop cuts off.
    Image.fromarray(frame).save(tmp_path / "frame.png")
    Image.fromarray(frame[:, 8:-8]).save(tmp_path / "middle.png")
    ranked = []
    for io in ("uint8", "int8", "float32"):
        model = tmp_path / f"{io}.tflite"
        model.write_bytes(with_borders(writer.to_flatbuffer(graph), io))
        done = run(model, tmp_path / "frame.png", "--crop", "--top=5")
        assert done.returncode == 0, done.stderr
        ranked.append(done.stdout.splitlines()[:-1])
    middle = run(tmp_path / "uint8.tflite", tmp_path / "middle.png", "--top=5")
    whole = run(tmp_path / "uint8.tflite", tmp_path / "frame.png", "--top=5")
    assert ranked[0] == ranked[1] == ranked[2] == middle.stdout.splitlines()[:-1]
    assert whole.stdout.splitlines()[:-1] != ranked[0]
    names = {line.split(maxsplit=1)[1] for line in ranked[0]}
    assert names == {"ant\\x1b[31m", "\\u202ebee", *LABELS[2:]}


def test_a_gray_picture_feeds_colors_and_a_colored_one_gray(classify):
    pixels = np.random.default_rng(2).integers(0, 256, (9, 16)).astype(np.uint8)
    source = {"shape": np.array([1, 16, 16, 3]), "quantization": (1.0, -128), "dtype": np.int8}
    mean, std = np.zeros(1, np.float32), np.ones(1, np.float32)
    for crop in (False, True):
        codes = classify.encode(Image.fromarray(pixels), source, mean, std, crop=crop)
        assert codes.shape == (1, 16, 16, 3) and (codes == codes[..., :1]).all()
    gray = source | {"shape": np.array([1, 16, 16, 1])}
    rgba = Image.fromarray(pixels).convert("RGBA")
    assert (classify.encode(rgba, gray, mean, std, crop=True) == codes[..., :1]).all()
