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
from wrpn_tf import jpegs

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
            **_RECIPES.get(self.arch, {}),
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
    """All experiments by name."""
    return {
        experiment.name: experiment
        for experiment in (*_alexnets(), *_networks(_RESNET34), *_networks(_OTHERS))
    }


def _networks(table: str) -> list[Experiment]:
    """Parses rows of architecture, width, A/W, top-1 and cost ('-': not reported)."""
    found = []
    for row in table.strip().splitlines():
        arch, width, bits, top1, cost = row.split()
        abits, wbits = bits.split("/")
        found.append(
            Experiment(
                arch=arch,
                width=float(width),
                abits=int(abits),
                wbits=int(wbits),
                top1=_number(top1),
                cost=_number(cost),
            )
        )
    return found


def _alexnets() -> list[Experiment]:
    """The AlexNets with a reported accuracy: rows weight bits, columns activation bits."""
    found = []
    for width, accuracies, costs in (
        (1.0, _ALEXNET_1X, None),
        (2.0, _ALEXNET_2X, _ALEXNET_2X_COST),
    ):
        cells = _cells(accuracies)
        prices = _cells(costs) if costs else {}
        found += [
            Experiment(
                arch="alexnet", width=width, abits=a, wbits=w, top1=top1, cost=prices.get((w, a))
            )
            for (w, a), top1 in cells.items()
            if top1 is not None
        ]
    return found


def _cells(table: str) -> dict[tuple[int, int], float | None]:
    """The values of a table by (weight bits, activation bits)."""
    heading, *rows = (line.split() for line in table.strip().splitlines())
    return {
        (int(row[0]), int(abits)): _number(cell)
        for row in rows
        for abits, cell in zip(heading[1:], row[1:], strict=True)
    }


def _number(text: str) -> float | None:
    return None if text == "-" else float(text)


# Tables 1 and 2. The 1x network with 2-bit weights and float activations is TTQ's, not WRPN's.
_ALEXNET_1X = """
W\\A    32     8     4     2     1
32    57.2  54.3  54.4  52.7     -
8        -  54.5  53.2  51.5     -
4        -  54.2  54.4  52.4     -
2        -  50.2  50.5  51.3     -
1     56.8     -     -     -  44.2
"""
_ALEXNET_2X = """
W\\A    32     8     4     2     1
32    60.5  58.9  58.6  57.5  52.0
8        -  59.0  58.8  57.1  50.8
4        -  58.8  58.6  57.3     -
2        -  57.6  57.2  55.8     -
1        -     -     -     -  48.3
"""
_ALEXNET_2X_COST = """
W\\A    32     8     4     2     1
32     3.9   2.4   2.2   2.1   2.0
8      2.4   1.0   0.7   0.6   0.6
4      2.2   0.7   0.5   0.4   0.3
2      2.1   0.6   0.4   0.2   0.2
1      2.0   0.6   0.3   0.2   0.1
"""
# Architecture, width, A/W, top-1, cost.
_RESNET34 = """
resnet34      1  32/32  73.59  1
resnet34      1  1/1    60.54  0.03
resnet34      2  4/8    74.48  0.74
resnet34      2  4/4    74.52  0.50
resnet34      2  4/2    73.58  0.39
resnet34      2  2/4    73.50  0.39
resnet34      2  2/2    73.32  0.27
resnet34      2  1/1    69.85  0.15
resnet34      3  1/1    72.38  0.30
"""
# ResNet-18 and ResNet-50 are not in the paper.
_OTHERS = """
bn_inception  1  32/32  71.64  1
bn_inception  2  4/4    71.63  0.50
bn_inception  2  4/2    71.61  0.38
bn_inception  2  2/2    70.75  0.25
bn_inception  2  1/1    65.02  0.13
alexnet     1.3  1/1    48.04  -
alexnet     1.3  4/8    57.2   -
resnet18      1  32/32  -      -
resnet18      1  4/4    -      -
resnet18      1  2/2    -      -
resnet18      2  4/4    -      -
resnet18      2  2/2    -      -
resnet18      3  1/1    -      -
resnet50      1  32/32  -      -
resnet50      1  4/4    -      -
resnet50      1  2/2    -      -
resnet50      2  4/4    -      -
resnet50      2  2/2    -      -
resnet50      3  1/1    -      -
"""
