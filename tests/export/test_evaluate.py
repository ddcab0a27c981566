"""Accuracy over folders: images in, shares of right classes out, for every type of input."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from PIL import Image

import export
import wrpn_tf
from export.flatbuffer import reader, writer
from export.tools import classifier, images
from export.tools.evaluation import evaluate, labels_of_classes

COLORS = ("blue", "green", "red")  # In the order of the folders.
SIZE = 6
IMAGES = 12
WRONG = 3  # Images that are in a folder of another color.
PIXELS = ((0.0,), (1.0,))  # Real values that are pixels.


def color_images() -> tuple[np.ndarray, np.ndarray]:
    """Noise in which one color is the strongest, and that color's index in `COLORS`."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 100, (IMAGES, SIZE, SIZE, 3))
    colors = np.arange(IMAGES) % 3
    for image, color in zip(pixels, colors, strict=True):
        image[..., 2 - color] += 150
    return pixels.astype(np.uint8), colors


@pytest.fixture(name="folder", scope="module")
def folder_fixture(tmp_path_factory):
    """Class folders with PNGs, the first of which lie in the next color's folder."""
    root = tmp_path_factory.mktemp("photos")
    for color in COLORS:
        (root / color).mkdir()
    for number, (image, color) in enumerate(zip(*color_images(), strict=True)):
        home = COLORS[(color + (number < WRONG)) % 3]
        Image.fromarray(image).save(root / home / f"{number}.png")
    return root


def converted(kind: str, background: int = 0) -> reader.Model:
    """The strongest color, behind classes that never win, written by TFLite's converter."""
    weights = np.hstack([np.zeros((3, background)), np.eye(3)[::-1].T]).astype(np.float32)

    class Strongest(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, SIZE, SIZE, 3), tf.float32)])
        def __call__(self, image):
            return tf.reduce_mean(image, [1, 2]) @ weights

    module = Strongest()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.__call__.get_concrete_function()], module
    )
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        flat = np.ones((1, SIZE, SIZE, 3), np.float32)
        converter.representative_dataset = lambda: [[level * flat] for level in (0, 255)]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, kind)
    return reader.read(converter.convert())


@pytest.fixture(name="exported", scope="module")
def exported_fixture(tmp_path_factory):
    """The same network exported here, with labels in another order than the folders'."""
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, keras.layers.Dense(3, name="scores")(x))
    model.set_weights([np.eye(3), np.zeros(3)])
    model = wrpn_tf.quantize_model(model, 8, 8, input_range=(-1.0, 127 / 128))
    wrpn_tf.calibrate(model, [color_images()[0].astype(np.float32) / 128 - 1])
    file = tmp_path_factory.mktemp("models") / "strongest.tflite"
    graph = export.realize(export.lower(model, {"labels": ["red", "green", "blue"]}))
    file.write_bytes(writer.to_flatbuffer(graph))
    return file


@pytest.mark.parametrize("background", [0, 1])
@pytest.mark.parametrize("kind", ["float32", "uint8", "int8"])
def test_every_type_of_input(folder, kind, background):
    model = converted(kind, background)
    description = classifier.interface(model, PIXELS if kind == "float32" else None)
    assert description.dtype == kind
    data = images.from_folder(str(folder))
    mapping = labels_of_classes(description, data.class_names, background)
    assert mapping.tolist() == [-1] * background + [0, 1, 2]
    batches = data.batches(description.image_shape, "crop", 0.875, 5)
    seen = []
    found = evaluate(
        model.content, description, batches, mapping, processes=2, progress=seen.append
    )
    assert (found.images, found.top1, found.top5) == (IMAGES, 1 - WRONG / IMAGES, 1.0)
    assert [row.images for row in seen] == [5, 10, 12]


def run(*arguments):
    command = [sys.executable, "-m", "export.evaluate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_program_reads_the_metadata_and_prints_json(folder, exported):
    ran = run(f"--model={exported}", f"--folder={folder}", "--processes=2", "--format=json")
    assert ran.returncode == 0, ran.stderr
    record = json.loads(ran.stdout)
    assert record.pop("seconds") > 0
    assert record == {
        "model": str(exported),
        "data": str(folder),
        "images": IMAGES,
        "top1": 1 - WRONG / IMAGES,
        "top5": 1.0,
        "classes": 3,
        "label_offset": 0,
        "image_shape": [SIZE, SIZE, 3],
        "resize": "crop",
        "normalization": [[128.0], [128.0]],
        "crop_fraction": 0.875,
        "input": "int8",
        "kernels": "xnnpack",
        "processes": 2,
    }


def test_the_program_takes_a_float_model_with_a_background_class(folder, tmp_path):
    file = tmp_path / "float.tflite"
    file.write_bytes(converted("float32", 1).content)
    options = (f"--model={file}", f"--folder={folder}", "--label_offset=1", "--resize=squash")
    refused = run(*options)
    assert refused.returncode == 1 and "give --mean and --std" in refused.stderr
    ran = run(*options, "--mean=0", "--std=1", "--processes=1")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(
        f"{file} on {folder}: {IMAGES} images, top-1 {1 - WRONG / IMAGES:.2%}, top-5 100.00% ("
    )


def test_images_without_labels_have_no_accuracy(exported):
    file = reader.read_path(exported)
    pixels, _ = color_images()
    unlabelled = [(pixels, np.full(IMAGES, -1))]
    with pytest.raises(ValueError, match="an image has the label -1: this split has no labels"):
        evaluate(exported.read_bytes(), classifier.interface(file), unlabelled, np.arange(3))


def test_a_file_for_images_of_any_size_is_refused():
    class Mean(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, None, None, 3), tf.float32)])
        def __call__(self, image):
            return tf.reduce_mean(image, [1, 2])

    module = Mean()
    concrete = module.__call__.get_concrete_function()
    content = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module).convert()
    with pytest.raises(ValueError, match=r"images of any size, \[1, -1, -1, 3\]; give a file"):
        classifier.interface(reader.read(content), PIXELS)


def test_classes_are_named_or_counted(exported):
    description = classifier.interface(reader.read_path(exported))
    assert labels_of_classes(description, COLORS, 0).tolist() == [2, 1, 0]
    assert labels_of_classes(description, ("a", "b", "c"), 0).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="the model has 3 classes, the data set 2"):
        labels_of_classes(description, ("a", "b"), 0)


def test_classes_that_the_file_names_elsewhere_are_not_counted(exported):
    """One folder with another name, and the order of the others is not that of the file."""
    description = classifier.interface(reader.read_path(exported))
    first, second, third = description.labels
    assert labels_of_classes(description, (first, "other", third), 0).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=f"the class '{third}' at another position.* 'other'"):
        labels_of_classes(description, ("other", third, second), 0)


def fitted(folder, shape, resize, fraction=1.0):
    """The only image of a folder at another size."""
    ((pixels, _),) = images.from_folder(str(folder)).batches(shape, resize, fraction, 1)
    return pixels[0]


def test_crop_takes_the_middle_and_squash_all_of_an_image(tmp_path):
    wide = np.zeros((4, 16, 3), np.uint8)
    wide[:, :, 0] = 200
    wide[:, 6:10] = (0, 150, 0)
    home = tmp_path / "only"
    home.mkdir()
    Image.fromarray(wide).save(home / "wide.png")
    assert np.array_equal(fitted(tmp_path, (4, 4, 3), "crop"), wide[:, 6:10])
    squashed = fitted(tmp_path, (4, 4, 3), "squash")
    assert squashed[:, (0, -1), 0].min() > 150 and squashed[:, 1:3, 1].min() > 50
    assert np.array_equal(squashed, squashed[:, ::-1])
    assert np.array_equal(fitted(tmp_path, (2, 2, 3), "crop", 0.5), wide[1:3, 7:9])
    grey = fitted(tmp_path, (4, 16, 1), "crop")
    assert grey.shape == (4, 16, 1) and len(np.unique(grey)) == 2


def test_codes_of_pixels():
    model = converted("int8")
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    plain = classifier.interface(model)
    assert np.array_equal(plain.encode(pixels), pixels.astype(np.int16) - 128)
    halved = classifier.interface(model, ((128.0,), (0.5,)))
    expected = np.clip(2 * (pixels.astype(np.int16) - 128) - 128, -128, 127)
    assert np.array_equal(halved.encode(pixels), expected)
    # Every pixel lies half-way between two codes.
    between = dataclasses.replace(
        halved, normalization=((127.5,), (127.5,)), scale=float(np.float32(2 / 255)), zero_point=-1
    )
    assert np.array_equal(between.encode(pixels), pixels.astype(np.int16) - 128)


def test_a_data_set_that_tfds_does_not_know_is_one_sentence():
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(ValueError) as error:
        images.from_tfds("cifar11", "test", None)
    said = str(error.value)
    assert said.startswith("TensorFlow Datasets knows no data set 'cifar11'; did you mean 'cifar10")
    assert "\n" not in said
