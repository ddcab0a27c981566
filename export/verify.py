"""Verifies a .tflite file against the training it came from, on real data.

    python -m export.verify --workdir=runs/w2a4 --model=model.tflite

Checks that the kernels in the file are the trained codes; that LiteRT computes every integer of
every tensor as the NumPy executor does, with each kernel set; how each layer's codes differ from
the Keras evaluation graph fed the device's own input; and top-1 of both over the test images.
Exits with status 1 if a check fails.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable

import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from export import checks, tflite_file
from export.graph import IntegerGraph
from export.kernels import KERNELS
from export.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the training.", required=True)
_MODEL = flags.DEFINE_string("model", None, "The .tflite file.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS data; default: as in training.")
_IMAGES = flags.DEFINE_integer(
    "images", 1000, "Test images for the comparison tensor by tensor; top-1 uses all.", 1
)
_AGREEMENT = flags.DEFINE_float("min_agreement", 0.998, "Least share of equal top-1.", 0, 1)
_ACCURACY = flags.DEFINE_float("max_accuracy_gap", 0.001, "Largest gap in top-1 accuracy.", 0, 1)


def verify(
    workdir: Workdir,
    file: bytes,
    *,
    data_dir: str | None = None,
    images: int = 1000,
    min_agreement: float = 0.998,
    max_accuracy_gap: float = 0.001,
    console: Console | None = None,
) -> tuple[list[str], checks.Accuracy]:
    """Runs all checks and prints what they measured.

    Returns:
      The failures, one sentence each (empty where the file is verified), and the accuracies.
    """
    show = (console or Console()).print
    graph = workdir.graph()
    data = workdir.load_data(data_dir)
    codes = (data.test_images.astype(np.int16) - 128).astype(np.int8)
    failures = []

    wrong = checks.wrong_kernels(workdir.model, graph, file)
    wrong += [f"{name} (not an integer tensor)" for name in tflite_file.float_tensors(file)]
    show(
        f"Kernels that are not the trained codes: {len(wrong)} of {len(tflite_file.kernels(file))}"
    )
    failures += [f"Wrong constant: {name}." for name in wrong]
    if wrong:
        return failures, checks.Accuracy(images=0, device=0.0, keras=0.0, agreement=0.0)

    sample = codes[:images]
    failures += _check_integers(graph, file, sample, show)
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
    return failures, accuracy


def _check_integers(
    graph: IntegerGraph, file: bytes, sample: np.ndarray, show: Callable[..., None]
) -> list[str]:
    """LiteRT against the executor, with each kernel set."""
    failures = []
    table = Table(title=f"LiteRT against the NumPy executor, {len(sample):,} images")
    for heading in ("kernels", "tensors", "integers", "different", "largest difference"):
        table.add_column(heading, justify="left" if heading == "kernels" else "right")
    for kernels in KERNELS:
        differences, seen = checks.compare_with_executor(graph, file, sample, kernels)
        rows = differences.values()
        different = sum(row.different for row in rows)
        table.add_row(
            kernels,
            str(len(rows)),
            f"{sum(row.total for row in rows):,}",
            f"{different:,}",
            str(max(row.largest for row in rows)),
        )
        failures += [
            f"{row.name} differs from the executor in {row.different:,} of {row.total:,} integers "
            f"({kernels})."
            for row in rows
            if row.different
        ]
        failures += [
            f"Tensor takes too many values: {name}." for name in checks.too_many_codes(graph, seen)
        ]
    show(table)
    return failures


def _show_keras(
    workdir: Workdir,
    graph: IntegerGraph,
    file: bytes,
    sample: np.ndarray,
    show: Callable[..., None],
) -> None:
    """Layer by layer against the Keras evaluation graph."""
    table = Table(title="Layers against Keras, each fed the device's own input")
    for heading in ("tensor", "bits", "codes", "different", "share", "largest", "inexact channels"):
        table.add_column(heading, justify="left" if heading == "tensor" else "right")
    inexact = graph.metadata["inexact_channels"]
    for row in checks.compare_with_keras(workdir.model, graph, file, sample).values():
        table.add_row(
            row.name,
            str(graph.tensors[row.name].bits),
            f"{row.total:,}",
            f"{row.different:,}",
            f"{row.different / row.total:.4%}",
            str(row.largest),
            str(inexact.get(row.name, "")),
        )
    show(table)


def main(argv: list[str]) -> None:
    """Runs the program."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected argument {argv[1]!r}; options are written --name=value")
    try:
        failures, _ = verify(
            Workdir.load(_WORKDIR.value),
            _read(_MODEL.value),
            data_dir=_DATA_DIR.value,
            images=_IMAGES.value,
            min_agreement=_AGREEMENT.value,
            max_accuracy_gap=_ACCURACY.value,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    print("not verified" if failures else "verified")
    sys.exit(1 if failures else 0)


def _read(path: str) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror}.") from error


if __name__ == "__main__":
    app.run(main)
