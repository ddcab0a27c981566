"""The network that a training begins with."""

import glob
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import wrpn_tf
from train.config import Config, UserError, pretrained_name
from train.record import Record
from train.sources import Source
from wrpn_tf import models
from wrpn_tf.data.datasets import LabelledImages
from wrpn_tf.fronts import package_of

_OF_QUANTIZER = re.compile(r"\w*kernel_scale|output_\w+|optimizer_step")


def build(config: Config, source: Source, *, starts: bool) -> Any:
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
            front=config.front,
        )
        if starts and config.init_from is not None:
            _start(model, config, config.init_from)
        if not config.quantized:
            return model
        model = wrpn_tf.quantize_model(model, **quantization(config), input_range=data.input_range)
    except ValueError as error:
        raise UserError(str(error)) from error
    if starts and config.observes:
        wrpn_tf.calibrate(model, source.calibration())
    return model


def quantization(config: Config) -> dict[str, Any]:
    """The arguments of `wrpn_tf.quantize_model` that a config says."""
    return {
        "weight_bits": config.wbits,
        "activation_bits": config.abits,
        "rules": config.rules,
        "first_last": config.first_last,
        "method": config.method,
        "weight_method": config.weight_method,
        "activation_method": config.activation_method,
        "per_channel": config.per_channel,
    }


def load_network(path: str | os.PathLike[str], flag: str) -> Any:
    """Loads a network from a workdir or a model file, or 'pretrained:NAME' of the package.

    Raises:
        UserError: There is none; names the flag.
    """
    name, file = pretrained_name(path), pathlib.Path(path)
    try:
        if name is not None:
            return models.load_pretrained(name)
        if file.is_dir():
            file = wrpn_tf.trained_file(file)
        if not file.is_file():
            raise ValueError(f"there is no model at {file}")
        return wrpn_tf.load_model(file)
    except ValueError as error:
        raise UserError(f"{flag}: {error}") from error


def _load_for(config: Config, path: str | os.PathLike[str], flag: str) -> Any:
    """`load_network`, as a model of the training's Keras."""
    network = load_network(path, flag)
    if package_of(network) == config.front:
        return network
    cross = wrpn_tf.from_tf_keras if config.front == "keras" else wrpn_tf.to_tf_keras
    try:
        return cross(network)
    except ValueError as error:
        raise UserError(f"{flag}: {error}") from error


def load_teacher(config: Config, data: LabelledImages) -> Any | None:
    """Loads the network to learn from, if there is one.

    Raises:
        UserError: It is not there, or not for images and classes like these.
    """
    if config.teacher is None:
        return None
    teacher = _load_for(config, config.teacher, "teacher")
    shapes = teacher.input_shape[1:], teacher.output_shape[1:]
    expected = data.image_shape, (len(data.class_names),)
    if shapes != expected:
        raise UserError(
            f"teacher: {config.teacher} maps images of shape {shapes[0]} to logits of shape "
            f"{shapes[1]}, here {expected[0]} to {expected[1]}"
        )
    teacher.trainable = False
    return teacher


def _start(model: Any, config: Config, path: str | os.PathLike[str]) -> None:
    """Gives a float network the weights of `config.init_from`, widened where that is narrower.

    Raises:
        UserError: They are not of this architecture, or of none as narrow that is recorded.
    """
    source = _load_for(config, path, "init_from")
    width = _recorded_width(path) or config.width
    if width < config.width:
        narrow = models.build(
            config.arch,
            width=width,
            num_classes=model.output_shape[-1],
            input_shape=model.input_shape[1:],
            front=config.front,
        )
        _copy_weights(source, narrow, path)
        rules = _width_rules(narrow, model, path)
        source = wrpn_tf.widen(narrow, config.width / width, rules, seed=config.seed)
    _copy_weights(source, model, path)


def _width_rules(narrow: Any, wide: Any, path: str | os.PathLike[str]) -> list[wrpn_tf.WidthRule]:
    """The factor of each layer: an architecture keeps some, and rounds each width by itself.

    Raises:
        UserError: The first layer that the wide network alone has, as a ResNet whose first layer
            is kept has a convolution as the shortcut of its first block.
    """
    before, after = _filters(narrow), _filters(wide)
    added = [name for name in after if name not in before]
    if added:
        raise UserError(
            f"init_from: {path} is narrower, and a {wide.name} of its width has no layer "
            f"{added[0]!r}, so that it cannot be widened; start from a network of the same width"
        )
    return [
        wrpn_tf.WidthRule(name=glob.escape(name), factor=after[name] / filters)
        for name, filters in before.items()
    ]


def _filters(model: Any) -> dict[str, int]:
    """By name, the filters or units of the layers that have some of their own."""
    found = {
        layer.name: getattr(layer, "filters", None) or getattr(layer, "units", None)
        for layer in model.layers
    }
    return {name: filters for name, filters in found.items() if filters}


def _recorded_width(path: str | os.PathLike[str]) -> float | None:
    """The width of a network that is named by its workdir or as a published one."""
    name, record = pretrained_name(path), pathlib.Path(path) / "record.json"
    if name is not None:
        return models.pretrained()[name]["width"]
    return Record.read_config(record).width if record.is_file() else None


def _copy_weights(source: Any, model: Any, path: str | os.PathLike[str]) -> None:
    """Copies the weights of a network of the same architecture into a float one.

    The source may be quantized, at any bit-widths: its kernels in float are taken, its quantizers'
    scales and ranges are not.

    Raises:
        UserError: The first layer that differs, by name.
    """
    found = {
        key: variable.numpy()
        for key, variable in _named_weights(source)
        if not _OF_QUANTIZER.fullmatch(key[1])
    }
    for key, variable in _named_weights(model):
        if key not in found:
            raise UserError(f"init_from: {path} is not a {model.name}; it has no layer {key[0]!r}")
        value = found.pop(key)
        if value.shape != tuple(variable.shape):
            name = getattr(variable, "path", variable.name)
            raise UserError(
                f"init_from: {name} of {path} has shape {list(value.shape)}, "
                f"here {list(variable.shape)}"
            )
        variable.assign(value)
    if found:
        other, _ = min(found)
        raise UserError(f"init_from: {path} is not a {model.name}; this has no layer {other!r}")


def _named_weights(model: Any) -> Iterator[tuple[tuple[str, str], Any]]:
    """The variables of a model of either Keras, by the names of the layer and of the variable."""
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)  # Within a wrapper.
        for variable in layer.weights:
            yield (inner.name, variable.name.split("/")[-1].split(":")[0]), variable
