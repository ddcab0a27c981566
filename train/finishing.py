"""What follows the last step: the network that is evaluated and saved."""

import dataclasses
import math
import os
import pathlib
import warnings
from typing import Any

import numpy as np
import tensorflow as tf

import export
import wrpn_tf
from train import networks, sources
from train.checkpoints import restore_network
from train.config import Config, UserError
from train.data import ALONE
from train.losses import LabelLoss
from train.record import Record
from train.sources import Source
from wrpn_tf.files import replacing


def finish(model: Any, config: Config, source: Source) -> None:
    """Takes statistics anew and settles biases, as the training asks for; in place.

    Args:
        model: The trained network, on one device and in float32, as it will be deployed.
        config: The training.
        source: Its data.

    Raises:
        UserError: The network has no integer form, as where a weight is not finite.
    """
    if config.bn_images:
        end = config.epochs * (source.train_size // config.batch_size)
        batches = source.training(end, config.epochs + 1)(ALONE)  # As one more epoch's.
        count = math.ceil(config.bn_images / config.batch_size)
        reestimate_statistics(model, batches.take(count).map(lambda images, *_: images))
    try:
        if is_integer_only(model, config):
            export.settle(model)  # From here on Keras and the device compute the same.
    except ValueError as error:
        raise UserError(f"the trained network has no integer form: {error}") from error


def is_integer_only(model: Any, config: Config) -> bool:
    """Whether a trained network is to have an integer form.

    With widths of 32, rules may still give every layer fewer bits; then the network says whether
    they did.

    Raises:
        LoweringError: It has none for another reason than something in float.
    """
    if config.deployable or not config.rules or config.first_last != "integer":
        return config.deployable
    try:
        export.lower(model)
    except export.FloatError:
        return False
    return True


def evaluate(model: Any, source: Source) -> dict[str, float]:
    """The network's loss against unsmoothed labels and its accuracy on the test images."""
    model.compile(loss=LabelLoss().call, weighted_metrics=["accuracy"], jit_compile=False)
    found = model.evaluate(source.test()(ALONE), verbose=0, return_dict=True)
    source.check()
    return {"test_loss": found["loss"], "test_accuracy": found["accuracy"]}


def evaluate_workdir(
    workdir: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None
) -> dict[str, float]:
    """Evaluates what a training left: its model, or else the newest checkpoint.

    Args:
        workdir: The folder; the record in it says what was trained.
        data_dir: Where the data set is; None: where the training read it.

    Returns:
        'test_loss' and 'test_accuracy', and 'step' where it is a checkpoint's.

    Raises:
        UserError: The folder holds no training, or the data set is not there.
    """
    folder = pathlib.Path(workdir)
    config = Record.read_config(folder / "record.json")
    config = dataclasses.replace(config, data_dir=data_dir or config.data_dir)
    source = sources.load(config)
    if wrpn_tf.trained_file(folder).is_file():
        return evaluate(networks.load_network(folder, "workdir"), source)
    model = networks.build(config, source, starts=False)
    step = restore_network(model, folder / "checkpoints", config)
    return evaluate(model, source) | {"step": step}


def reestimate_statistics(model: Any, batches: tf.data.Dataset) -> None:
    """Replaces the moving averages of batch normalization by means over whole batches.

    Moving averages lag behind weights that move, and fit no average of weights. Everything else
    stays as it is.

    Args:
        model: Changed in place.
        batches: Batches of real-valued images.
    """
    layers = [getattr(layer, "layer", layer) for layer in model.layers]
    layers = [layer for layer in layers if wrpn_tf.class_name(layer) == "BatchNormalization"]
    statistics = [v for layer in layers for v in (layer.moving_mean, layer.moving_variance)]
    momenta = [layer.momentum for layer in layers]
    before = [variable.numpy() for variable in model.non_trainable_weights]
    sums = [np.zeros(variable.shape, np.float64) for variable in statistics]
    count = 0
    try:
        for layer in layers:
            layer.momentum = 0.0
        step = tf.function(lambda images: model(images, training=True))
        for images in batches:
            step(images)
            count += 1
            for total, variable in zip(sums, statistics, strict=True):
                total += variable.numpy()
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for variable, value in zip(model.non_trainable_weights, before, strict=True):
            variable.assign(value)
    for total, variable in zip(sums, statistics, strict=True):
        variable.assign(total / max(1, count))


def save_model(model: Any, path: pathlib.Path) -> None:
    """Writes the model without its optimizer; a reader sees the whole file or none.

    Raises:
        WriteError: It cannot be written.
    """
    model.compiled = False  # In files of Keras 3, loss and metrics are left out with that.
    with replacing(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file")
        model.save(partial, include_optimizer=False)
