"""Verification of a .tflite file against the training it came from, printed as tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from export.flatbuffer import reader
from export.ir.graph import IntegerGraph
from export.kernel_sets.rules import KERNEL_SETS, effective_kernel_set
from export.verification import checks
from export.verification.workdir import Workdir

_UNMEASURED = checks.Accuracy(images=0, device=0.0, keras=0.0, agreement=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
    """What the checks of one file measured.

    Attributes:
      failures: one sentence each; empty where the file is verified.
      integers: how many integers were compared with the executor: of all tensors, with each of
        the kernel sets.
      different: how many of them differ.
      accuracy: top-1; of no images where an earlier check failed.
    """

    failures: tuple[str, ...]
    integers: int = 0
    different: int = 0
    accuracy: checks.Accuracy = _UNMEASURED


def verify(
    workdir: Workdir,
    file: bytes,
    *,
    data_dir: str | None = None,
    images: int = 1000,
    min_agreement: float = 0.998,
    max_accuracy_gap: float = 0.001,
    console: Console | None = None,
) -> Verification:
    """Runs all checks and prints what they measured.

    Raises:
      ValueError: if the file is not a TFLite model or the data set is not there.
    """
    show = (console or Console()).print
    model = reader.read(file)
    graph = workdir.graph(reader.weights(file))
    data = workdir.load_data(data_dir)
    codes = (data.test_images.astype(np.int16) - 128).astype(np.int8)
    failures = []

    difference = _difference(graph, model)
    if difference:
        return Verification(failures=(f"The file is of another network: {difference}.",))

    wrong = checks.wrong_kernels(workdir.model, graph, file)
    wrong += [f"{name} (not an integer tensor)" for name in reader.float_tensors(file)]
    show(f"Kernels that are not the trained codes: {len(wrong)} of {len(reader.kernels(file))}")
    failures += [f"Wrong constant: {name}." for name in wrong]
    if wrong:
        return Verification(failures=tuple(failures))

    sample = codes[:images]
    wrong, integers, different = _check_integers(graph, file, sample, show)
    failures += wrong
    _show_keras(workdir, graph, file, sample, show)

    accuracy = checks.measure_accuracy(workdir.model, graph, file, codes, data.test_labels)
    show(
        f"Top-1 over {accuracy.images:,} images: file {accuracy.device:.2%}, Keras "
        f"{accuracy.keras:.2%}; the same top-1 on {accuracy.agreement:.2%}"
    )
    if accuracy.agreement < min_agreement:
        failures.append(f"Top-1 agrees on {accuracy.agreement:.2%}, less than {min_agreement:.2%}.")
    if abs(accuracy.device - accuracy.keras) > max_accuracy_gap:
        failures.append(f"Top-1 accuracies are further apart than {max_accuracy_gap:.2%}.")
    return Verification(
        failures=tuple(failures), integers=integers, different=different, accuracy=accuracy
    )


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


def _check_integers(
    graph: IntegerGraph, file: bytes, sample: np.ndarray, show: Callable[..., None]
) -> tuple[list[str], int, int]:
    """LiteRT against the executor, with each kernel set: failures, integers, different ones."""
    failures = []
    integers = all_different = 0
    table = Table(title=f"LiteRT against the NumPy executor, {len(sample):,} images")
    for heading in (
        "kernels",
        "tensors",
        "integers",
        "different",
        "largest difference",
    ):
        table.add_column(heading, justify="left" if heading == "kernels" else "right")
    for kernel_set in KERNEL_SETS:
        differences, seen = checks.compare_with_executor(graph, file, sample, kernel_set)
        rows = differences.values()
        total = sum(row.total for row in rows)
        different = sum(row.different for row in rows)
        integers += total
        all_different += different
        table.add_row(
            kernel_set,
            str(len(rows)),
            f"{total:,}",
            f"{different:,}",
            str(max(row.largest for row in rows)),
        )
        failures += [
            f"{row.name} differs from the executor in {row.different:,} of {row.total:,} integers "
            f"({kernel_set})."
            for row in rows
            if row.different
        ]
        failures += [
            f"Tensor takes too many values: {name}." for name in checks.too_many_codes(graph, seen)
        ]
    show(table)
    return failures, integers, all_different


def _show_keras(
    workdir: Workdir,
    graph: IntegerGraph,
    file: bytes,
    sample: np.ndarray,
    show: Callable[..., None],
) -> None:
    """Layer by layer against the Keras evaluation graph."""
    table = Table(title="Layers against Keras, each fed the device's own input")
    for heading in (
        "tensor",
        "bits",
        "codes",
        "different",
        "share",
        "largest",
        "unproven channels",
    ):
        table.add_column(heading, justify="left" if heading == "tensor" else "right")
    inexact = {
        operator.output: counts[effective_kernel_set(graph, operator, "xnnpack")]
        for operator in graph.operators
        if (counts := graph.provenance.inexact_channels.get(operator.output))
    }
    for row in checks.compare_with_keras(workdir.model, graph, file, sample).values():
        table.add_row(
            row.name,
            str(graph.tensors[row.name].quantization.bits),
            f"{row.total:,}",
            f"{row.different:,}",
            f"{row.different / row.total:.4%}",
            str(row.largest),
            str(inexact.get(row.name, "")),
        )
    show(table)
