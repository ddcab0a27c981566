"""What a training tells while it runs.

The callbacks are tf_keras's, which `fit` of Keras 3 takes as its own.
"""

import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import wrpn_tf
from train.config import Config, UserError
from train.histograms import write_histogram
from train.optimizers import learning_rate
from train.record import Record
from train.sources import Source
from wrpn_tf.files import write_bytes, writing
from wrpn_tf.models.namespaces import keras_named


def observers(
    config: Config,
    record: Record,
    network: keras.Model,
    plain: keras.Model,
    source: Source,
    first_step: int,
    steps: int,
    *,
    is_chief: bool,
    verbose: int | str,
) -> list[keras.callbacks.Callback]:
    """The callbacks of one call of `fit`, but the one that writes checkpoints.

    Args:
        config: The training.
        record: Its record.
        network: What is trained.
        plain: The same on one device, to look at its weights.
        source: Its data.
        first_step: The step that the call begins with.
        steps: Steps of an epoch.
        is_chief: Whether this process writes the workdir.
        verbose: 0 none, 1 a bar, 2 a line for each epoch.
    """
    workdir = record.path.parent
    found = [StopOnNonFinite(first_step), Check(source.check)]
    if config.observes:
        logs = workdir / "logs" / "codes" if is_chief else None
        found.append(Codes(network, plain, logs, source.calibration()[0]))
    if is_chief:
        schedule = learning_rate(config, steps)
        found += [
            keras_named(config.front).callbacks.TensorBoard(workdir / "logs", write_graph=False),
            MetricsLines(
                workdir / "metrics.jsonl",
                first_step,
                config.batch_size,
                config.log_steps,
                schedule,
            ),
            RecordEpochs(record, schedule, verbose=verbose == 2, epochs=config.epochs),
        ]
        if verbose == 1:
            found.append(ProgressBar(first_step, config.epochs * steps, config.batch_size))
    return found


@contextlib.contextmanager
def terminal_restored(found: Iterable[keras.callbacks.Callback]) -> Iterator[None]:
    """Stops a bar among the callbacks where `fit` ends in an error, of which it tells none."""
    try:
        yield
    finally:
        for callback in found:
            if isinstance(callback, ProgressBar):
                callback.stop()


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends the training when the loss is no longer finite.

    Args:
        first_step: The step that the training begins with.
    """

    def __init__(self, first_step: int) -> None:
        super().__init__()
        self._step = first_step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._step += 1
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at step {self._step}; the checkpoints before it are kept. "
                "Try a smaller learning_rate or a longer warm-up"
            )


class Check(keras.callbacks.Callback):
    """Calls a function after every step, for what it raises."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__()
        self._check = check

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._check()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._check()


class ProgressBar(keras.callbacks.Callback):
    """A bar over the whole training, with images per second and the time left.

    Args:
        first_step: The step that the training begins with.
        steps: Steps of the whole training.
        batch_size: Images per step.
    """

    def __init__(self, first_step: int, steps: int, batch_size: int) -> None:
        super().__init__()
        self._batch_size = batch_size
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} images/s"),
            TimeRemainingColumn(),
            TextColumn("left, loss {task.fields[loss]:.3f}, top-1 {task.fields[accuracy]:.3f}"),
        )
        self._task = self._bar.add_task(
            "", total=steps, completed=first_step, epoch=0, rate="?", loss=0.0, accuracy=0.0
        )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._bar.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._bar.update(self._task, epoch=epoch + 1)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        speed = self._bar.tasks[self._task].speed
        self._bar.update(
            self._task,
            advance=1,
            rate=f"{speed * self._batch_size:,.0f}" if speed else "?",
            loss=(logs or {}).get("loss", 0.0),
            accuracy=(logs or {}).get("accuracy", 0.0),
        )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.stop()

    def stop(self) -> None:
        """Leaves the bar as it is, and gives the terminal its cursor back."""
        self._bar.stop()


class MetricsLines(keras.callbacks.Callback):
    """Appends to `metrics.jsonl`: a line every few steps, and one at each epoch's end.

    Losses and accuracies are means since the epoch's start, or since the training was resumed in
    it. Lines of steps that will be done again are dropped.

    Args:
        path: The file.
        first_step: The step that the training begins with.
        batch_size: Images per step.
        every: Steps between lines.
        schedule: The learning rate by step.
    """

    def __init__(
        self,
        path: pathlib.Path,
        first_step: int,
        batch_size: int,
        every: int,
        schedule: Callable[[int], Any],
    ) -> None:
        super().__init__()
        self._path = path
        self._step = first_step
        self._batch_size = batch_size
        self._every = every
        self._schedule = schedule
        self._since = (first_step, time.monotonic())
        self._keep(first_step)

    def _keep(self, step: int) -> None:
        if not self._path.exists():
            return
        kept = []
        with writing(self._path):
            lines = self._path.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):  # A killed process left it unfinished.
                break
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise UserError(
                    f"{self._path}:{number} is no line of metrics; remove the line, or the file"
                ) from error
        write_bytes(self._path, b"".join(kept))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch + 1
        self._since = (self._step, time.monotonic())

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._step += 1
        if self._step % self._every == 0:
            step, start = self._since
            images = (self._step - step) * self._batch_size
            rate = images / (time.monotonic() - start)
            self._since = (self._step, time.monotonic())
            self._write("train", logs, images_per_second=round(rate, 1))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._write("epoch", logs)

    def _write(self, kind: str, logs: dict[str, Any] | None, **more: float) -> None:
        line = {"kind": kind, "step": self._step, "epoch": self._epoch}
        line |= {name: float(value) for name, value in (logs or {}).items()} | more
        line["learning_rate"] = _last_rate(self._schedule, self.model.optimizer)
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class RecordEpochs(keras.callbacks.Callback):
    """Adds every epoch's metrics, learning rate and seconds to the record.

    Args:
        record: The record.
        schedule: The learning rate by step.
        verbose: Whether to print a line for each epoch.
        epochs: Number of epochs, for that line.
    """

    def __init__(
        self, record: Record, schedule: Callable[[int], Any], *, verbose: bool, epochs: int
    ) -> None:
        super().__init__()
        self._record = record
        self._schedule = schedule
        self._verbose = verbose
        self._epochs = epochs
        self._start = 0.0
        self._steps = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._start = time.monotonic()
        self._steps = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._steps += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        seconds = time.monotonic() - self._start
        self._record.add_epoch(
            epoch=epoch + 1,
            steps=self._steps,
            train_loss=logs["loss"],
            train_accuracy=logs["accuracy"],
            test_loss=logs["val_loss"],
            test_accuracy=logs["val_accuracy"],
            learning_rate=_last_rate(self._schedule, self.model.optimizer),
            seconds=seconds,
        )
        if self._verbose:
            print(
                f"epoch {epoch + 1}/{self._epochs}: loss {logs['loss']:.4f}, accuracy "
                f"{logs['accuracy']:.4f}, test loss {logs['val_loss']:.4f}, test accuracy "
                f"{logs['val_accuracy']:.4f}, {seconds:.0f} s, "
                f"{seconds * (self._epochs - epoch - 1) / 60:.0f} min left",
                flush=True,
            )


def _last_rate(schedule: Callable[[int], Any], optimizer: Any) -> float:
    """The learning rate of the last step; an optimizer of Keras 3 tells that of the next one."""
    return float(schedule(max(0, int(optimizer.iterations.numpy()) - 1)))


class Codes(keras.callbacks.Callback):
    """TensorBoard's histograms of weight codes and shares of clipped activations, each epoch.

    Every process of a distributed training must have it: reading variables may be a collective
    operation. Only one with a folder writes.

    Args:
        network: The quantized network.
        plain: The same on one device; gets its weights.
        folder: Where to write, or None.
        images: A batch of real-valued images to take the shares from.
    """

    def __init__(
        self,
        network: keras.Model,
        plain: keras.Model,
        folder: str | os.PathLike[str] | None,
        images: np.ndarray,
    ) -> None:
        super().__init__()
        self._network = network
        self._plain = plain
        self._writer = (
            tf.summary.create_noop_writer()
            if folder is None
            else tf.summary.create_file_writer(os.fspath(folder))
        )
        self._images = images

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._plain.set_weights(self._network.get_weights())
        with self._writer.as_default(step=epoch):
            for view in wrpn_tf.view(self._plain):
                if view.kernel is not None:
                    write_histogram(f"weight codes/{view.name}", view.kernel.codes)
            for name, share in wrpn_tf.clipped_shares(self._plain, self._images).items():
                tf.summary.scalar(f"clipped activations/{name}", share)
        self._writer.flush()
