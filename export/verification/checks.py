"""The checks behind `export.verify`: each returns what it measured."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

import wrpn_tf
from export.executor.execution import execute
from export.flatbuffer import borders, editing, reader
from export.ir.graph import IntegerGraph
from export.ir.operators import DepthwiseConv2D, Weighted
from export.lowering import folding
from export.realization import grouped_convolutions
from export.runtime import runner
from export.runtime.isolation import Isolated
from export.tflm.interpreter import MicroRunner
from export.verification import comparison
from export.verification.comparison import Difference
from export.verification.inputs import Batch
from wrpn_tf import Fusion, LayerView, class_name

_BATCH = 100
_FLOAT32_ROOM = 2.0**-12  # Of a code.
_BATCH_BYTES = 2**28  # Of all tensors; of larger networks a batch has fewer images.

Images = np.ndarray | Mapping[str, np.ndarray]
Advance = Callable[[int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Top-1 of the file and of the Keras evaluation graph over the same images.

    Attributes:
      images: how many.
      agreement: share of images with the same top-1, of all positions where an image has several.
      positions: how many an image has.
      device: share of images that the file classifies rightly; None without labels.
      keras: the same for the Keras evaluation graph.
    """

    images: int
    agreement: float
    positions: int = 1
    device: float | None = None
    keras: float | None = None


def wrong_kernels(model: Any, graph: IntegerGraph, file: bytes) -> list[str]:
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
        if graph.provenance.is_move(operator.inputs[0], output):
            expected = None
        is_move = isinstance(operator, DepthwiseConv2D) and operator.kernel.shape[1:3] == (1, 1)
        if kernel is None:
            wrong.append(f"{output} (not in the file)")
        elif expected is None:
            if not is_move or not np.isin(kernel, (-127, 0, 127)).all():
                wrong.append(f"{output} (no trained kernel)")
        elif not _same_codes(
            _channels_last(operator, kernel, expected.shape), expected, operator.code_multiplier
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
        if class_name(view.layer) == "DepthwiseConv2D":
            codes = codes.reshape(1, *codes.shape[:2], -1)
        kernels[group.end.name] = codes
    return kernels


def _channels_last(operator: Weighted, kernel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A TFLite kernel in the axis order of Keras, where a dense layer may be a convolution."""
    kernel = np.moveaxis(kernel, operator.channel_axis, -1)
    flat = (math.prod(shape[:-1]), shape[-1])
    return kernel.reshape(shape) if kernel.shape == flat else kernel


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
    graph: IntegerGraph,
    file: bytes,
    images: Images,
    kernel_set: str,
    advance: Advance = lambda _: None,
) -> tuple[dict[str, Difference], dict[str, set[int]]]:
    """Every tensor of the file, run with one kernel set, against the NumPy executor.

    Args:
      graph: the integer graph.
      file: the .tflite file; a variant of it with every tensor exposed is what runs.
      images: int8 ``[images, ...]``; a dictionary of them by input name where there are several.
      kernel_set: 'xnnpack', 'optimized' or 'reference', which LiteRT runs, or 'tflm', which
        TensorFlow Lite Micro's interpreter does.
      advance: called with the number of images after each batch.

    Returns:
      Differences by tensor, and the distinct codes that the file produced by tensor.

    Raises:
      ValueError: the interpreter does not take the file.
    """
    differences: dict[str, Difference] = {}
    seen: dict[str, set[int]] = {name: set() for name in graph.tensors}
    if kernel_set == "tflm":
        isolated = Isolated(MicroRunner, file)
    else:
        isolated = Isolated(runner.Runner, editing.expose_tensors(file), kernel_set)
    with isolated as run:
        for inputs in _inputs(graph, images, advance):
            expected = execute(graph, inputs, kernel_set)
            actual = inputs | run(inputs)
            for name in graph.tensors:
                if name not in actual:
                    raise ValueError(f"nothing in the file computes {name!r}")
                _accumulate(differences, comparison.compare(name, actual[name], expected[name]))
                seen[name].update(np.unique(actual[name]).tolist())
    return differences, seen


def compare_borders(
    graph: IntegerGraph,
    whole: bytes,
    core: bytes,
    io: str,
    images: Mapping[str, np.ndarray],
    kernel_set: str,
    advance: Advance = lambda _: None,
) -> list[Difference]:
    """A file with borders of another type against the int8 network between them.

    Args:
      graph: the integer graph.
      whole: the file.
      core: from `export.flatbuffer.borders.core`.
      io: the type of its borders.
      images: int8 ``[images, ...]`` by input name.
      kernel_set: 'xnnpack', 'optimized' or 'reference'.
      advance: called with the number of images after each batch.
    """

    def border(name: str, codes: np.ndarray) -> np.ndarray:
        quantization = graph.tensors[name].quantization
        return borders.to_border(codes, io, quantization.scale, quantization.zero_point)

    differences: dict[str, Difference] = {}
    with Isolated(runner.Runner, whole, kernel_set) as run:
        with Isolated(runner.Runner, core, kernel_set) as inner:
            for batch in _inputs(graph, images, advance):
                fed = {f"{name}/{io}": border(name, codes) for name, codes in batch.items()}
                given, codes = run(fed), inner(batch)
                for name in graph.outputs:
                    wanted = border(name, codes[name])
                    # Optimized kernels round a real value otherwise in its last bits.
                    room = graph.tensors[name].quantization.scale * _FLOAT32_ROOM
                    gap = np.abs(given[f"{name}/{io}"].astype(np.float64) - wanted)
                    wrong = gap > (room if io == "float32" else 0)
                    found = Difference(
                        name=name,
                        different=int(np.count_nonzero(wrong)),
                        total=wrong.size,
                        largest=int(wrong.any()),
                    )
                    _accumulate(differences, found)
    return list(differences.values())


def compare_with_keras(
    model: Any,
    graph: IntegerGraph,
    file: bytes,
    images: Images,
    advance: Advance = lambda _: None,
) -> dict[str, Difference]:
    """Each operator's codes against the Keras evaluation graph, fed the device's own inputs."""
    exposed = editing.expose_tensors(file)
    twin = comparison.KerasTwin(model, graph)
    differences: dict[str, Difference] = {}
    with Isolated(runner.Runner, exposed) as run:
        for inputs in _inputs(graph, images, advance):
            values = inputs | run(inputs)
            for operator in filter(twin.knows, graph.operators):
                codes = twin.codes(operator, values)
                difference = comparison.compare(operator.output, values[operator.output], codes)
                _accumulate(differences, difference)
    return differences


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """Outputs over all images: of the whole network in Keras, and of the file.

    Attributes:
      differences: by output, codes of the file against those of Keras.
      tied: bool ``[images, ...]``: several channels of the first output have the largest code.
      device: int64 ``[images, ...]``, top-1 of the first output of the file.
      keras: the same of Keras.
    """

    differences: dict[str, Difference]
    tied: np.ndarray
    device: np.ndarray
    keras: np.ndarray

    @property
    def same(self) -> np.ndarray:
        """Bool ``[images, ...]``: the same top-1 of the first output."""
        return self.device == self.keras


def compare_results(
    model: Any,
    graph: IntegerGraph,
    file: bytes,
    batches: Iterable[Batch],
    advance: Advance = lambda _: None,
) -> Results:
    """The file in LiteRT with XNNPACK against the Keras evaluation graph, from end to end."""
    differences: dict[str, Difference] = {}
    tops: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    with Isolated(runner.Runner, file) as run:
        size = _batch_size(graph)
        for batch in itertools.chain.from_iterable(batch.cut(size) for batch in batches):
            on_device = run(batch.codes)
            outputs = wrpn_tf.infer(model, batch.reals)
            for name, values in zip(graph.outputs, outputs, strict=True):
                codes = comparison.quantize(values, graph.tensors[name])
                codes = codes.reshape(on_device[name].shape)
                _accumulate(differences, comparison.compare(name, on_device[name], codes))
            scores = on_device[graph.outputs[0]]
            top = scores.argmax(axis=-1)
            best = (scores == scores.max(axis=-1, keepdims=True)).sum(axis=-1)
            tops.append((top, outputs[0].argmax(axis=-1).reshape(top.shape), best > 1))
            advance(len(top))
    device, in_keras, tied = (np.concatenate(part) for part in zip(*tops, strict=True))
    return Results(differences=differences, tied=tied, device=device, keras=in_keras)


def too_many_codes(graph: IntegerGraph, seen: dict[str, set[int]]) -> list[str]:
    """Tensors that took more than ``2 ** bits`` values."""
    return [
        f"{name} ({len(codes)} values, {graph.tensors[name].quantization.bits} bits)"
        for name, codes in seen.items()
        if len(codes) > 2 ** graph.tensors[name].quantization.bits
    ]


def _inputs(
    graph: IntegerGraph, images: Images, advance: Advance
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of the model's inputs."""
    arrays = dict(images) if isinstance(images, Mapping) else {graph.inputs[0]: images}
    size = _batch_size(graph)
    for batch in zip(*(_batches(array, size) for array in arrays.values()), strict=True):
        yield dict(zip(arrays, batch, strict=True))
        advance(len(batch[0]))


def _batch_size(graph: IntegerGraph) -> int:
    """How many images are run together, for a child process that has its limits."""
    image = sum(math.prod(tensor.shape) for tensor in graph.tensors.values())
    return max(1, min(_BATCH, _BATCH_BYTES // image))


def _batches(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _accumulate(differences: dict[str, Difference], new: Difference) -> None:
    old = differences.get(new.name)
    differences[new.name] = comparison.add(old, new) if old else new
