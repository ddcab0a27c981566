"""The figures that WRPN reports (arXiv 1709.01134 v1), for comparison with measured ones."""

from __future__ import annotations

import dataclasses
import math

from wrpn_tf.costs.policy import Policy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """A network in the paper's tables.

    Attributes:
      arch: a key of `models.ARCHITECTURES`.
      width: factor on the filters.
      activation_bits: 1 to 8, or 32.
      weight_bits: 1 to 8, or 32.
    """

    arch: str
    width: float
    activation_bits: int
    weight_bits: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccuracyCell(Cell):
    """The accuracy of a network.

    Attributes:
      top1: on ILSVRC-2012's validation images, in percent.
    """

    top1: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostCell(Cell):
    """The compute cost of a network.

    Attributes:
      cost: relative to float32 at width 1.
      decimals: with which the paper prints it.
    """

    cost: float
    decimals: int


# The first/last policy under which each network reproduces its column.
POLICIES: dict[str, Policy] = {
    "resnet34": "paper",
    "alexnet": "uniform",
    "bn_inception": "interior",
}

_NAN = math.nan  # Not in the paper.
_ALEXNET_BITS = (32, 8, 4, 2, 1)
# Width: weight bits: top-1 with 32, 8, 4, 2 and 1 activation bits (tables 1 and 2). Width 1 with
# 2-bit weights and float activations is left out: that 57.5 is TTQ's, another kind of quantizer.
_ALEXNET_TOP1 = {
    1.0: {
        32: (57.2, 54.3, 54.4, 52.7, _NAN),
        8: (_NAN, 54.5, 53.2, 51.5, _NAN),
        4: (_NAN, 54.2, 54.4, 52.4, _NAN),
        2: (_NAN, 50.2, 50.5, 51.3, _NAN),
        1: (56.8, _NAN, _NAN, _NAN, 44.2),
    },
    2.0: {
        32: (60.5, 58.9, 58.6, 57.5, 52.0),
        8: (_NAN, 59.0, 58.8, 57.1, 50.8),
        4: (_NAN, 58.8, 58.6, 57.3, _NAN),
        2: (_NAN, 57.6, 57.2, 55.8, _NAN),
        1: (_NAN, _NAN, _NAN, _NAN, 48.3),
    },
    1.3: {1: (_NAN, _NAN, _NAN, _NAN, 48.04)},
}
_ALEXNET_COST = {  # Weight bits: cost at width 2.
    32: (3.9, 2.4, 2.2, 2.1, 2.0),
    8: (2.4, 1.0, 0.7, 0.6, 0.6),
    4: (2.2, 0.7, 0.5, 0.4, 0.3),
    2: (2.1, 0.6, 0.4, 0.2, 0.2),
    1: (2.0, 0.6, 0.3, 0.2, 0.1),
}
_OTHERS = {  # (width, activation bits, weight bits): top-1 and cost.
    "resnet34": {
        (1, 32, 32): (73.59, 1),
        (1, 1, 1): (60.54, 0.03),
        (2, 4, 8): (74.48, 0.74),
        (2, 4, 4): (74.52, 0.50),
        (2, 4, 2): (73.58, 0.39),
        (2, 2, 4): (73.50, 0.39),
        (2, 2, 2): (73.32, 0.27),
        (2, 1, 1): (69.85, 0.15),
        (3, 1, 1): (72.38, 0.30),
    },
    "bn_inception": {
        (1, 32, 32): (71.64, 1),
        (2, 4, 4): (71.63, 0.50),
        (2, 4, 2): (71.61, 0.38),
        (2, 2, 2): (70.75, 0.25),
        (2, 1, 1): (65.02, 0.13),
    },
}

ACCURACIES: tuple[AccuracyCell, ...] = (
    *(
        AccuracyCell(
            arch="alexnet",
            width=width,
            activation_bits=activation,
            weight_bits=weight,
            top1=top1,
        )
        for width, table in _ALEXNET_TOP1.items()
        for weight, row in table.items()
        for activation, top1 in zip(_ALEXNET_BITS, row, strict=True)
        if not math.isnan(top1)
    ),
    *(
        AccuracyCell(
            arch=arch, width=width, activation_bits=activation, weight_bits=weight, top1=top1
        )
        for arch, table in _OTHERS.items()
        for (width, activation, weight), (top1, _) in table.items()
    ),
)

COSTS: tuple[CostCell, ...] = (
    *(
        CostCell(
            arch=arch,
            width=width,
            activation_bits=activation,
            weight_bits=weight,
            cost=cost,
            decimals=2,
        )
        for arch, table in _OTHERS.items()
        for (width, activation, weight), (_, cost) in table.items()
    ),
    *(
        CostCell(
            arch="alexnet",
            width=2,
            activation_bits=activation,
            weight_bits=weight,
            cost=cost,
            decimals=1,
        )
        for weight, row in _ALEXNET_COST.items()
        for activation, cost in zip(_ALEXNET_BITS, row, strict=True)
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationShare:
    """The activations' share of the memory footprint, in percent (figure 1).

    Attributes:
      arch: a key of `models.ARCHITECTURES`.
      use: 'training' or 'inference'.
      batch_size: images.
      percent: of the footprint.
    """

    arch: str
    use: str
    batch_size: int
    percent: float


SHARES: tuple[ActivationShare, ...] = tuple(
    ActivationShare(arch=arch, use=use, batch_size=batch_size, percent=percent)
    for arch, use, percents in (
        ("alexnet", "training", (29.7, 93.1)),
        ("alexnet", "inference", (28.5, 92.7)),
        ("resnet50_post", "training", (31.0, 93.5)),
        ("resnet50_post", "inference", (5.9, 66.8)),
        ("resnet101_post", "training", (27.2, 92.3)),
        ("resnet101_post", "inference", (3.5, 53.6)),
    )
    for batch_size, percent in zip((1, 32), percents, strict=True)
)
