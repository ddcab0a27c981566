"""Verification of a .tflite file against the model it came from, on data."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from export.flatbuffer import borders, reader
from export.ir.graph import IntegerGraph
from export.kernel_sets.rules import KERNEL_SETS, effective_kernel_set
from export.lowering.network import lower
from export.realization.network import realize
from export.tflm.interpreter import MISSING, REFUSED, is_installed
from export.verification import checks, inputs
from export.verification.result import KernelSetRow, LayerRow, Verification
from wrpn_tf.files import read_bytes
from wrpn_tf.progress import ProgressLine

MIN_AGREEMENT = 0.998
MAX_ACCURACY_GAP = 0.001
_MICRO_PRODUCTS = 10**10


def verify(
    model: Any,
    file: bytes | bytearray | str | os.PathLike[str],
    images: Any,
    labels: Any = None,
    *,
    sample: int = 1000,
    min_agreement: float = MIN_AGREEMENT,
    max_accuracy_gap: float = MAX_ACCURACY_GAP,
    progress: bool | None = None,
) -> Verification:
    """Whether a .tflite file computes what a model was trained to compute.

    Checks that the kernels in the file are the trained codes; that LiteRT computes every integer of
    every tensor as the NumPy executor does, with XNNPACK, optimized and reference kernels, and
    TensorFlow Lite Micro where the package tflite-micro is installed; how the
    codes of each layer differ from those of the Keras evaluation graph; and top-1 of both.

    Args:
      model: the quantized model, as it was exported.
      file: the file's bytes, or its path.
      images: what `model.predict` takes, or batches of it: an array, a list or dictionary of arrays
        for several inputs, a `tf.data.Dataset`, a `keras.utils.Sequence`; see `wrpn_tf.calibrate`.
        uint8 arrays are pixels where the model has an `input_range`.
      labels: class numbers ``[images]``, or one-hot ``[images, classes]``, of the first output.
        None: what comes with the batches, if it is class numbers.
      sample: images for the comparison tensor by tensor, at least 1; top-1 uses all.
      min_agreement: least share of images with the same top-1 in file and Keras; of positions
        where the first output has several, as a segmentation has.
      max_accuracy_gap: largest difference between the accuracies of both.
      progress: whether to show how far it is; None: where the standard error is a terminal.

    Returns:
      What was measured; `failures` is empty where the file is verified. Print it for the tables.

    Raises:
      ValueError: if the file is not a TFLite model, the model has no integer form, or the data do
        not fit it.
    """
    content = bytes(file) if isinstance(file, bytes | bytearray) else read_bytes(file)
    graph = realize(lower(model), weights=reader.weights(content))
    return verify_graph(
        model,
        graph,
        content,
        images,
        labels,
        sample=sample,
        min_agreement=min_agreement,
        max_accuracy_gap=max_accuracy_gap,
        progress=progress,
    )


def verify_graph(
    model: Any,
    graph: IntegerGraph,
    file: bytes,
    images: Any,
    labels: Any = None,
    *,
    sample: int,
    min_agreement: float,
    max_accuracy_gap: float,
    progress: bool | None = None,
) -> Verification:
    """`verify` for a model whose integers are known; `file` may have any borders."""
    if sample < 1:
        raise ValueError(f"sample must be at least 1; got {sample}.")
    whole, (file, io) = file, borders.core(file)
    difference = _difference(graph, reader.read(file))
    if difference:
        return Verification(failures=(f"The file is of another network: {difference}.",))

    wrong = checks.wrong_kernels(model, graph, file)
    wrong += [f"{name} (not an integer tensor)" for name in reader.float_tensors(file)]
    kernels = len(reader.kernels(file))
    failures = [f"Wrong constant: {name}." for name in wrong]
    if wrong:
        return Verification(failures=tuple(failures), kernels=kernels, wrong_kernels=tuple(wrong))

    with ProgressLine("read the images", shown=progress):
        batches = list(inputs.read(model, graph, images))
    if not batches:
        raise ValueError("Verification needs at least one batch of images; got none.")
    count = sum(len(next(iter(batch.codes.values()))) for batch in batches)
    classes = _classes(batches, labels, count, graph.tensors[graph.outputs[0]].shape[-1])
    few = {
        name: np.concatenate([batch.codes[name] for batch in batches])[:sample]
        for name in graph.inputs
    }
    samples = _samples(graph, few)
    runs = sum(map(_length, samples.values())) + _length(few) + count
    if whole != file:
        runs += len(KERNEL_SETS) * _length(few)
    with ProgressLine("verify", runs, shown=progress) as line:
        kernel_sets, notes, problems = _kernel_sets(graph, file, samples, line)
        problems += _borders(graph, whole, file, io, few, line)
        line.begin("verify top-1")
        results = checks.compare_results(model, graph, file, batches, line.advance)
        line.begin("verify each layer against Keras")
        layers = _layers(model, graph, file, few, line)
    accuracy = _accuracy(graph, results, classes)
    failures += [*problems, *_disagreement(accuracy, results, min_agreement, max_accuracy_gap)]
    return Verification(
        failures=tuple(failures),
        kernels=kernels,
        sample=min(sample, count),
        kernel_sets=kernel_sets,
        notes=notes,
        layers=layers,
        outputs=tuple(results.differences.values()),
        accuracy=accuracy,
    )


def _classes(
    batches: list[inputs.Batch], labels: Any, count: int, channels: int
) -> np.ndarray | None:
    """Class numbers ``[images]``, or None where there are none."""
    if labels is None:
        own = [batch.labels for batch in batches if batch.labels is not None]
        if len(own) < len(batches) or any(part.dtype.kind not in "iu" for part in own):
            return None
        labels = np.concatenate(own)
        if labels.size != count or not _are_classes(labels, channels):
            return None
    classes = np.asarray(labels)
    if classes.ndim == 2 and classes.shape[1] > 1:
        classes = classes.argmax(axis=1)
    if classes.size != count or len(classes) != count:
        raise ValueError(
            f"{count} images need as many labels, or rows of one-hot labels; got an array of shape "
            f"{np.shape(labels)}."
        )
    if not _are_classes(classes, channels):
        raise ValueError(
            f"Labels are class numbers from 0 to {channels - 1}; got {classes.dtype} "
            f"{np.array2string(classes.reshape(count), threshold=6)}."
        )
    return classes.reshape(count)


def _are_classes(labels: np.ndarray, channels: int) -> bool:
    """Whether labels are class numbers of an output, which has none where it has one channel."""
    are_numbers = labels.dtype.kind in "iufb"
    return channels < 2 or (are_numbers and bool(np.isin(labels, np.arange(channels)).all()))


def _accuracy(
    graph: IntegerGraph, results: checks.Results, classes: np.ndarray | None
) -> checks.Accuracy | None:
    """Top-1 of the first output; None where it has one channel."""
    if graph.tensors[graph.outputs[0]].shape[-1] < 2:
        return None
    agreement = float(results.same.mean())
    positions = results.device[0].size
    accuracy = checks.Accuracy(images=len(results.same), agreement=agreement, positions=positions)
    if classes is None:
        return accuracy
    if positions != 1:
        raise ValueError(
            f"Output {graph.outputs[0]!r} has {positions} positions, and labels are one class for "
            "each image; leave them out."
        )
    return checks.Accuracy(
        images=len(results.same),
        agreement=agreement,
        device=float((results.device.reshape(-1) == classes).mean()),
        keras=float((results.keras.reshape(-1) == classes).mean()),
    )


def _disagreement(
    accuracy: checks.Accuracy | None,
    results: checks.Results,
    min_agreement: float,
    max_accuracy_gap: float,
) -> list[str]:
    if accuracy is None:
        return []
    failures = []
    if accuracy.agreement < min_agreement:
        ties = np.count_nonzero(results.tied & ~results.same)
        where = "images" if accuracy.positions == 1 else "positions"
        among = f"; on {ties:,} {where} several classes have the file's best code" if ties else ""
        failures.append(
            f"Top-1 agrees on {accuracy.agreement:.2%}, less than {min_agreement:.2%}{among}."
        )
    if accuracy.device is not None and accuracy.keras is not None:
        if abs(accuracy.device - accuracy.keras) > max_accuracy_gap:
            failures.append(f"Top-1 accuracies are further apart than {max_accuracy_gap:.2%}.")
    return failures


def _difference(graph: IntegerGraph, model: reader.Model) -> str | None:
    """What a file's interface or tensors have that those of the graph have not, or the reverse."""
    for what, found, names in (
        ("inputs", model.inputs, graph.inputs),
        ("outputs", model.outputs, graph.outputs),
    ):
        if sorted(tensor.name for tensor in found) != sorted(names):
            given = ", ".join(repr(tensor.name) for tensor in found) or "none"
            return f"its {what} are {given}, not {', '.join(map(repr, names))}"
    tensors = {tensor.name: tensor for tensor in model.main.tensors}
    for name, expected in graph.tensors.items():
        if name not in tensors:
            return f"it has no tensor {name!r}"
        tensor = tensors[name]
        if (tensor.type, tensor.shape) != ("INT8", expected.shape):
            return (
                f"its tensor {name!r} is {tensor.type} {list(tensor.shape)}, not INT8 "
                f"{list(expected.shape)}"
            )
        quantization = tensor.quantization
        if quantization is None or not quantization.same_scale(expected.quantization):
            return f"its tensor {name!r} has another scale or zero point"
    return None


def _length(sample: dict[str, np.ndarray]) -> int:
    return max(map(len, sample.values()))


def _samples(
    graph: IntegerGraph, sample: dict[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """The images that each kernel set runs, by its name."""
    samples = dict.fromkeys(KERNEL_SETS, sample)
    if is_installed():
        most = _micro_images(graph)
        samples["tflm"] = {name: codes[:most] for name, codes in sample.items()}
    return samples


def _kernel_sets(
    graph: IntegerGraph,
    file: bytes,
    samples: dict[str, dict[str, np.ndarray]],
    line: ProgressLine,
) -> tuple[tuple[KernelSetRow, ...], tuple[str, ...], list[str]]:
    """Interpreters against the executor, by kernel set; what is to be said; and what fails."""
    rows, notes, failures = [], [], []
    if "tflm" not in samples:
        notes.append(f"TensorFlow Lite Micro was not compared: {MISSING}.")
    for kernel_set, codes in samples.items():
        line.begin(f"verify every integer, {kernel_set}")
        try:
            differences, seen = checks.compare_with_executor(
                graph, file, codes, kernel_set, line.advance
            )
        except ValueError as error:
            if kernel_set != "tflm" or not str(error).startswith(REFUSED):
                raise
            notes.append(f"Not for microcontrollers: {error}.")
            line.advance(_length(codes))
            continue
        tensors = differences.values()
        rows.append(
            KernelSetRow(
                kernel_set=kernel_set,
                images=_length(codes),
                tensors=len(tensors),
                integers=sum(tensor.total for tensor in tensors),
                different=sum(tensor.different for tensor in tensors),
                largest=max(tensor.largest for tensor in tensors),
            )
        )
        failures += [
            f"{tensor.name} differs from the executor in {tensor.different:,} of "
            f"{tensor.total:,} integers ({kernel_set})."
            for tensor in tensors
            if tensor.different
        ]
        failures += [
            f"Tensor takes too many values: {name}." for name in checks.too_many_codes(graph, seen)
        ]
    return tuple(rows), tuple(notes), failures


def _borders(
    graph: IntegerGraph,
    whole: bytes,
    core: bytes,
    io: str,
    sample: dict[str, np.ndarray],
    line: ProgressLine,
) -> list[str]:
    """Where the file with its borders gives other values than the int8 network between them."""
    if whole == core:
        return []
    line.begin(f"verify the {io} borders")
    return [
        f"Output {row.name!r} differs behind its {io} border in {row.different:,} of "
        f"{row.total:,} values ({kernel_set})."
        for kernel_set in KERNEL_SETS
        for row in checks.compare_borders(graph, whole, core, io, sample, kernel_set, line.advance)
        if row.different
    ]


def _micro_images(graph: IntegerGraph) -> int:
    """How many images TFLM's kernels, which are plain loops, run in half a minute or so."""
    products = sum(
        operator.rows.shape[1] * math.prod(graph.tensors[operator.output].shape)
        for operator in graph.weighted
    )
    return max(10, _MICRO_PRODUCTS // max(1, products))


def _layers(
    model: Any,
    graph: IntegerGraph,
    file: bytes,
    sample: dict[str, np.ndarray],
    line: ProgressLine,
) -> tuple[LayerRow, ...]:
    """Layer by layer against the Keras evaluation graph."""
    inexact = {
        operator.output: counts[effective_kernel_set(graph, operator, "xnnpack")]
        for operator in graph.operators
        if (counts := graph.provenance.inexact_channels.get(operator.output))
    }
    return tuple(
        LayerRow(
            difference=row,
            bits=graph.tensors[row.name].quantization.bits,
            unproven=inexact.get(row.name, 0),
        )
        for row in checks.compare_with_keras(model, graph, file, sample, line.advance).values()
    )
