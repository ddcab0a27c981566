"""Verification passes the exported file and refuses any other in one sentence."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from small_models import randomize

import export
import wrpn_tf
from benchmarks import fuzz_tflite
from export.flatbuffer import borders, editing, reader
from export.tflm import interpreter
from export.verification import checks
from export.verification.verifier import verify_graph
from export.verification.workdir import Workdir
from wrpn_tf import datasets

IMAGES = 20


@pytest.fixture(name="training", scope="module")
def training_fixture():
    """A network that saw a few digits, and its file."""
    data = digits()
    model = wrpn_tf.models.build(
        "digits_cnn", num_classes=10, input_shape=(8, 8, 1), front="tf_keras"
    )
    model = wrpn_tf.quantize_model(model, 2, 4, input_range=data.input_range)
    wrpn_tf.calibrate(model, [data.normalize(data.train_images[:64])])
    export.settle(model)
    return model, export.to_tflite(model)


def digits():
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    return datasets.load("digits").head(test=IMAGES)


def verified(model, file, labels=None, **options):
    return export.verify(model, file, digits().test_images, labels, sample=5, **options)


def failures(model, file):
    """What verification finds wrong, or the sentence it refuses the file with."""
    try:
        return list(verified(model, file, digits().test_labels).failures)
    except ValueError as error:
        return [str(error)]


def test_the_exported_file_is_verified(training):
    found = verified(*training, digits().test_labels)
    assert found.failures == () and found.verified
    assert (found.sample, found.kernels, found.wrong_kernels) == (5, 5, ())
    micro = ["tflm"] if interpreter.is_installed() else []
    known = ["xnnpack", "optimized", "reference", *micro]
    assert [row.kernel_set for row in found.kernel_sets] == known
    model, _ = training
    graph = export.realize(export.lower(model))
    integers = 5 * sum(int(np.prod(tensor.shape)) for tensor in graph.tensors.values())
    assert [row.integers for row in found.kernel_sets] == [integers] * len(known)
    assert (found.integers, found.different) == (len(known) * integers, 0)
    assert [row.difference.name for row in found.layers][-1] == "logits"
    (outputs,) = found.outputs
    assert (outputs.name, outputs.total) == ("logits", IMAGES * 10)
    data = digits()
    logits = model.predict(data.normalize(data.test_images), verbose=0)
    assert found.accuracy.images == IMAGES and found.accuracy.agreement == 1.0
    assert found.accuracy.keras == (logits.argmax(axis=1) == data.test_labels).mean()
    assert found.accuracy.device == found.accuracy.keras


@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_a_file_with_other_borders_is_verified(training, io, capfd):
    model, file = training
    bordered = borders.with_borders(file, io)
    found = verified(model, bordered, digits().test_labels, progress=True)
    assert found.failures == ()
    (last,) = (x for x in capfd.readouterr().err.splitlines() if x.startswith("verify"))
    assert last.startswith("verify each layer against Keras") and "100%" in last
    assert bordered == export.to_tflite(model, io=io)
    assert file == export.to_tflite(model, io="int8")

    def shift(parsed):
        tensor = parsed.subgraphs[0].tensors[parsed.subgraphs[0].inputs[0]]
        tensor.quantization.zeroPoint = [1]

    if io == "uint8":
        wrong = failures(model, editing.edit(reader.read(bordered), shift))
        assert "Output 'logits' differs behind its uint8 border in " in wrong[0]


def test_it_prints_as_tables(training):
    text = str(verified(*training, digits().test_labels))
    for part in (
        "Kernels that are not the trained codes: 0 of 5",
        "Interpreters against the NumPy executor",
        "Layers against Keras, each fed the device's own input",
        "Top-1 over 20 images: file",
    ):
        assert part in text
    assert text.endswith("verified") and "not verified" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_without_labels_it_compares_results(training):
    found = verified(*training)
    assert found.verified and found.accuracy.device is found.accuracy.keras is None
    assert "Of 20 images, the same top-1 on 100.00%" in str(found)


def test_data_come_as_they_do_for_keras(training, tmp_path):
    """Reals, pixels and batches of them, with labels or without, and the file by its path."""
    model, file = training
    data = digits()
    reals, path = data.normalize(data.test_images), tmp_path / "digits.tflite"
    path.write_bytes(file)
    expected = verified(model, file, data.test_labels)
    batches = tf.data.Dataset.from_tensor_slices((reals, data.test_labels)).batch(7)
    one_hot = np.eye(10)[data.test_labels]
    for found in (
        export.verify(model, path, reals, data.test_labels, sample=5),
        export.verify(model, file, [reals], one_hot, sample=5),
        export.verify(model, str(path), batches, sample=5),
        export.verify(model, file, {"image": reals}, list(data.test_labels), sample=5),
    ):
        assert found == expected


def test_disagreement_fails(training):
    model, file = training
    wrong = digits()
    reals = wrong.normalize(wrong.test_images)
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    logits = other.get_layer("quant_logits").layer
    # Always the class that the model finds least often: of ten, in a tenth of the images at most.
    rarest = np.bincount(found_labels(model, reals), minlength=10).argmin()
    logits.bias.assign(logits.bias.numpy() + 1000 * np.eye(10, dtype=np.float32)[rarest])
    # Integers of one model, results of another.
    options = {"sample": 5, "max_accuracy_gap": 1.0}
    graph = export.realize(export.lower(model))
    found = verify_graph(other, graph, file, reals, min_agreement=0.998, **options)
    assert "less than 99.80%" in found.failures[-1] and not found.verified
    assert str(found).endswith("not verified") and "FAILED: Top-1 agrees on" in str(found)
    assert verify_graph(other, graph, file, reals, min_agreement=0.0, **options).verified
    options["max_accuracy_gap"] = 0.001
    found = verify_graph(
        other, graph, file, reals, found_labels(model, reals), min_agreement=0.0, **options
    )
    assert found.failures == ("Top-1 accuracies are further apart than 0.10%.",)


def found_labels(model, reals):
    return model.predict(reals, verbose=0).argmax(axis=1)


def several(as_dict):
    """Two inputs, a segmentation and a regression."""
    left, right = (keras.Input((4, 4, 2), name=name) for name in ("left", "right"))
    x = keras.layers.Add()([keras.layers.Conv2D(2, 1, name="conv")(left), right])
    x = keras.layers.ReLU()(x)
    outputs = {
        "map": keras.layers.Conv2D(3, 1, name="map")(x),
        "age": keras.layers.Dense(1, name="age")(keras.layers.Flatten()(x)),
    }
    inputs = {"b": left, "a": right} if as_dict else [left, right]
    model = keras.Model(inputs, outputs if as_dict else list(outputs.values()))
    randomize(model)
    return wrpn_tf.quantize_model(model, 4, 4)


@pytest.mark.parametrize("as_dict", [False, True])
def test_several_inputs_and_outputs(as_dict):
    model = several(as_dict)
    left, right = np.random.default_rng(0).normal(size=(2, 12, 4, 4, 2)).astype(np.float32)
    images = {"b": left, "a": right} if as_dict else [left, right]
    wrpn_tf.calibrate(model, images)
    export.settle(model)
    found = export.verify(model, export.to_tflite(model), images)
    assert found.verified, found
    assert sorted(row.total for row in found.outputs) == [12, 12 * 4 * 4 * 3]
    is_map = not as_dict  # The first output; of a dictionary that is 'age', which has one channel.
    assert (found.accuracy is not None) == is_map
    if is_map:
        assert found.accuracy.images == 12
        with pytest.raises(ValueError, match="'map' has 16 positions, and labels are one class"):
            export.verify(model, export.to_tflite(model), images, np.zeros(12))


def test_of_a_map_each_position_counts(monkeypatch):
    model = several(as_dict=False)
    images = list(np.random.default_rng(0).normal(size=(2, 12, 4, 4, 2)).astype(np.float32))
    wrpn_tf.calibrate(model, images)
    export.settle(model)
    infer = wrpn_tf.infer

    def with_one_other_class(*arguments):
        scores, *others = infer(*arguments)
        first = np.arange(scores.size).reshape(scores.shape) < scores.shape[-1]
        return [np.where(first, -scores, scores), *others]

    monkeypatch.setattr(wrpn_tf, "infer", with_one_other_class)
    found = export.verify(model, export.to_tflite(model), images, min_agreement=0.99)
    assert found.verified and found.accuracy.agreement == 191 / 192
    assert "Of 12 images of 16 positions, the same top-1 on 99.48%" in str(found)


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (np.zeros((2, 8, 8, 3)), None, r"Input 'image' takes .*; a batch has \(2, 8, 8, 3\)"),
        ([], None, "at least one batch"),
        (np.zeros((2, 8, 8, 1)), np.zeros(3), r"2 images need as many labels, .* shape \(3,\)"),
        (np.zeros((2, 8, 8, 1)), np.zeros((2, 3, 4)), "2 images need as many labels"),
        (np.zeros((2, 8, 8, 1)), [0, 77], r"class numbers from 0 to 9; got int64 \[ 0 77\]"),
        (np.zeros((2, 8, 8, 1)), ["0", "1"], "class numbers from 0 to 9; got <U1"),
        (np.full((2, 8, 8, 1), np.nan), None, "images of input 'image' hold NaN"),
    ],
)
def test_data_that_do_not_fit_are_named(training, images, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        export.verify(*training, images, labels)


def test_no_sample_is_refused_and_bytes_may_be_mutable(training):
    model, file = training
    with pytest.raises(ValueError, match="sample must be at least 1; got 0"):
        export.verify(model, file, np.zeros((1, 8, 8, 1)), sample=0)
    assert export.verify(model, bytearray(file), np.zeros((1, 8, 8, 1))).verified


def test_large_networks_are_evaluated_a_few_images_at_a_time(training, monkeypatch):
    model, file = training
    infer, sizes = wrpn_tf.infer, []

    def counting(model, inputs):
        sizes.append(len(inputs[0]))
        return infer(model, inputs)

    monkeypatch.setattr(wrpn_tf, "infer", counting)
    monkeypatch.setattr(checks, "_BATCH_BYTES", 7 * sum_of_sizes(model))
    found = verified(model, file, digits().test_labels)
    assert found.accuracy.images == sum(sizes) == IMAGES
    assert sizes == [7, 7, 6]


def sum_of_sizes(model):
    """Values of all tensors for one image."""
    tensors = export.realize(export.lower(model)).tensors.values()
    return sum(int(np.prod(tensor.shape)) for tensor in tensors)


def test_scores_closer_than_a_code_are_said_to_be():
    """Probabilities within 1/256 of one another: the file has one code for all."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((4, 4, 1), name="image"),
        keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
        keras.layers.Flatten(name="flat"),
        keras.layers.Dense(3, name="scores"),
        keras.layers.Softmax(name="classes"),
    ]
    model = keras.Sequential(layers)
    model.get_layer("scores").kernel.assign(model.get_layer("scores").kernel * 1e-3)
    model = wrpn_tf.quantize_model(model, 4, 4)
    images = np.random.default_rng(0).normal(size=(40, 4, 4, 1)).astype(np.float32)
    wrpn_tf.calibrate(model, images)
    export.settle(model)
    (failure,) = export.verify(model, export.to_tflite(model), images).failures
    assert re.search(r"less than 99\.80%; on \d+ images several classes have the file's", failure)


def test_a_file_that_is_not_there_is_named(training, tmp_path):
    with pytest.raises(ValueError, match=r"Cannot read .*none\.tflite: No such file"):
        export.verify(training[0], tmp_path / "none.tflite", np.zeros((1, 8, 8, 1)))


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
    model, file = training
    found = failures(model, editing.edit(reader.read(file), change))
    assert found and sentence in found[0], found


def test_malformed_files_are_sentences(training):
    model, file = training
    random = np.random.default_rng(0)
    for _ in range(25):
        mutation = fuzz_tflite.mutate(file, random)
        assert all(sentence for sentence in failures(model, mutation))


def test_a_folder_without_a_training_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not the workdir of a finished training"):
        Workdir.load(tmp_path)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.DepthwiseConv2D(1, name="first"),
        keras.layers.DepthwiseConv2D(3, padding="same", name="first"),
        keras.layers.Conv2D(2, 1, name="first"),
    ],
)
def test_codes_that_are_brought_to_another_grid_are_no_kernel(layer):
    """A kernel of one tap has the shape of what brings its output to the grid of a maximum."""
    image = keras.Input((4, 4, 2), name="image")
    x = layer.from_config(layer.get_config())(image)
    outputs = [keras.layers.Maximum(name="max")([x, image]), x]
    model = keras.Model(image, outputs)
    randomize(model)
    model = wrpn_tf.quantize_model(model, 2, 4)
    images = np.random.default_rng(0).uniform(0, 1, (12, 4, 4, 2)).astype(np.float32)
    wrpn_tf.calibrate(model, images)
    export.settle(model)
    graph = export.realize(export.lower(model))
    moves = [op for op in graph.weighted if graph.provenance.is_move(op.inputs[0], op.output)]
    assert "first" in {op.inputs[0] for op in moves}
    assert export.verify(model, export.to_tflite(model), images).wrong_kernels == ()
