r"""ImageNet (ILSVRC-2012): the experiments of WRPN, and any network of wrpn_tf.models.

    python -m train.imagenet --list
    python -m train.imagenet --config=resnet34-2x-w4a4
    python -m train.imagenet --width=2 --abits=4
    python -m train.imagenet --mode=eval --workdir=runs/imagenet/resnet34-2x-w4a4

The second and the third are the same: the architecture is a ResNet-34 and `--wbits` is as `--abits`
unless given. `--arch` brings its recipe, as `--config` does.

`--data_dir` is a folder of prepared TensorFlow Datasets with `imagenet2012`, or one with
`train/<class>/*.JPEG` and `val/<class>/*.JPEG`. A finished network that is integer throughout is
exported as `model.tflite` in the workdir and verified. docs/imagenet.md has the rest.
"""

import dataclasses
import os
import pathlib
from typing import Any

from absl import flags as absl_flags
from rich.console import Console
from rich.table import Table

from train import flags
from train.config import ARRAY_FIELDS, Config, UserError, first_difference, require_effect
from train.experiments import DEFAULTS, experiment_name, experiments, recipe

_RUNS = "runs/imagenet"
_NAMING = ("arch", "width", "wbits", "abits")  # Fields that name an experiment.
_PLACES = ("workdir", "data_dir")
_VERIFIED_IMAGES = 50  # Tensor by tensor; a ResNet-34 has 10 million integers an image.

_CONFIG = absl_flags.DEFINE_string(
    "config", None, "Name of an experiment of --list; other flags change it."
)
_LIST = absl_flags.DEFINE_boolean("list", False, "Print all experiments and end.")
_MODE = absl_flags.DEFINE_enum(
    "mode",
    "train",
    ("train", "eval"),
    "Train, or evaluate what --workdir holds; other flags must then be as trained.",
)


def choose(name: str | None, given: dict[str, Any]) -> Config:
    """The training that the command line asks for.

    Args:
        name: An experiment's, or None for the defaults.
        given: The fields that flags set. `arch` brings its recipe; without `wbits`, weights get as
            many bits as activations; without `workdir`, it is a folder named by architecture,
            width and bits.

    Raises:
        UserError: The name is unknown, or a field is out of range or has no effect.
    """
    known = experiments()
    if name is not None and name not in known:
        raise UserError(f"unknown config {name!r}; --list prints all {len(known)}")
    base = known[name].config if name is not None else DEFAULTS
    if name is None and "abits" in given:
        given = {"wbits": given["abits"], **given}
    config = dataclasses.replace(base, **recipe(given.get("arch", base.arch)) | given)
    require_effect(config, given)
    if config.workdir:
        return config
    chosen = experiment_name(config.arch, config.width, config.wbits, config.abits)
    return dataclasses.replace(config, workdir=os.path.join(_RUNS, chosen))


def evaluate(name: str | None, given: dict[str, Any]) -> dict[str, float]:
    """Evaluates what the workdir of `choose` holds; see `train.finishing.evaluate_workdir`.

    Args:
        name: An experiment's, or None.
        given: The fields that flags set.

    Raises:
        UserError: The workdir's training had another value of one of them, or of one that the
            experiment is named by.
    """
    from train.record import Record

    said = {field: value for field, value in given.items() if field not in _PLACES}
    named = {field: value for field, value in given.items() if field in (*_NAMING, "workdir")}
    chosen = choose(name, named)
    if name is not None:
        said |= {field: getattr(chosen, field) for field in _NAMING}
    recorded = Record.read_config(pathlib.Path(chosen.workdir) / "record.json").as_json()
    difference = first_difference(said, recorded)
    if difference:
        raise UserError(
            f"{chosen.workdir} holds a training with {difference}, and --mode=eval evaluates what "
            "was trained; leave the flag out, or give another workdir"
        )

    from train.finishing import evaluate_workdir

    return evaluate_workdir(chosen.workdir, given.get("data_dir"))


def print_experiments(console: Console) -> None:
    """Prints all experiments with what the paper reports for them."""
    table = Table(
        title="ImageNet experiments",
        caption="A/W: activation and weight bits. Top-1 in "
        "% and cost relative to 1x float: WRPN's tables; '-': not in the paper.",
    )
    for column in ("--config", "A/W", "top-1", "cost"):
        table.add_column(column, justify="left" if column == "--config" else "right", no_wrap=True)
    for name, experiment in experiments().items():
        expected = (experiment.top1, experiment.cost)
        table.add_row(
            name,
            f"{experiment.abits}/{experiment.wbits}",
            *("-" if value is None else f"{value:g}" for value in expected),
        )
    console.print(table)


def run() -> dict[str, Any] | None:
    """Runs the program."""
    console = Console()
    if _LIST.value:
        print_experiments(console)
        return None
    given = flags.given()
    if _MODE.value == "eval":
        return evaluate(_CONFIG.value, given)
    config = choose(_CONFIG.value, given)

    from train.deployment import deploy
    from train.trainer import train

    metrics = train(config)
    if metrics:
        deployment = deploy(
            config.workdir, images=_VERIFIED_IMAGES, console=console, data_dir=config.data_dir
        )
        if deployment:
            console.print(f"{deployment.path} is verified.")
        else:
            print("Not exported: float weights, activations or first and last layers.")
    return metrics


if __name__ == "__main__":
    flags.define(DEFAULTS, omit=ARRAY_FIELDS, require_workdir=False)
    flags.run(run)
