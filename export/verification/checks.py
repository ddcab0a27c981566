"""The checks behind `export.verify`: each returns what it measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import tf_keras as keras

import wrpn_tf
from export.executor.execution import execute
from export.flatbuffer import editing, reader
from export.ir.graph import IntegerGraph
from export.ir.operators import DepthwiseConv2D, Weighted
from export.lowering import folding
from export.realization import grouped_convolutions
from export.runtime import runner
from export.runtime.isolation import Isolated
from export.verification import comparison
from export.verification.comparison import Difference
from wrpn_tf import Fusion, LayerView

_BATCH = 100

Images = np.ndarray | Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Top-1 of the file and of the Keras evaluation graph over the same images.

    Attributes:
      images: how many.
      device: share of images that the file classifies rightly.
      keras: the same for the Keras evaluation graph.
      agreement: share of images with the same top-1.
    """

    images: int
    device: float
    keras: float
    agreement: float


def wrong_kernels(model: keras.Model, graph: IntegerGraph, file: bytes) -> list[str]:
    """Operators whose kernel in the file is not the trained codes times the code multiplier.

    The trained codes are read from the Keras model's quantizers, not from the graph. A channel with
    a negative batch normalization gain holds the negated codes, one with gain 0 holds zeros.

    Returns:
      Names of output tensors, with the reason.
    """
    in_file = reader.kernels(file)
    trained = _trained_kernels(wrpn_tf.fusion_groups(model))
    wrong = []
    for output, operators in grouped_convolutions.kernels_by_layer(graph).items():
        operator = operators[0]
        parts = [in_file[part.output] for part in operators if part.output in in_file]
        kernel = np.concatenate(parts) if len(parts) == len(operators) else None
        expected = trained.get(graph.provenance.layers[output])
        is_move = isinstance(operator, DepthwiseConv2D) and operator.kernel.shape[1:3] == (1, 1)
        if kernel is None:
            wrong.append(f"{output} (not in the file)")
        elif expected is None or (is_move and expected.shape[:-1] != (1, 1, 1)):
            if not is_move or not np.isin(kernel, (-127, 0, 127)).all():
                wrong.append(f"{output} (no trained kernel)")
        elif not _same_codes(
            _channels_last(operator, kernel, expected.ndim), expected, operator.code_multiplier
        ):
            wrong.append(f"{output} (other codes)")
    return wrong


def _trained_kernels(fusion: Fusion[LayerView]) -> dict[str, np.ndarray]:
    """Trained codes ``[..., output channel]``, by the Keras layer that ends their operator."""
    kernels = {}
    for group in fusion.groups:
        view = group.body
        if view.kernel is None:
            continue
        codes = folding.channels_last(view.layer, view.kernel.codes)
        if isinstance(view.layer, keras.layers.DepthwiseConv2D):
            codes = codes.reshape(1, *codes.shape[:2], -1)
        kernels[group.end.name] = codes
    return kernels


def _channels_last(operator: Weighted, kernel: np.ndarray, rank: int) -> np.ndarray:
    """A TFLite kernel in the axis order of Keras, where a dense layer may be a 1x1 convolution."""
    kernel = np.moveaxis(kernel, operator.channel_axis, -1)
    return kernel.reshape(*(1,) * (rank - kernel.ndim), *kernel.shape)


def _same_codes(kernel: np.ndarray, codes: np.ndarray, code_multiplier: int) -> bool:
    """Whether every channel is the codes times the code multiplier, up to a sign, or zero."""
    if kernel.shape != codes.shape:
        return False
    axes = tuple(range(codes.ndim - 1))
    multiplied = codes * code_multiplier
    return bool(
        np.all(
            (kernel == multiplied).all(axis=axes)
            | (kernel == -multiplied).all(axis=axes)
            | (kernel == 0).all(axis=axes)
        )
    )


def compare_with_executor(
    graph: IntegerGraph, file: bytes, images: Images, kernel_set: str
) -> tuple[dict[str, Difference], dict[str, set[int]]]:
    """Every tensor of the file, run with one kernel set, against the NumPy executor.

    Args:
      graph: the integer graph.
      file: the .tflite file; a variant of it with every tensor exposed is what runs.
      images: int8 ``[images, ...]``; a dictionary of them by input name where there are several.
      kernel_set: 'xnnpack', 'optimized' or 'reference'.

    Returns:
      Differences by tensor, and the distinct codes that the file produced by tensor.
    """
    exposed = editing.expose_tensors(file)
    differences: dict[str, Difference] = {}
    seen: dict[str, set[int]] = {name: set() for name in graph.tensors}
    with Isolated(runner.Runner, exposed, kernel_set) as run:
        for inputs in _inputs(graph, images):
            expected = execute(graph, inputs, kernel_set)
            actual = inputs | run(inputs)
            for name in graph.tensors:
                _accumulate(differences, comparison.compare(name, actual[name], expected[name]))
                seen[name].update(np.unique(actual[name]).tolist())
    return differences, seen


def compare_with_keras(
    model: keras.Model, graph: IntegerGraph, file: bytes, images: Images
) -> dict[str, Difference]:
    """Each operator's codes against the Keras evaluation graph, fed the device's own inputs."""
    exposed = editing.expose_tensors(file)
    twin = comparison.KerasTwin(model, graph)
    differences: dict[str, Difference] = {}
    with Isolated(runner.Runner, exposed) as run:
        for inputs in _inputs(graph, images):
            values = inputs | run(inputs)
            for operator in filter(twin.knows, graph.operators):
                codes = twin.codes(operator, values)
                difference = comparison.compare(operator.output, values[operator.output], codes)
                _accumulate(differences, difference)
    return differences


def measure_accuracy(
    model: keras.Model,
    graph: IntegerGraph,
    file: bytes,
    images: np.ndarray,
    labels: np.ndarray,
) -> Accuracy:
    """Top-1 of the file in LiteRT with XNNPACK and of the Keras evaluation graph."""
    source = graph.tensors[graph.inputs[0]]
    device, reference = [], []
    with Isolated(runner.Runner, file) as run:
        for batch in _batches(images):
            outputs = run({graph.inputs[0]: batch})
            device.append(outputs[graph.outputs[0]].argmax(axis=-1))
            reals = comparison.dequantize(batch, source)
            reference.append(model(reals, training=False).numpy().argmax(axis=-1))
    on_device, in_keras = np.concatenate(device), np.concatenate(reference)
    return Accuracy(
        images=len(labels),
        device=float((on_device == labels).mean()),
        keras=float((in_keras == labels).mean()),
        agreement=float((on_device == in_keras).mean()),
    )


def too_many_codes(graph: IntegerGraph, seen: dict[str, set[int]]) -> list[str]:
    """Tensors that took more than ``2 ** bits`` values."""
    return [
        f"{name} ({len(codes)} values, {graph.tensors[name].quantization.bits} bits)"
        for name, codes in seen.items()
        if len(codes) > 2 ** graph.tensors[name].quantization.bits
    ]


def _inputs(graph: IntegerGraph, images: Images) -> Iterator[dict[str, np.ndarray]]:
    """Batches of the model's inputs."""
    arrays = dict(images) if isinstance(images, Mapping) else {graph.inputs[0]: images}
    for batch in zip(*map(_batches, arrays.values()), strict=True):
        yield dict(zip(arrays, batch, strict=True))


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(images), _BATCH):
        yield images[start : start + _BATCH]


def _accumulate(differences: dict[str, Difference], new: Difference) -> None:
    old = differences.get(new.name)
    differences[new.name] = comparison.add(old, new) if old else new
