"""Share of a training step that waits for input.

    python -m benchmarks.imagenet_waiting --data_dir=DATA

Trains an experiment of `train.imagenet --list` with the training's own batches, and takes the time
in which the loop waits for the next one. A batch that is ready costs no time. The first two steps,
which compile and fill the buffers, do not count.
"""

import statistics
import time

from absl import flags
from rich.console import Console

from train import networks, sources
from train.data import ALONE
from train.imagenet import choose
from train.losses import LabelLoss
from train.optimizers import make_optimizer
from wrpn_tf import command_line

_DATA_DIR = flags.DEFINE_string("data_dir", None, "See train.imagenet.", required=True)
_EXPERIMENT = flags.DEFINE_string("experiment", "resnet18-1x-w4a4", "See train.imagenet --list.")
_BATCH = flags.DEFINE_integer("batch_size", 16, "Images per step.", 1)
_STEPS = flags.DEFINE_integer("steps", 10, "Steps that count.", 1)
_UNCOUNTED = 2


def main() -> None:
    """Runs the program."""
    config = choose(_EXPERIMENT.value, {"data_dir": _DATA_DIR.value, "batch_size": _BATCH.value})
    source = sources.load(config)
    steps = source.train_size // config.batch_size
    network = networks.build(config, source, starts=False)
    network.compile(
        optimizer=make_optimizer(config, network, steps),
        loss=LabelLoss(config.label_smoothing),
        weighted_metrics=["accuracy"],
    )
    batches = iter(source.training(0, config.epochs)(ALONE))
    waits, totals = [], []
    for _ in range(_UNCOUNTED + _STEPS.value):
        start = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - start)
        network.train_on_batch(*batch)
        totals.append(time.perf_counter() - start)
    waits, totals = waits[_UNCOUNTED:], totals[_UNCOUNTED:]
    Console().print(
        f"{_EXPERIMENT.value} at {config.image_size} pixels, {len(totals)} steps of "
        f"{config.batch_size} images: a step takes {statistics.median(totals):.3f} s (median); "
        f"waiting for input takes {sum(waits) / sum(totals):.3%} of the time, "
        f"{max(waits):.4f} s at most"
    )


if __name__ == "__main__":
    command_line.run(main, errors=())
