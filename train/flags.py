"""The command line that every experiment shares: one flag per field of `train.config.Config`."""

import dataclasses
import errno
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from absl import flags, logging

import wrpn_tf
from train.config import CHECKS, CHOICES, Config, UserError, require_effect
from wrpn_tf import command_line, jpegs
from wrpn_tf.files import WriteError

_GROUPS = {
    "Run": {
        "workdir": "Folder of checkpoints, logs, model.h5 and record.json; an interrupted training "
        "in it is resumed.",
        "keras": "2: tf_keras, model.h5; 3: Keras 3, model.keras, on one device in float32.",
        "seed": "Decides initial weights, image order and augmentation.",
        "deterministic": "Only operations that give the same bits at every run; slower.",
        "strategy": "One device; all of this machine; the machines of $TF_CONFIG; or a TPU.",
        "replicas": "Logical CPUs of the mirrored strategy, on a machine without GPUs.",
        "packed_activations": "Keep activations for the backward pass as packed codes: less "
        "memory, slower, the same training.",
        "checkpoint_steps": "Steps between checkpoints; 0: only at the end of every epoch.",
        "log_steps": "Steps between lines of metrics.jsonl.",
    },
    "Data": {
        "data_dir": "Folder of prepared TensorFlow Datasets; TFDS's own by default.",
        "image_size": "Height and width in pixels of the network's images.",
        "train_images": "Use only the first so many training images; 0 means all.",
        "test_images": "Use only the first so many test images; 0 means all.",
        "shift": "Training images move by up to so many pixels.",
        "flip": "Training images are mirrored at random.",
        "color": "Brightness, contrast and saturation change by up to this share.",
    },
    "Network": {
        "arch": "Architecture.",
        "width": "Factor on the filters of every convolution.",
        "init_from": "Workdir or model file of a network of the same architecture to start from, "
        "in any bits, or pretrained:NAME of the package; a narrower one is widened, unless it is "
        "a file.",
    },
    "Quantization": {
        "wbits": "Bits of the weights, 32 for float.",
        "abits": "Bits of the activations, 32 for float.",
        "method": "Where quantizer scales come from: learned in training, calibrated once, or "
        "fixed at 1 as in the paper.",
        "weight_method": "Another method for the weights; --method by default.",
        "activation_method": "Another method for the activations; --method by default.",
        "per_channel": "A scale for each output channel of a convolution, or one for its kernel.",
        "first_last": "First and last layer: in 8 bits (integer) or in float (paper).",
        "rules": "JSON file of bits for single layers, a list of rules of which the first that "
        'matches wins, as [{"name": "stage3_*", "weight_bits": 4}].',
    },
    "Schedule and optimizer": {
        "epochs": "Passes over the training images.",
        "batch_size": "Images per step, over all replicas.",
        "optimizer": "SGD with Nesterov momentum 0.9, or Adam.",
        "learning_rate": "Peak learning rate, for batches of --reference_batch images.",
        "reference_batch": "The peak learning rate grows in proportion to batch_size / "
        "reference_batch; 0 does not scale it.",
        "schedule": "After the warm-up: a cosine to 0, or steps at --decay_epochs.",
        "warmup_epochs": "Length of the warm-up, may be a fraction.",
        "decay_epochs": "Epochs after which the step schedule decays, as in 30,60,90.",
        "decay_factor": "What the step schedule multiplies the learning rate with.",
        "clip_norm": "Largest norm of all gradients together; 0 does not clip.",
        "mixed_precision": "Convolutions in bfloat16 or float16; quantizers stay in float32.",
    },
    "Regularization": {
        "weight_decay": "L2 penalty on kernels.",
        "label_smoothing": "Share of the label that is spread over all classes.",
        "ema": "Momentum of the moving average of weights that is evaluated and saved; 0 for none.",
        "bn_images": "Training images over which batch normalization's statistics are taken anew "
        "after training; 0 leaves the moving averages.",
    },
    "Teacher": {
        "teacher": "Workdir or model file of a float network to learn from, beside the labels, or "
        "pretrained:NAME of the package.",
        "teacher_weight": "Share of the loss against the teacher.",
        "temperature": "Divides the logits in the loss against the teacher.",
    },
}
"""What each flag is for, by the title under which the help shows it."""

_HELP = {name: text for group in _GROUPS.values() for name, text in group.items()}

_FULL = re.compile(rf"(?:\{{\{{.*\}}\}} )?([^;\n]+); ({os.strerror(errno.ENOSPC)})")
_FIELDS = {field.name: field for field in dataclasses.fields(Config)}
_PATHS = {"workdir", "data_dir", "init_from", "teacher", "rules"}


def define(defaults: Config, omit: Collection[str] = (), *, require_workdir: bool = True) -> None:
    """Defines a flag for every field but the data set, with the defaults' values.

    Args:
        defaults: The experiment.
        omit: Fields that have no meaning for the experiment's data set.
        require_workdir: Whether `--workdir` must be given.
    """
    for name in _HELP:
        if name in omit:
            continue
        value = getattr(defaults, name)
        if name in CHOICES:
            flags.DEFINE_enum(name, value, CHOICES[name], _HELP[name])
            continue
        if isinstance(value, bool):
            flags.DEFINE_boolean(name, value, _HELP[name])
        elif isinstance(value, int):
            flags.DEFINE_integer(name, value, _HELP[name])
        elif isinstance(value, float):
            flags.DEFINE_float(name, value, _HELP[name])
        elif name != "rules" and isinstance(value, tuple):
            flags.DEFINE_list(name, list(map(str, value)), _HELP[name])
            flags.register_validator(name, _is_list_of_numbers, "must be numbers: 30,60,90")
            continue
        else:
            flags.DEFINE_string(name, value or None, _HELP[name])
        if name in CHECKS:
            accepts, range_text = CHECKS[name]
            flags.register_validator(name, accepts, f"must be {range_text}")
    if require_workdir:
        flags.mark_flag_as_required("workdir")


def given() -> dict[str, Any]:
    """The fields that the command line sets.

    Raises:
        UserError: The file of rules cannot be read or holds something else, or a path is empty.
    """
    values = {
        name: flags.FLAGS[name].value
        for name in _FIELDS
        if name in flags.FLAGS and flags.FLAGS[name].present
    }
    for name in _PATHS & values.keys():
        if not values[name]:
            raise UserError(f"--{name} is empty; give a path, or leave the flag out")
    if "rules" in values:
        try:
            values["rules"] = wrpn_tf.read_rules(values["rules"])
        except ValueError as error:
            raise UserError(f"rules: {error}") from error
    return {
        name: tuple(map(int, value)) if isinstance(value, list) else value
        for name, value in values.items()
    }


def main(defaults: Config, omit: Collection[str] = ()) -> NoReturn:
    """Runs the experiment whose defaults are given, under the command line's flags."""
    define(defaults, omit)

    def program() -> Mapping[str, Any]:
        fields = given()
        config = dataclasses.replace(defaults, **fields)
        require_effect(config, fields)

        from train.trainer import train

        return train(config)

    run(program)


def run(program: Callable[[], Mapping[str, Any] | None]) -> NoReturn:
    """Runs a program that trains on the command line; see `wrpn_tf.command_line.run`.

    Prints what it returns, unless that is nothing, as one line of JSON. A `UserError`, a
    `WriteError`, or a label among a data set's records that is no class, ends the process with
    status 1 and a sentence on stderr; the loss of another worker with status 75 (EX_TEMPFAIL),
    which tells a launcher to start it again.
    """

    def start() -> None:
        logging.set_verbosity(logging.WARNING)  # TensorFlow logs every checkpoint it writes.
        try:
            result = program()
        except (UserError, WriteError, ModuleNotFoundError):
            raise
        except Exception as error:
            _tell(error)
            raise
        if result:
            print(json.dumps(result))

    command_line.run(
        start,
        groups=_GROUPS,
        errors=(UserError, WriteError),
        interrupted="the same command resumes from the last checkpoint in the workdir",
    )


def _tell(error: Exception) -> None:
    """Ends a program for an error of TensorFlow's that is none of ours."""
    import tensorflow as tf

    from train.strategies import WORKER_LOST

    if isinstance(error, WORKER_LOST):
        kind = type(error).__name__
        print(f"another worker is lost ({kind}); started again, all resume", file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL)
    if isinstance(error, tf.errors.ResourceExhaustedError):  # Of TensorBoard's logs, or memory.
        full = _FULL.match(error.message)
        if full is not None:
            raise WriteError(f"Cannot write {full[1]}: {full[2]}.") from error
    if isinstance(error, tf.errors.InvalidArgumentError):
        label = jpegs.wrong_label(error)
        if label is not None:
            raise UserError(f"{label}; prepare the data set anew") from error


def _is_list_of_numbers(values: list[str]) -> bool:
    return all(value.strip().isdigit() for value in values)
