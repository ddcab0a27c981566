"""`record.json`: what a workdir's training was, and how it went."""

import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

from train.config import LOCATION_FIELDS, Config, UserError
from train.experiments import reported
from wrpn_tf.data.datasets import LabelledImages
from wrpn_tf.files import write_bytes

_KINDS = {"flags": dict, "history": list, "metrics": dict}
_PACKAGES = ("numpy", "tensorflow", "keras", "tf_keras", "tensorflow-model-optimization", "wrpn_tf")


class Record:
    """The record of one training; every change is on disk when its method returns.

    The file holds `flags` (the config), `paper` (the accuracy and cost that the paper reports for
    an experiment), `versions`, `dataset` (name, data_dir, scale, zero_point, normalization,
    class_names), `history` (one entry per finished epoch) and, once the training has finished,
    `metrics`.

    Attributes:
        path: The file.
        metrics: The final metrics, None while the training is unfinished.
    """

    def __init__(self, path: pathlib.Path, contents: dict[str, Any]) -> None:
        self.path = path
        self._contents = contents
        self._writes = True

    @classmethod
    def open(cls, config: Config) -> "Record":
        """Opens the record in `config.workdir`; a new one is not on disk before `resume`.

        Raises:
            UserError: The workdir records another training (the first flag that differs is
                named), or its record cannot be read, or the workdir is not a folder.
        """
        path = pathlib.Path(config.workdir) / "record.json"
        require_folder(config.workdir)
        try:
            contents = json.loads(path.read_text(encoding="utf-8"))
            recorded = dict(contents["flags"])
            whole = all(isinstance(contents.get(n, kind()), kind) for n, kind in _KINDS.items())
            if not whole or "dataset" not in recorded:
                raise ValueError("not what `Record` writes")
        except FileNotFoundError:
            return cls(path, {"flags": config.as_json(), "paper": reported(config)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not the record of a training") from error
        difference = config.difference(recorded)
        if difference:
            raise UserError(
                f"{path.parent} holds a training with {difference}; give that value or another "
                "workdir"
            )
        present = config.as_json()
        places = {name: present[name] for name in LOCATION_FIELDS}
        return cls(path, contents | {"flags": recorded | places, "paper": reported(config)})

    @staticmethod
    def read_config(path: pathlib.Path) -> Config:
        """The config of the training that a record is of.

        Raises:
            UserError: It cannot be read.
        """
        try:
            return Config.from_json(json.loads(path.read_text(encoding="utf-8"))["flags"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not the record of a training: {error}") from error

    @property
    def metrics(self) -> dict[str, float] | None:
        return self._contents.get("metrics")

    def resume(self, finished_epochs: int, data: LabelledImages, *, writes: bool = True) -> None:
        """Describes the surroundings of the epochs to come; drops those that will be redone.

        Args:
            finished_epochs: Epochs that need not be done again.
            data: The data set.
            writes: Whether this process is the one of the training's that writes the file.
        """
        self._writes = writes
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
                "image_shape": list(data.image_shape),
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
        """Replaces the file at once, so that an interrupted write leaves the old one.

        Raises:
            WriteError: The file cannot be written.
        """
        if not self._writes:
            return
        write_bytes(self.path, (json.dumps(self._contents, indent=1) + "\n").encode())


def require_folder(workdir: str | os.PathLike[str]) -> None:
    """Raises UserError where something other than a folder has the place of a workdir."""
    path = pathlib.Path(workdir)
    existing = next((part for part in (path, *path.parents) if os.path.lexists(part)), path)
    if os.path.lexists(existing) and not existing.is_dir():
        raise UserError(f"--workdir={workdir} cannot be a folder: {existing} is a file")


def _versions() -> dict[str, str | None]:
    """Python's and the packages' versions; None for one that runs without being installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions
