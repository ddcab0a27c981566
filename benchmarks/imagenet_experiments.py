"""Every experiment of `train.imagenet --list` for a few steps: train, export, verify, evaluate.

    python -m benchmarks.imagenet_experiments --data_dir=DATA --results=runs/experiments.jsonl

Each experiment is two commands of `train.imagenet`, as a user would type them, on small images:
the training, which ends with export and verification, and `--mode=eval` on what it left. Each adds
a line to the results, failed or not, and its workdir is removed. Started again, the program goes on
with the experiments that have no line yet. Prints a table of all; the status is 1 if any failed.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags
from rich.console import Console
from rich.table import Table

from train.experiments import Experiment, experiments
from wrpn_tf import command_line

_DATA_DIR = flags.DEFINE_string("data_dir", None, "See train.imagenet.", required=True)
_RESULTS = flags.DEFINE_string("results", None, "A file of JSON lines.", required=True)
_CONFIGS = flags.DEFINE_list("configs", [], "Only experiments whose name begins with one of these.")
_SIZE = flags.DEFINE_integer("image_size", 64, "Height and width of the images.", 44)
_BATCH = flags.DEFINE_integer("batch_size", 4, "Images per step.", 1)
_STEPS = flags.DEFINE_integer("steps", 2, "Steps of a training.", 1)
_TEST_IMAGES = flags.DEFINE_integer("test_images", 4, "Test images.", 1)
_MEMORY = flags.DEFINE_float("memory", 6.0, "GB of memory above which an experiment is ended.", 1.0)

_GB = 1e9


class Failure(Exception):
    """A command failed."""


def _run(arguments: list[str]) -> tuple[str, float, float]:
    """Runs `python -m train.imagenet`.

    Returns:
        Its output, its seconds and its largest memory in GB, that of its children not included.

    Raises:
        Failure: It ended with another status than 0 or took too much memory.
    """
    command = [sys.executable, "-m", "train.imagenet", *arguments]
    start, peak = time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        try:
            while process.poll() is None:
                peak = max(peak, _resident(process.pid))
                if peak > _MEMORY.value:
                    raise Failure(f"takes more than {_MEMORY.value:g} GB of memory")
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            lines = (output.read() + errors.read()).strip().splitlines()
            raise Failure(f"status {process.returncode}: {lines[-1] if lines else 'no output'}")
        return output.read(), time.monotonic() - start, peak


def _resident(pid: int) -> float:
    """GB of memory of a process; 0 once it has ended."""
    try:
        pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / _GB


def run_experiment(experiment: Experiment, workdir: pathlib.Path) -> dict[str, Any]:
    """Trains, exports, verifies and evaluates; returns a line of the results."""
    line: dict[str, Any] = {"config": experiment.name, "failure": None}
    training = [
        f"--config={experiment.name}",
        f"--data_dir={_DATA_DIR.value}",
        f"--image_size={_SIZE.value}",
        f"--batch_size={_BATCH.value}",
        f"--train_images={_STEPS.value * _BATCH.value}",
        f"--test_images={_TEST_IMAGES.value}",
        f"--bn_images={_BATCH.value}",
        "--epochs=1",
        "--warmup_epochs=0",
        "--schedule=cosine",
    ]
    try:
        output, line["train_seconds"], line["memory"] = _run([*training, f"--workdir={workdir}"])
        record = json.loads((workdir / "record.json").read_text(encoding="utf-8"))
        line["loss"] = record["history"][0]["train_loss"]
        if experiment.config.deployable:
            line["bytes"] = (workdir / "model.tflite").stat().st_size
            if "model.tflite is verified." not in output.replace("\n", " "):
                raise Failure("not verified")
        output, line["eval_seconds"], _ = _run(["--mode=eval", f"--workdir={workdir}"])
        evaluated = json.loads(output.strip().splitlines()[-1])
        if evaluated["test_accuracy"] != record["metrics"]["test_accuracy"]:
            raise Failure("evaluated, it has another accuracy than at its training's end")
        line["test_loss"] = evaluated["test_loss"]
    except (Failure, OSError, ValueError, KeyError) as error:
        line["failure"] = str(error)
    return line


def _print(lines: dict[str, dict[str, Any]], known: dict[str, Experiment]) -> None:
    table = Table(
        title=f"{_STEPS.value} steps of {_BATCH.value} images at {_SIZE.value} pixels",
        caption=".tflite: '-' where weights or activations are in float",
    )
    for heading in ("config", "train s", "GB", "loss", "eval s", ".tflite MB", "result"):
        table.add_column(heading, justify="left" if heading in ("config", "result") else "right")
    for name, experiment in known.items():
        line = lines.get(name, {"failure": "not run"})
        passed = "verified" if experiment.config.deployable else "evaluated"
        table.add_row(
            name,
            _number(line, "train_seconds", 0),
            _number(line, "memory", 1),
            _number(line, "loss", 3),
            _number(line, "eval_seconds", 0),
            f"{line['bytes'] / 1e6:.1f}" if "bytes" in line else "-",
            line["failure"] or passed,
        )
    Console().print(table)


def _number(line: dict[str, Any], name: str, digits: int) -> str:
    return f"{line[name]:.{digits}f}" if name in line else ""


def main() -> int:
    """Runs the program."""
    known = {
        name: experiment
        for name, experiment in experiments().items()
        if not _CONFIGS.value or name.startswith(tuple(_CONFIGS.value))
    }
    results = pathlib.Path(_RESULTS.value)
    results.parent.mkdir(parents=True, exist_ok=True)
    results.touch()
    finished = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    lines = {line["config"]: line for line in finished}
    for name, experiment in known.items():
        if name in lines:
            continue
        with tempfile.TemporaryDirectory() as folder:
            lines[name] = run_experiment(experiment, pathlib.Path(folder) / name)
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(lines[name]) + "\n")
        print(f"{name}: {lines[name]['failure'] or 'passed'}", flush=True)
    _print(lines, known)
    return 1 if any(lines[name]["failure"] for name in known) else 0


if __name__ == "__main__":
    command_line.run(main, errors=())
