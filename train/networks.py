"""The network that a training begins with."""

import os
import pathlib

import tf_keras as keras

import wrpn_tf
from train.config import Config, UserError
from train.sources import Source
from wrpn_tf import models
from wrpn_tf.datasets import LabelledImages


def build(config: Config, source: Source, *, starts: bool) -> keras.Model:
    """Builds the network of a config, quantized where it says so.

    Args:
        config: The training.
        source: Its data.
        starts: Whether a training starts with it: weights are then those of `config.init_from`,
            scales and ranges those that fit a few hundred images. Not needed where a checkpoint
            or another network replaces all of them.

    Raises:
        UserError: The network cannot be built or quantized, or `config.init_from` does not fit.
    """
    data = source.data
    try:
        model = models.build(
            config.arch,
            width=config.width,
            num_classes=len(data.class_names),
            input_shape=data.image_shape,
        )
        if starts and config.init_from is not None:
            _copy_weights(load_network(config.init_from, "init_from"), model, config.init_from)
        if not config.quantized:
            return model
        model = wrpn_tf.quantize_model(
            model,
            weight_bits=config.wbits,
            activation_bits=config.abits,
            first_last=config.first_last,
            method=config.method,
            weight_method=config.weight_method,
            activation_method=config.activation_method,
            per_channel=config.per_channel,
            input_range=data.input_range,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    if starts and config.observes:
        wrpn_tf.calibrate(model, source.calibration())
    return model


def load_network(path: str | os.PathLike[str], flag: str) -> keras.Model:
    """Loads a network from a workdir or a model file.

    Raises:
        UserError: There is none; names the flag.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        file = file / "model.h5"
    if not file.is_file():
        raise UserError(f"{flag}: there is no model at {file}")
    try:
        return wrpn_tf.load_model(file)
    except ValueError as error:
        raise UserError(f"{flag}: {error}") from error


def load_teacher(config: Config, data: LabelledImages) -> keras.Model | None:
    """Loads the network to learn from, if there is one.

    Raises:
        UserError: It is not there, or not for images and classes like these.
    """
    if config.teacher is None:
        return None
    teacher = load_network(config.teacher, "teacher")
    shapes = teacher.input_shape[1:], teacher.output_shape[1:]
    expected = data.image_shape, (len(data.class_names),)
    if shapes != expected:
        raise UserError(
            f"teacher: {config.teacher} maps images of shape {shapes[0]} to logits of shape "
            f"{shapes[1]}, here {expected[0]} to {expected[1]}"
        )
    teacher.trainable = False
    return teacher


def _copy_weights(source: keras.Model, model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Copies the weights of a float network of the same architecture, layer by layer.

    Raises:
        UserError: The first layer that differs, by name.
    """
    layers = {layer.name: layer for layer in source.layers}
    for layer in model.layers:
        if layer.name not in layers:
            raise UserError(
                f"init_from: {path} is not a float {model.name}; it has no layer {layer.name!r}"
            )
        weights = layers.pop(layer.name).get_weights()
        shapes = [list(weight.shape) for weight in weights]
        expected = [weight.shape.as_list() for weight in layer.weights]
        if shapes != expected:
            raise UserError(
                f"init_from: layer {layer.name!r} of {path} has weights of shapes {shapes}, "
                f"here {expected}"
            )
        layer.set_weights(weights)
    if layers:
        raise UserError(
            f"init_from: {path} is not a float {model.name}; this has no layer {min(layers)!r}"
        )
