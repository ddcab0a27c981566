"""The figures that WRPN reports (arXiv 1709.01134 v1), for comparison with measured ones."""

from __future__ import annotations

import dataclasses

from wrpn_tf.layer_cost import Policy


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostCell:
    """One cost of the paper's tables.

    Attributes:
      arch: a key of `models.ARCHITECTURES`.
      width: factor on the filters.
      activation_bits: 1 to 8, or 32.
      weight_bits: 1 to 8, or 32.
      cost: relative to float32 at width 1.
      decimals: with which the paper prints it.
    """

    arch: str
    width: int
    activation_bits: int
    weight_bits: int
    cost: float
    decimals: int


# The first/last policy under which each network reproduces its column.
POLICIES: dict[str, Policy] = {
    "resnet34": "paper",
    "alexnet": "uniform",
    "bn_inception": "interior",
}

_TWO_DECIMALS = {  # (width, activation bits, weight bits): cost.
    "resnet34": {
        (1, 32, 32): 1,
        (1, 1, 1): 0.03,
        (2, 4, 8): 0.74,
        (2, 4, 4): 0.50,
        (2, 4, 2): 0.39,
        (2, 2, 4): 0.39,
        (2, 2, 2): 0.27,
        (2, 1, 1): 0.15,
        (3, 1, 1): 0.30,
    },
    "bn_inception": {
        (1, 32, 32): 1,
        (2, 4, 4): 0.50,
        (2, 4, 2): 0.38,
        (2, 2, 2): 0.25,
        (2, 1, 1): 0.13,
    },
}
_ALEXNET_BITS = (32, 8, 4, 2, 1)
_ALEXNET = {  # Weight bits: cost at width 2 for 32, 8, 4, 2 and 1 activation bits.
    32: (3.9, 2.4, 2.2, 2.1, 2.0),
    8: (2.4, 1.0, 0.7, 0.6, 0.6),
    4: (2.2, 0.7, 0.5, 0.4, 0.3),
    2: (2.1, 0.6, 0.4, 0.2, 0.2),
    1: (2.0, 0.6, 0.3, 0.2, 0.1),
}

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
        for arch, column in _TWO_DECIMALS.items()
        for (width, activation, weight), cost in column.items()
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
        for weight, row in _ALEXNET.items()
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
