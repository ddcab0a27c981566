"""Predicts what of .tflite files the Edge TPU runs, and how it would run more.

    python -m export.edgetpu model.tflite [more.tflite]
    python -m export.edgetpu model.tflite --fix --output=fixed.tflite

Exits with status 0 only where every operator of every file maps to the Edge TPU. The verdicts are
predicted, not compiled; where `edgetpu_compiler` is on PATH, it compiles the files and decides.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from absl import flags
from rich.console import Console

from export.edge_tpu import compiler, tables
from export.edge_tpu.fixes import Fixed, fix
from export.edge_tpu.preflight import CACHE_BYTES, Prediction, predict
from export.flatbuffer import reader
from export.flatbuffer.reader import Model
from export.kernel_sets.rules import KERNEL_SETS
from export.runtime import runner
from export.runtime.isolation import Isolated
from wrpn_tf import command_line
from wrpn_tf.files import write_bytes
from wrpn_tf.terminal import cell

_MODEL = flags.DEFINE_multi_string(
    "model", [], "The .tflite file, if it is not named without a flag."
)
_FORMAT = flags.DEFINE_enum("format", "table", ["table", "json"], "What to print.")
_ALL = flags.DEFINE_bool("all", False, "A row for every operator; else neighbours share one.")
_FIX = flags.DEFINE_bool("fix", False, "Change what can be changed without changing an integer.")
_OUTPUT = flags.DEFINE_string("output", None, "The .tflite file that --fix writes.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preflight:
    """What is known of one file.

    Attributes:
      path: the file.
      prediction: the verdicts.
      fixed: what --fix did and what it did not; None without it.
      on_cpu: operators that the compiler left on the CPU; None: not compiled.
      note: which kernel sets do not load it; empty where all do.
    """

    path: str
    prediction: Prediction
    fixed: Fixed | None = None
    on_cpu: frozenset[int] | None = None
    note: str = ""

    @property
    def maps(self) -> bool:
        """Whether every operator runs on the Edge TPU."""
        return self.prediction.maps if self.on_cpu is None else not self.on_cpu


def main(paths: list[str]) -> int:
    """Runs the program; returns 0 only where every operator maps to the Edge TPU."""
    paths = command_line.model_files("export.edgetpu", paths, _MODEL.value)
    if _FIX.value != bool(_OUTPUT.value) or (_FIX.value and len(paths) > 1):
        raise ValueError("--fix takes one model and --output=fixed.tflite")
    command_line.require_ending(_OUTPUT, ".tflite")
    files = [_preflight(path) for path in paths]
    if _FORMAT.value == "json":
        print(json.dumps([_record(file) for file in files], indent=1))
    else:
        console = Console()
        for file in files:
            tables.show(
                console, file.path, file.prediction, file.fixed, file.on_cpu, every=_ALL.value
            )
            if file.note:
                console.print(cell(file.note))
    return 0 if all(file.maps for file in files) else 1


def _preflight(path: str) -> Preflight:
    model = reader.read_path(path)
    fixed = None
    prediction = predict(model)
    note = _check_runs(path, model)
    if _FIX.value:
        fixed = fix(model)
        write_bytes(_OUTPUT.value, fixed.content)
        path, model = _OUTPUT.value, reader.read(fixed.content)
        prediction = predict(model)
    on_cpu = None
    if compiler.is_installed():
        compiled = compiler.compile_model(path)
        every = range(len(model.main.operators))
        on_cpu = frozenset(compiler.left_on_cpu(model, compiled) if compiled else every)
    return Preflight(path=path, prediction=prediction, fixed=fixed, on_cpu=on_cpu, note=note)


def _check_runs(path: str, model: Model) -> str:
    """A file must load in an interpreter to be compiled; custom operators are the compiler's.

    Returns:
      A sentence on the kernel sets that do not load it; empty where all do.

    Raises:
      ValueError: none loads it.
    """
    if any(operator.custom for operator in model.main.operators):
        return ""
    problems = {}
    for kernel_set in KERNEL_SETS:
        try:
            with Isolated(runner.Runner, model.content, kernel_set):
                pass
        except ValueError as error:
            problems[kernel_set] = str(error)
    if len(problems) == len(KERNEL_SETS):
        raise ValueError(f"{path} does not load in LiteRT: {problems[KERNEL_SETS[0]]}")
    failing = (f"{kernel_set} kernels ({problem})" for kernel_set, problem in problems.items())
    return f"It does not load with {' and '.join(failing)}." if problems else ""


def _record(file: Preflight) -> dict[str, Any]:
    """A file's verdicts for JSON."""
    prediction = file.prediction
    return {
        "model": file.path,
        "basis": "predicted, not compiled" if file.on_cpu is None else "compiled",
        "all_on_tpu": file.maps,
        "parameter_bytes": prediction.parameter_bytes,
        "cache_bytes": CACHE_BYTES,
        "streamed_bytes": prediction.streamed_bytes,
        "fixes": list(file.fixed.done) if file.fixed else [],
        "not_fixed": list(file.fixed.left) if file.fixed else [],
        "note": file.note,
        "compiled_on_cpu": None if file.on_cpu is None else sorted(file.on_cpu),
        "operators": [
            dataclasses.asdict(finding) | {"verdict": finding.verdict.value}
            for finding in prediction.findings
        ],
    }


if __name__ == "__main__":
    command_line.run(main, arguments="model.tflite [more.tflite ...]")
