"""`record.json`: what a workdir's training was, and how it went."""

import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

from train.config import LOCATION_FIELDS, Config, UserError
from wrpn_tf.datasets import Dataset

_PACKAGES = ("numpy", "tensorflow", "tf_keras", "tensorflow-model-optimization", "wrpn_tf")


class Record:
    """The record of one training; every change is on disk when its method returns.

    The file holds `flags` (the config), `versions`, `dataset` (name, data_dir, scale,
    zero_point, normalization, class_names), `history` (one entry per finished epoch) and, once
    the training has finished, `metrics`.

    Attributes:
        path: The file.
        metrics: The final metrics, None while the training is unfinished.
    """

    def __init__(self, path: pathlib.Path, contents: dict[str, Any]) -> None:
        self.path = path
        self._contents = contents

    @classmethod
    def open(cls, config: Config) -> "Record":
        """Opens the record in `config.workdir`; a new one is not on disk before `resume`.

        Raises:
            UserError: The workdir records another training (the first flag that differs is
                named), or its record cannot be read, or the workdir is not a folder.
        """
        path = pathlib.Path(config.workdir) / "record.json"
        try:
            contents = json.loads(path.read_text(encoding="utf-8"))
            recorded = dict(contents["flags"])
        except FileNotFoundError:
            return cls(path, {"flags": config.as_json()})
        except (NotADirectoryError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not the record of a training") from error
        for name, value in config.as_json().items():
            if name not in LOCATION_FIELDS and recorded.get(name) != value:
                raise UserError(
                    f"{path.parent} holds a training with --{name}={recorded.get(name)}, "
                    f"not {value}; give that value or another workdir"
                )
        return cls(path, contents)

    @property
    def metrics(self) -> dict[str, float] | None:
        return self._contents.get("metrics")

    def resume(self, finished_epochs: int, data: Dataset) -> None:
        """Describes the surroundings of the epochs to come; drops those that will be redone."""
        data_dir = self._contents["flags"]["data_dir"]
        self._contents |= {
            "versions": _versions(),
            "dataset": {
                "name": data.name,
                "data_dir": data_dir,
                "scale": data.scale,
                "zero_point": data.zero_point,
                "normalization": data.normalization,
                "class_names": list(data.class_names),
            },
            "history": self._contents.get("history", [])[:finished_epochs],
        }
        self._write()

    def add_epoch(self, **entry: float) -> None:
        """Adds a finished epoch."""
        self._contents["history"].append(entry)
        self._write()

    def finish(self, *, test_loss: float, test_accuracy: float) -> dict[str, float]:
        """Adds the final metrics: the saved model's on the test images, the epochs' seconds."""
        self._contents["metrics"] = {
            "test_accuracy": test_accuracy,
            "test_loss": test_loss,
            "train_seconds": sum(entry["seconds"] for entry in self._contents["history"]),
        }
        self._write()
        return self._contents["metrics"]

    def _write(self) -> None:
        """Replaces the file at once, so that an interrupted write leaves the old one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial.json")
        partial.write_text(json.dumps(self._contents, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, self.path)


def _versions() -> dict[str, str | None]:
    """Python's and the packages' versions; None for one that runs without being installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions
