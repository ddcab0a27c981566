"""The ImageNet experiments of WRPN by name (arXiv 1709.01134), and what the paper reports.

The paper says that its baselines' hyper-parameters and schedules were kept, and gives none. The
recipes here are those of tensorpack at the time, which it names as its basis: ResNets with SGD and
steps, AlexNet with Adam. BN-Inception gets the ResNets' recipe. Two things differ: ResNets warm up
for 5 epochs, so that the linear scaling rule holds for large batches (Goyal et al., 1706.02677),
and AlexNet's decay is on all kernels and decoupled from Adam's gradient.

The paper's first and last layers are in float and its scales fixed: `--first_last=paper
--method=paper`. Without these flags an experiment trains what can be deployed: 8-bit first and last
layers and learned scales.
"""

import dataclasses
from typing import Any

from train.config import Config
from wrpn_tf import jpegs, paper

DEFAULTS = Config(
    workdir="",
    dataset=jpegs.NAME,
    arch="resnet34",
    image_size=224,
    epochs=105,
    batch_size=256,
    optimizer="sgd",
    learning_rate=0.1,
    reference_batch=256,
    schedule="step",
    warmup_epochs=5.0,
    decay_epochs=(30, 60, 90, 100),
    weight_decay=1e-4,
    bn_images=10240,
    flip=True,
    color=0.4,
    checkpoint_steps=1000,
)

_ALEXNET: dict[str, Any] = {
    "epochs": 90,
    "optimizer": "adam",
    "learning_rate": 2e-4,
    "warmup_epochs": 0.0,
    "decay_epochs": (60, 75),
    "decay_factor": 0.2,
    "weight_decay": 5e-6,
}
_RECIPES: dict[str, dict[str, Any]] = {"alexnet": _ALEXNET}


def recipe(arch: str) -> dict[str, Any]:
    """The fields that an architecture's recipe sets; the ResNets' where it has none of its own."""
    return {name: getattr(DEFAULTS, name) for name in _ALEXNET} | _RECIPES.get(arch, {})


# Architecture, width, activation and weight bits. Of the AlexNet the paper says that it is at par
# with the float one, without a figure; the ResNets are not in the paper.
_WITHOUT_ACCURACY = (
    ("alexnet", 1.3, 4, 8),
    *(
        (arch, width, bits, bits)
        for arch in ("resnet18", "resnet50")
        for width, bits in ((1, 32), (1, 4), (1, 2), (2, 4), (2, 2), (3, 1))
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """One network of one width and pair of bit-widths.

    Attributes:
        arch: The architecture.
        width: Factor on its filters.
        abits: Bits of the activations.
        wbits: Bits of the weights.
        top1: The paper's top-1 accuracy on ILSVRC-2012 in %, or None where it has none.
        cost: The paper's compute cost relative to the 1x float network, or None.
    """

    arch: str
    width: float
    abits: int
    wbits: int
    top1: float | None = None
    cost: float | None = None

    @property
    def name(self) -> str:
        """As in 'resnet34-2x-w4a4'."""
        return experiment_name(self.arch, self.width, self.wbits, self.abits)

    @property
    def config(self) -> Config:
        """The training; it has no workdir yet."""
        return dataclasses.replace(
            DEFAULTS,
            arch=self.arch,
            width=self.width,
            abits=self.abits,
            wbits=self.wbits,
            **recipe(self.arch),
        )

    @property
    def command(self) -> str:
        """What runs it."""
        return f"python -m train.imagenet --config={self.name}"


def experiment_name(arch: str, width: float, wbits: int, abits: int) -> str:
    """As in 'resnet34-2x-w4a4', or 'resnet34-1x-float'."""
    bits = "float" if wbits == abits == 32 else f"w{wbits}a{abits}"
    return f"{arch}-{width:g}x-{bits}"


def experiments() -> dict[str, Experiment]:
    """All experiments by name: every network that the paper has an accuracy of, and ours."""
    costs = {_key(cell): cell.cost for cell in paper.COSTS}
    accuracies = {_key(cell): cell.top1 for cell in paper.ACCURACIES}
    found = [
        Experiment(
            arch=arch,
            width=float(width),
            abits=abits,
            wbits=wbits,
            top1=accuracies.get((arch, width, abits, wbits)),
            cost=costs.get((arch, width, abits, wbits)),
        )
        for arch, width, abits, wbits in (*accuracies, *_WITHOUT_ACCURACY)
    ]
    return {experiment.name: experiment for experiment in found}


def reported(config: Config) -> dict[str, float | None] | None:
    """The paper's top-1 in % and relative cost of a network; None where it is no experiment.

    Bits for single layers make another network of it.
    """
    if config.rules:
        return None
    name = experiment_name(config.arch, config.width, config.wbits, config.abits)
    experiment = experiments().get(name) if config.dataset == jpegs.NAME else None
    return None if experiment is None else {"top1": experiment.top1, "cost": experiment.cost}


def _key(cell: paper.Cell) -> tuple[str, float, int, int]:
    return cell.arch, cell.width, cell.activation_bits, cell.weight_bits
