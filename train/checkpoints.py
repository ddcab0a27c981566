"""Checkpoints: the whole state after a step, three of them, each readable or absent."""

import json
import math
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from train.config import Config, UserError
from train.strategies import WORKER_LOST

_KEPT = 3
_INDEX = re.compile(r"ckpt-(\d+)\.index")
_PART = re.compile(r"ckpt-(\d+)[._].*")
_FLAGS = "flags/.ATTRIBUTES/py_state"  # The name that TensorFlow gives to `_Flags`.
# A file cut short, of other content, or gone; AssertionError: of another network.
_UNREADABLE = (tf.errors.OpError, IndexError, RuntimeError, ValueError, AssertionError)


class _Flags(tf.train.experimental.PythonState):
    """The flags of a training, as a part of its checkpoints."""

    def __init__(self, config: Config) -> None:
        self._content = json.dumps(config.as_json())

    def serialize(self) -> str:
        return self._content

    def deserialize(self, content: str) -> None:
        """They are compared before anything is restored."""


class Checkpoints(keras.callbacks.Callback):
    """Writes the state (weights, quantizers, optimizer, step) at epochs' ends and in between.

    The flags of the training are a part of it.

    The chief writes them. tf.distribute wants every worker to save, so the others do so into a
    folder that is dropped.

    Args:
        network: The network in training.
        optimizer: Its optimizer.
        folder: Where the checkpoints are.
        config: The training.
        every: Steps between checkpoints, 0: only at the end of an epoch.
        epoch_steps: Steps of an epoch, whose last is saved behind its validation.
        is_chief: Whether this process writes to the folder.
    """

    def __init__(
        self,
        network: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        folder: pathlib.Path,
        *,
        config: Config,
        every: int,
        epoch_steps: int,
        is_chief: bool,
    ) -> None:
        super().__init__()
        self._network = network
        self._optimizer = optimizer
        self._folder = folder
        self._every = every
        self._epoch_steps = epoch_steps
        self._step = 0
        self._saved_step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._config = config
        self._parts = {"network": network, "optimizer": optimizer, "step": self._saved_step}
        state = tf.train.Checkpoint(**self._parts, flags=_Flags(config))
        self._dropped = None if is_chief else tempfile.TemporaryDirectory()
        self._own_folder = pathlib.Path(self._dropped.name) if self._dropped else folder
        self._own_folder.mkdir(parents=True, exist_ok=True)
        self._manager = tf.train.CheckpointManager(state, self._own_folder, _KEPT)

    def require_space(self) -> None:
        """Raises UserError if there is no room for the checkpoints to come and the saved model.

        Beside those that are kept there is one that is being written.
        """
        state = [*self._network.weights, *self._optimizer.variables]
        size, model = _bytes(state), _bytes(self._network.weights)
        to_come = max(1, _KEPT + 1 - len(saved_steps(self._folder)))
        needed = to_come * size + model
        free = shutil.disk_usage(self._own_folder).free
        if free < needed:
            raise UserError(
                f"{self._own_folder} has {free:,} bytes free; {to_come} checkpoints of {size:,} "
                f"bytes and a model of {model:,} need {needed:,}"
            )

    def restore(self) -> int:
        """Restores the newest readable checkpoint; see `restore_newest`."""
        self._step = restore_newest(self._parts, self._folder, self._config, whole=True)
        return self._step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._step += 1
        is_last = self._step % self._epoch_steps == 0
        if self._every and self._step % self._every == 0 and not is_last:
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._step != int(self._saved_step.numpy()):
            self._save()

    def _save(self) -> None:
        for variable in self._network.weights:
            if not np.isfinite(variable.numpy()).all():
                name = getattr(variable, "path", variable.name)
                raise UserError(
                    f"{name} is no longer finite after step {self._step}; "
                    f"{self._last()} Try a smaller learning_rate or a longer warm-up"
                )
        last = self._last()
        self._saved_step.assign(self._step)
        try:
            self._manager.save(self._step)
        except (tf.errors.OpError, OSError) as error:
            for part in self._own_folder.glob(f"ckpt-{self._step}[._]*"):
                shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
            if isinstance(error, WORKER_LOST):  # Workers wait for each other while they save.
                raise
            reason = str(error).strip().split("\n")[0]
            raise UserError(
                f"cannot write the checkpoint of step {self._step} to {self._own_folder}: "
                f"{reason}. {last}"
            ) from error
        self._remove_others()

    def _remove_others(self) -> None:
        """Removes what a killed process left: TensorFlow knows of its own checkpoints only.

        What is of a later step could not be read.
        """
        steps = [step for step in saved_steps(self._own_folder) if step <= self._step]
        for path in self._own_folder.iterdir():
            part = _PART.fullmatch(path.name)
            if part and int(part[1]) not in steps[:_KEPT]:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _last(self) -> str:
        steps = saved_steps(self._folder)
        if not steps:
            return "There is no checkpoint before it."
        return f"The checkpoint of step {steps[0]} is intact."


def restore_network(network: keras.Model, folder: pathlib.Path, config: Config) -> int:
    """Restores a network alone from the newest readable checkpoint, and returns its step.

    Raises:
        UserError: There is none, or it is of another training.
    """
    step = restore_newest({"network": network}, folder, config, whole=False)
    if not step:
        raise UserError(f"there is no checkpoint in {folder}")
    return step


def restore_newest(
    parts: Mapping[str, Any], folder: pathlib.Path, config: Config, *, whole: bool
) -> int:
    """Restores the newest readable checkpoint; warns of those that cannot be read.

    Args:
        parts: What to restore, by its name in a checkpoint.
        folder: Where the checkpoints are.
        config: The training, whose flags must be those of the checkpoint, where it has them:
            earlier versions wrote none.
        whole: Whether `parts` and the flags must be all that a checkpoint holds.

    Returns:
        The number of steps that it was saved after; 0 if there is no checkpoint.

    Raises:
        UserError: There are checkpoints and none can be read, or one is of another training.
    """
    steps = saved_steps(folder)
    for step in steps:
        path = folder / f"ckpt-{step}"
        try:
            reader = tf.train.load_checkpoint(str(path))
            has_flags = reader.has_tensor(_FLAGS)
            if has_flags:
                _check_flags(path, json.loads(reader.get_tensor(_FLAGS)), config)
            flags = {"flags": _Flags(config)} if has_flags else {}
            status = tf.train.Checkpoint(**parts, **flags).restore(str(path))
            status.assert_consumed() if whole else status.assert_existing_objects_matched()
            return step
        except (*WORKER_LOST, UserError):
            raise
        except _UNREADABLE as error:
            reason = str(error).strip().split("\n")[0]
            print(f"warning: cannot read checkpoint {path}: {reason}", file=sys.stderr)
    if steps:
        raise UserError(f"no checkpoint in {folder} can be read; to start anew, remove that folder")
    return 0


def _check_flags(path: pathlib.Path, recorded: Mapping[str, Any], config: Config) -> None:
    difference = config.difference(recorded)
    if difference:
        raise UserError(
            f"{path} is the checkpoint of a training with {difference}; give that value or "
            "another workdir"
        )


def _bytes(variables: Iterable[tf.Variable]) -> int:
    return sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in variables)


def saved_steps(folder: pathlib.Path) -> list[int]:
    """The steps that have a checkpoint in a folder, newest first.

    An index is written last, so what a killed process left unfinished has none.
    """
    found = (_INDEX.fullmatch(path.name) for path in folder.glob("ckpt-*.index"))
    return sorted((int(match[1]) for match in found if match), reverse=True)
