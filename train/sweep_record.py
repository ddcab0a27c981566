"""`results.jsonl`: what each training of a sweep came to, one JSON object a line."""

import json
import pathlib
from typing import Any

import numpy as np

import wrpn_tf
from train import sources
from train.config import FIELD_DEFAULTS, LOCATION_FIELDS, REFERENCES, UserError, last_name
from train.deployment import Deployment
from train.grid import Run
from wrpn_tf import models
from wrpn_tf.files import write_bytes


class SweepRecord:
    """The finished trainings of a sweep; every added line is on disk when `add` returns.

    Attributes:
        path: The file.
        lines: By the runs' names.
    """

    def __init__(self, path: pathlib.Path, lines: dict[str, dict[str, Any]]) -> None:
        self.lines = lines
        self.path = path

    @classmethod
    def open(cls, path: pathlib.Path, runs: list[Run]) -> "SweepRecord":
        """Reads what an earlier call has finished.

        Raises:
            UserError: The file cannot be read, or holds a training of a name here with another
                value of a field (the first that differs is named).
        """
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            lines = {line["run"]: line for line in map(json.loads, text.splitlines())}
            for run in runs:
                _check_same(run, lines.get(run.name), path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path} is not the record of a sweep: {error}") from error
        return cls(path, lines)

    def add(self, line: dict[str, Any]) -> None:
        """Adds a finished training.

        Raises:
            WriteError: The file cannot be written.
        """
        self.lines[line["run"]] = line
        text = "".join(json.dumps(known) + "\n" for known in self.lines.values())
        write_bytes(self.path, text.encode())


def _check_same(run: Run, line: dict[str, Any] | None, path: pathlib.Path) -> None:
    if line is None:
        return
    for name, value in _deciding_fields(run).items():
        known = line["config"].get(name, FIELD_DEFAULTS.get(name))
        if known != value:
            raise UserError(
                f"{path} holds {run.name} with {name} {known!r}, not {value!r}; give that value, "
                "or the grid another name, or take another workdir"
            )


def _deciding_fields(run: Run) -> dict[str, Any]:
    """The fields that decide the result; networks to start from by the names of their folders."""
    fields = {n: v for n, v in run.config.as_json().items() if n not in LOCATION_FIELDS}
    for name in REFERENCES:
        fields[name] = last_name(fields[name])
    return fields


def result_line(
    run: Run, metrics: dict[str, float], deployment: Deployment | None
) -> dict[str, Any]:
    """What one training came to: the fields of a `wrpn_tf.Result`, and all else that was measured.

    Args:
        run: The training, finished.
        metrics: What `train.trainer.train` returned.
        deployment: The export, where the network has an integer form.
    """
    workdir = pathlib.Path(run.config.workdir)
    record = json.loads((workdir / "record.json").read_text(encoding="utf-8"))
    model = wrpn_tf.load_model(workdir)
    shares = _statistics(model, run) if run.config.quantized else {}
    baseline = models.skeleton(
        run.config.arch, num_classes=model.output_shape[-1], input_shape=model.input_shape[1:]
    )
    cost = wrpn_tf.measure_cost(model)
    line = {
        "run": run.name,
        "name": run.grid,
        "arch": run.config.arch,
        "width": run.config.width,
        "wbits": run.config.wbits,
        "abits": run.config.abits,
        "seed": run.config.seed,
        "cost": cost.compute / wrpn_tf.measure_cost(baseline).compute,
        "weight_bytes": cost.weight_bytes,
        "accuracy": metrics["test_accuracy"],
        "train_seconds": metrics["train_seconds"],
        "tflite_accuracy": None,
        "epochs": [
            {key: entry[key] for key in ("train_loss", "train_accuracy", "test_accuracy")}
            for entry in record["history"]
        ],
        "config": _deciding_fields(run),
        "versions": record["versions"],
    } | shares
    if deployment is not None:
        verification = deployment.verification
        assert verification.accuracy is not None
        line |= {
            "tflite_accuracy": verification.accuracy.device,
            "agreement": verification.accuracy.agreement,
            "compared_integers": verification.integers,
            "different_integers": verification.different,
            "file_bytes": deployment.size,
        }
    return line


def _statistics(model: Any, run: Run) -> dict[str, float | None]:
    """The share of 0 in all codes of kernels at the training's bits, and of clipped activations.

    The latter is the mean of the shares of all k-bit activations, over a batch of training images.
    """
    codes = [
        view.kernel.codes.ravel()
        for view in wrpn_tf.view(model)
        if view.kernel is not None and view.kernel.bits == run.config.wbits
    ]
    images = sources.load(run.config).calibration()[0]
    clipped = wrpn_tf.clipped_shares(model, images).values()
    return {
        "zero_codes": float(np.mean(np.concatenate(codes) == 0)) if codes else None,
        "clipped_activations": float(np.mean(list(clipped))) if clipped else None,
    }
