r"""A grid of trainings, one after another, with a table and a plot of what came out.

    python -m train.sweep --config=docs/results/cifar10.json --workdir=runs/cifar10 --data_dir=…

The file says which trainings (see `train.grid`). Each that has an integer form is exported and
verified integer by integer, and leaves one line in `results.jsonl` in the workdir. Whenever the
program is killed, the same command goes on with the step it had reached. At the end it prints the
table, and writes it with the plots of cost against accuracy and of the epochs' accuracies:
`cifar10.md`, `cifar10_cost.svg` and `cifar10_epochs.svg`. Files that share a workdir share the
trainings that they have in common; one sweep at a time has it.
"""

import pathlib

from absl import flags
from rich.console import Console

from train import flags as train_flags
from train.config import UserError
from train.grid import Run, read_grids
from train.lock import locked
from wrpn_tf.files import WriteError, require_writable
from wrpn_tf.models.namespaces import keras_named
from wrpn_tf.terminal import cell

_CONFIG = flags.DEFINE_string("config", None, "JSON file of the grids.", required=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of results.jsonl and of each training's workdir.", required=True
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of prepared TensorFlow Datasets.")
_IMAGES = flags.DEFINE_integer(
    "images", 100, "Test images for the comparison tensor by tensor; top-1 uses all.", 1
)


def run_one(run: Run, console: Console) -> dict:
    """Trains, exports and verifies one network; returns its line of results."""
    from train.deployment import deploy
    from train.sweep_record import result_line
    from train.trainer import train

    keras_named(run.config.front).backend.clear_session()
    metrics = train(run.config, verbose=2)
    deployment = deploy(
        run.config.workdir,
        images=_IMAGES.value,
        console=Console(quiet=True),
        data_dir=run.config.data_dir,
    )
    line = result_line(run, metrics, deployment)
    console.print({name: line[name] for name in ("accuracy", "tflite_accuracy") if line[name]})
    return line


def run_all() -> None:
    """Runs the program."""
    folder = pathlib.Path(_WORKDIR.value)
    runs = read_grids(_CONFIG.value, folder, _DATA_DIR.value)

    from train.record import require_folder

    require_folder(folder)
    require_writable(folder / "results.jsonl")
    with locked(folder):
        _sweep(runs, folder, Console())


def _sweep(runs: list[Run], folder: pathlib.Path, console: Console) -> None:
    """`run_all` in a workdir that no other process writes."""
    from train import sources
    from train.sweep_record import SweepRecord
    from train.sweep_report import write_report

    record = SweepRecord.open(folder / "results.jsonl", runs)
    for run in {run.config.dataset: run for run in runs}.values():
        sources.load(run.config)
    failures = []
    for number, run in enumerate(runs, start=1):
        if run.name in record.lines:
            continue
        console.rule(f"{number} of {len(runs)}: {run.name}")
        try:
            record.add(run_one(run, console))
        except (UserError, WriteError) as error:
            failures.append(f"{run.name}: {error}")
            console.print(cell(failures[-1], "red"))
    lines = [record.lines[run.name] for run in runs if run.report and run.name in record.lines]
    if lines:
        write_report(lines, folder / pathlib.Path(_CONFIG.value).stem, console)
    if failures:
        raise UserError(f"{len(failures)} of {len(runs)} trainings failed; {failures[0]}")


if __name__ == "__main__":
    train_flags.run(run_all)
