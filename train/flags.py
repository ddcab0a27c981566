"""The command line that every experiment shares: one flag per field of `train.config.Config`."""

import dataclasses
import json
import sys

from absl import app, flags, logging

from train.config import CHECKS, FIRST_LAST, METHODS, Config, UserError
from train.trainer import train

_HELP = {
    "workdir": "Folder of checkpoints, logs, model.h5 and record.json; an interrupted training "
    "in it is resumed.",
    "data_dir": "Folder of prepared TensorFlow Datasets; TFDS's own by default.",
    "arch": "Architecture.",
    "width": "Factor on the filters of every convolution.",
    "wbits": "Bits of the weights, 32 for float.",
    "abits": "Bits of the activations, 32 for float.",
    "method": "Where quantizer scales come from: learned in training, calibrated once, or "
    "fixed at 1 as in the paper.",
    "first_last": "First and last layer: in 8 bits (integer) or in float (paper).",
    "init_from": "Workdir or model file of a float network of the same shape to start from.",
    "epochs": "Passes over the training images.",
    "batch_size": "Images per step.",
    "learning_rate": "Peak learning rate; the schedule is a warm-up, then a cosine to 0.",
    "warmup_epochs": "Length of the warm-up, may be a fraction.",
    "weight_decay": "L2 penalty on kernels.",
    "shift": "Training images move by up to so many pixels.",
    "flip": "Training images are mirrored at random.",
    "train_images": "Use only the first so many training images; 0 means all.",
    "seed": "Decides initial weights, image order and augmentation.",
}
_CHOICES = {"method": METHODS, "first_last": FIRST_LAST}


def define(defaults: Config) -> None:
    """Defines a flag for every field but the data set, with the defaults' values.

    `--workdir` is required and takes no default.
    """
    for field in dataclasses.fields(Config):
        name, value = field.name, getattr(defaults, field.name)
        if name == "dataset":
            continue
        if name in _CHOICES:
            flags.DEFINE_enum(name, value, _CHOICES[name], _HELP[name])
        elif isinstance(value, bool):
            flags.DEFINE_boolean(name, value, _HELP[name])
        elif isinstance(value, int):
            flags.DEFINE_integer(name, value, _HELP[name])
        elif isinstance(value, float):
            flags.DEFINE_float(name, value, _HELP[name])
        else:
            flags.DEFINE_string(name, None if name == "workdir" else value, _HELP[name])
        if name in CHECKS and name not in _CHOICES:
            accepts, range_text = CHECKS[name]
            flags.register_validator(name, accepts, f"must be {range_text}")
    flags.mark_flag_as_required("workdir")


def main(defaults: Config) -> None:
    """Runs the experiment whose defaults are given, under the command line's flags.

    Prints the final metrics as one line of JSON. A `UserError` ends the process with status 1
    and its sentence on stderr, without a traceback.
    """
    define(defaults)

    def run(argv: list[str]) -> None:
        if len(argv) > 1:
            sys.exit(f"error: unexpected argument {argv[1]!r}; options are written --name=value")
        logging.set_verbosity(logging.WARNING)  # TensorFlow logs every checkpoint it writes.
        values = {
            field.name: flags.FLAGS[field.name].value
            for field in dataclasses.fields(Config)
            if field.name != "dataset"
        }
        try:
            metrics = train(Config(dataset=defaults.dataset, **values))
        except UserError as error:
            sys.exit(f"error: {error}")
        print(json.dumps(metrics))

    app.run(run)
