"""The one trainer: read `train` from top to bottom."""

import math
import os
import pathlib
import re
import sys
import time
import warnings
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

import export
import wrpn_tf
from train import data as batches
from train.config import Config, UserError
from train.record import Record
from wrpn_tf import datasets, models

_MOMENTUM = 0.9
_CALIBRATION_IMAGES = 512
_TEST_BATCH = 500
_KERNEL = re.compile(r"kernel(:\d+)?$")  # kernel, depthwise_kernel; no quantizer's kernel_scale.


def train(config: Config, *, verbose: int | str = "auto") -> dict[str, float]:
    """Trains, evaluates and saves one network; resumes what an earlier call left unfinished.

    Leaves in `config.workdir`: `model.h5` (for `wrpn_tf.load_model`), `record.json` (see
    `train.record`), `checkpoints/` and TensorBoard's `logs/`.

    Args:
        config: The training. A workdir belongs to one config: all fields but its locations must
            be those of the calls before.
        verbose: Progress as in Keras: 0 none, 1 a bar, 2 a line per epoch; 'auto' is a bar on a
            terminal and lines elsewhere.

    Returns:
        'test_accuracy' in [0, 1], 'test_loss' and 'train_seconds'. A finished training returns
        its recorded metrics at once.

    Raises:
        UserError: The config does not fit the workdir, the data or the float network to start
            from, or the loss is no longer finite.
    """
    record = Record.open(config)
    if record.metrics is not None:
        print(f"{record.path} records a finished training; nothing to do.")
        return record.metrics
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2

    keras.utils.set_random_seed(config.seed)
    data = _load_data(config)
    steps = len(data.train_images) // config.batch_size
    workdir = pathlib.Path(config.workdir)

    # The last finished epoch is resumed if there is one; else a given float network is the start;
    # else the random weights are. Building is the same in each case, quantizers need calibration
    # only where no checkpoint holds their state.
    saved = tf.train.latest_checkpoint(workdir / "checkpoints")
    model = models.build(
        config.arch,
        width=config.width,
        num_classes=len(data.class_names),
        input_shape=data.image_shape,
    )
    if config.init_from is not None and saved is None:
        _load_float_weights(model, config.init_from)
    if config.quantized:
        model = _quantize(model, config, data, calibrate=saved is None)

    model.compile(
        optimizer=_optimizer(config, model, steps),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    checkpoints = _Checkpoints(model, workdir / "checkpoints")
    first_epoch = checkpoints.restore()
    record.resume(first_epoch, data)
    if first_epoch:
        print(f"Resuming {workdir} after epoch {first_epoch} of {config.epochs}.")

    model.fit(
        batches.training_batches(
            data,
            batch_size=config.batch_size,
            epochs=config.epochs,
            first_epoch=first_epoch,
            seed=config.seed,
            shift=config.shift,
            flip=config.flip,
        ),
        steps_per_epoch=steps,
        initial_epoch=first_epoch,
        epochs=config.epochs,
        validation_data=batches.test_batches(data, batch_size=_TEST_BATCH),
        verbose=verbose,
        callbacks=[
            _StopOnNonFinite(),
            keras.callbacks.TensorBoard(workdir / "logs", write_graph=False),
            _RecordEpochs(record),  # Before the checkpoint: a record may be ahead of it,
            checkpoints,  # never behind.
        ],
    )

    if config.deployable:
        export.settle(model)  # From here on Keras and the device compute the same.
    loss, accuracy = model.evaluate(batches.test_batches(data, batch_size=_TEST_BATCH), verbose=0)
    _save_model(model, workdir / "model.h5")
    return record.finish(test_loss=loss, test_accuracy=accuracy)


def _load_data(config: Config) -> datasets.Dataset:
    """Loads the data set, cut to `config.train_images`."""
    try:
        data = datasets.load(config.dataset, config.data_dir)
    except (FileNotFoundError, ImportError) as error:
        raise UserError(str(error)) from error
    if config.train_images:
        data = data.head(config.train_images)
    if len(data.train_images) < config.batch_size:
        raise UserError(
            f"batch_size ({config.batch_size}) must not exceed the number of training images "
            f"({len(data.train_images)})"
        )
    return data


def _load_float_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Copies the weights of a saved float network of the same architecture, layer by layer.

    Raises:
        UserError: There is no model at `path`, or the first layer that differs, by name.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        file = file / "model.h5"
    if not file.is_file():
        raise UserError(f"init_from: there is no model at {file}")
    source = {layer.name: layer for layer in wrpn_tf.load_model(file).layers}
    for layer in model.layers:
        if layer.name not in source:
            raise UserError(
                f"init_from: {file} is not a float {model.name}; it has no layer {layer.name!r}"
            )
        weights = source.pop(layer.name).get_weights()
        shapes = [list(weight.shape) for weight in weights]
        expected = [weight.shape.as_list() for weight in layer.weights]
        if shapes != expected:
            raise UserError(
                f"init_from: layer {layer.name!r} of {file} has weights of shapes {shapes}, "
                f"here {expected}"
            )
        layer.set_weights(weights)
    if source:
        raise UserError(
            f"init_from: {file} is not a float {model.name}; this has no layer {min(source)!r}"
        )


def _quantize(
    model: keras.Model, config: Config, data: datasets.Dataset, *, calibrate: bool
) -> keras.Model:
    """Quantizes the network and sets its scales and ranges from a few training images."""
    try:
        model = wrpn_tf.quantize_model(
            model,
            weight_bits=config.wbits,
            activation_bits=config.abits,
            first_last=config.first_last,
            method=config.method,
            input_range=data.input_range,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    if calibrate:
        chosen = np.random.default_rng(config.seed).permutation(len(data.train_images))
        images = data.normalize(data.train_images[chosen[:_CALIBRATION_IMAGES]])
        wrpn_tf.calibrate(model, np.array_split(images, math.ceil(len(images) / 128)))
    return model


def _optimizer(config: Config, model: keras.Model, steps: int) -> keras.optimizers.Optimizer:
    """SGD with Nesterov momentum; a linear warm-up, then a cosine to 0; decay on kernels only.

    tf_keras subtracts its decay from the kernel beside the gradient, so that momentum does not
    amplify it; 1 / (1 - momentum) makes it as strong as the L2 penalty that papers quote.
    """
    warmup_steps = round(config.warmup_epochs * steps)
    optimizer = keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else config.learning_rate,
            decay_steps=max(1, config.epochs * steps - warmup_steps),
            warmup_target=config.learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        ),
        momentum=_MOMENTUM,
        nesterov=True,
        weight_decay=config.weight_decay / (1 - _MOMENTUM) or None,
        jit_compile=False,  # XLA makes the step slower on CPU.
    )
    variables = model.trainable_variables
    optimizer.exclude_from_weight_decay([v for v in variables if not _KERNEL.search(v.name)])
    optimizer.build(variables)
    return optimizer


def _save_model(model: keras.Model, path: pathlib.Path) -> None:
    """Writes the model without its optimizer; a reader sees the whole file or none."""
    partial = path.with_suffix(".partial.h5")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file")
        model.save(partial, include_optimizer=False)
    partial.replace(path)


class _Checkpoints(keras.callbacks.Callback):
    """Keeps the state after the two last finished epochs: weights, optimizer and epoch."""

    def __init__(self, model: keras.Model, folder: pathlib.Path) -> None:
        super().__init__()
        self._finished = tf.Variable(0, dtype=tf.int64, trainable=False)
        state = tf.train.Checkpoint(
            weights=list(model.weights),
            optimizer=list(model.optimizer.variables),
            epoch=self._finished,
        )
        self._manager = tf.train.CheckpointManager(state, folder, max_to_keep=2)

    def restore(self) -> int:
        """Restores the newest checkpoint; returns the number of finished epochs, 0 if none."""
        path = self._manager.latest_checkpoint
        if path is None:
            return 0
        self._manager.checkpoint.restore(path).assert_consumed()
        return int(self._finished.numpy())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._finished.assign(epoch + 1)
        self._manager.save(epoch + 1)


class _RecordEpochs(keras.callbacks.Callback):
    """Adds every epoch's metrics, learning rate and seconds to the record."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self._record = record
        self._start = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        self._record.add_epoch(
            epoch=epoch + 1,
            train_loss=logs["loss"],
            train_accuracy=logs["accuracy"],
            test_loss=logs["val_loss"],
            test_accuracy=logs["val_accuracy"],
            learning_rate=float(self.model.optimizer.learning_rate.numpy()),
            seconds=time.monotonic() - self._start,
        )


class _StopOnNonFinite(keras.callbacks.Callback):
    """Ends the training when the loss is no longer finite."""

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at step {batch + 1} of epoch {self._epoch + 1}; "
                "try a smaller learning_rate or a longer warm-up"
            )
