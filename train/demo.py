"""The whole path on scikit-learn's digits: train, quantize, export, verify, compare.

    python -m train.demo

Trains a small network in float and with 2-bit weights and 4-bit activations, as it is and twice as
wide, exports the quantized ones as integer-only .tflite files, proves that LiteRT computes what was
trained, and prints accuracy, size and cost side by side. About two minutes on two cores.
"""

from __future__ import annotations

import dataclasses
import pathlib

from absl import flags
from rich.console import Console
from rich.table import Table

import wrpn_tf
from train import digits
from train import flags as train_flags
from train.config import Config

_WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Folder for the trainings and files.")

_FLOAT = dataclasses.replace(digits.DEFAULTS, wbits=32, abits=32)
_NETWORKS: dict[str, Config] = {
    "float 1x": _FLOAT,
    "WRPN 1x": dataclasses.replace(_FLOAT, wbits=2, abits=4),
    "WRPN 2x": dataclasses.replace(_FLOAT, wbits=2, abits=4, width=2.0),
}
_COLUMNS = (
    "network",
    "A/W",
    "Keras",
    ".tflite",
    "agree",
    "weights",
    "file",
    "cost",
)


def run(root: pathlib.Path) -> None:
    """Runs the demo in a folder and prints its table.

    Raises:
        UserError: A training or an export failed.
    """
    from train.trainer import train

    console = Console()
    table = Table(title="Accuracy on scikit-learn digits, size and cost")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    baseline = 0
    for name, config in _NETWORKS.items():
        folder = root / name.replace(" ", "-")
        console.rule(name)
        metrics = train(dataclasses.replace(config, workdir=str(folder)), verbose=2)
        cost = wrpn_tf.measure_cost(wrpn_tf.load_model(folder))
        baseline = baseline or cost.compute
        row = [
            name,
            f"{config.abits}/{config.wbits}",
            f"{metrics['test_accuracy']:.1%}",
        ]
        row += _deploy(folder, console)
        row.insert(5, f"{cost.weight_bytes / 1024:.1f} KiB")
        table.add_row(*row, f"{cost.compute / baseline:.2f}x")
    console.print(table)
    console.print(
        "A/W: activation and weight bits. Keras, .tflite: top-1 accuracy; agree: images with the "
        "same top-1.\nWeights: kernels at their trained bits; the file holds them as int8.\n"
        "Cost: multiply-accumulates x (activation bits + weight bits), relative to float 1x.\n"
        f"Files are in {root}; run the command again and finished trainings are not repeated."
    )


def _deploy(folder: pathlib.Path, console: Console) -> list[str]:
    """Exports and verifies; returns the table's cells for accuracy, agreement and file size.

    They are empty for a network in float.
    """
    from train.deployment import deploy

    deployment = deploy(folder, images=1000, console=console)
    if deployment is None:
        return ["", "", ""]
    accuracy = deployment.verification.accuracy
    assert accuracy is not None and accuracy.device is not None
    return [
        f"{accuracy.device:.1%}",
        f"{accuracy.agreement:.1%}",
        f"{deployment.size / 1024:.1f} KiB",
    ]


if __name__ == "__main__":
    train_flags.run(lambda: run(pathlib.Path(_WORKDIR.value)))
