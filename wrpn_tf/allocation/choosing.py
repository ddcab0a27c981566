"""Bits for each layer of a trained float network under a budget."""

from __future__ import annotations

import dataclasses
import glob
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from rich.console import Console

from wrpn_tf.allocation.integer_program import allocate
from wrpn_tf.allocation.sensitivity import (
    Distortion,
    Tensor,
    Tensors,
    measure_distortions,
    read_tensors,
)
from wrpn_tf.arithmetic.bits import OFF, check_bits
from wrpn_tf.costs.dataflow import is_quantized
from wrpn_tf.fronts import front_of
from wrpn_tf.graph.rules import Rule
from wrpn_tf.quantization.feeding import BATCH_SIZE, batches
from wrpn_tf.quantization.inspection import Model
from wrpn_tf.reporting.rendering import byte_count, compact_table
from wrpn_tf.terminal import cell

DEFAULT_CHOICES = (2, 3, 4, 6, 8)

RESOURCES = {
    "cost": "multiply-accumulates x (activation bits + weight bits), relative to float32",
    "flash": "bytes of the kernels at their bits",
}
"""What a budget limits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """The bits of one kernel, or of activations with one grid.

    Attributes:
      part: 'weights' or 'activations'.
      layers: names of the layers.
      bits: chosen.
      distortions: by bits, how far the network's outputs are from those in float when this alone is
        quantized.
      cost: its part of the network's cost relative to float: FMAs that read it x bits.
      flash: bytes of the kernel at its bits; 0 for activations.
    """

    part: str
    layers: tuple[str, ...]
    bits: int
    distortions: Mapping[int, float]
    cost: float
    flash: float

    @property
    def distortion(self) -> float:
        """At the chosen bits."""
        return self.distortions[self.bits]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BitChoice:
    """Bits for each layer of a network.

    Attributes:
      decisions: in execution order.
      cost: of the network quantized so, relative to it in float: what `measure_cost` says of it.
      flash: bytes of its kernels at their bits.
      distortion: sum of the decisions' distortions: what is expected if they add up.
    """

    decisions: tuple[Decision, ...]
    cost: float
    flash: float
    distortion: float

    @property
    def rules(self) -> list[Rule]:
        """For `quantize_model`: one for each layer that has a kernel or k-bit activations."""
        weights, activations = (
            {
                layer: each.bits
                for each in self.decisions
                if each.part == part
                for layer in each.layers
            }
            for part in ("weights", "activations")
        )
        return [
            Rule(
                name=glob.escape(layer),
                weight_bits=weights.get(layer),
                activation_bits=activations.get(layer),
            )
            for layer in dict.fromkeys(layer for each in self.decisions for layer in each.layers)
        ]

    def show(self, console: Console | None = None) -> None:
        """Prints a table of the decisions.

        Args:
          console: where to print; None for the standard output.
        """
        table = compact_table(
            f"Bits: {self.cost:.3f} of the float network's cost, kernels of "
            f"{byte_count(self.flash)}",
            show_footer=True,
            caption=(
                "Distortion: of the outputs, when this alone has these bits. Cost, flash: its "
                "share of what all take."
            ),
        )
        shares = sum(each.cost for each in self.decisions)
        footers = ("all", "", "", f"{self.distortion:.2g}", f"{shares / self.cost:.0%}", "100%")
        headers = ("layer", "of", "bits", "distortion", "cost", "flash")
        for header, footer in zip(headers, footers, strict=True):
            is_text = header in ("layer", "of")
            table.add_column(
                header, footer, justify="left" if is_text else "right", overflow="fold"
            )
        for each in self.decisions:
            table.add_row(
                cell(", ".join(each.layers)),
                each.part,
                str(each.bits),
                f"{each.distortion:.2g}",
                f"{each.cost / self.cost:.1%}",
                f"{each.flash / self.flash:.1%}" if each.flash else "",
            )
        (console or Console()).print(table)


def choose_bits(
    model: Model,
    images: Any,
    budget: Mapping[str, float],
    bits: Sequence[int] = DEFAULT_CHOICES,
    *,
    distortion: Distortion = "mse",
    steps: int | None = None,
    batch_size: int = BATCH_SIZE,
    progress: bool | None = None,
) -> BitChoice:
    """Chooses the bits of each kernel and of each layer's activations of a trained float network.

    Each is quantized alone at each bit-width, all else in float, and the distance of the outputs
    from those in float is taken: its sensitivity. Of all choices that keep the budget, an integer
    program (HAWQ-V3, arXiv 2011.10680) finds the one of least summed distortion. That distortions
    add up, and that those before training say what training makes good, are assumptions.

    All kernels are chosen for, the first and the last too. What is always on 8-bit grids in an
    integer network (inputs, sums, logits) is counted and stays. Activations that one grid holds,
    behind a concatenation for instance, have the same bits.

    Args:
      model: trained float model of Keras 3 or tf_keras that `quantize_model` takes.
      images: what `calibrate` takes; a few hundred images.
      budget: the most of each resource. 'cost': multiply-accumulates x (activation bits + weight
        bits), relative to the model in float; 'flash': bytes of the kernels at their bits.
      bits: those to choose from, 1 to 8.
      distortion: 'mse', the mean squared error of the outputs; or 'kl', the Kullback-Leibler
        divergence of the classes' probabilities, for outputs that are logits of two or more.
      steps: how many batches to take at most; None: all there are.
      batch_size: images in a batch of an array.
      progress: whether to show how far it is; None: where the standard error is a terminal.

    Raises:
      ValueError: for a budget, bit-width or model that is not supported, or a budget that cannot be
        met; it says the smallest that can.
    """
    _check(budget, bits, distortion)
    bits = sorted(set(bits))
    front_of(model).check_model(model)
    if is_quantized(model):
        raise ValueError(
            f"Model {model.name!r} is quantized already; bits are chosen for a float model."
        )
    if distortion == "kl" and any(output.shape[-1] == 1 for output in model.outputs):
        raise ValueError(
            f"Model {model.name!r} has an output of one channel, whose probability is always 1; "
            "distortion='kl' needs logits of several classes: take 'mse'."
        )
    network = read_tensors(model)
    if not network.fmas:
        raise ValueError(
            f"Model {model.name!r} has no convolution or dense layer to choose bits for."
        )
    _check_can_be_met(network, budget, bits)
    taken = [inputs for inputs, _ in batches(model, images, steps, batch_size)]
    if not taken:
        raise ValueError("Choosing bits needs at least one batch of images; got none.")
    distortions = measure_distortions(model, taken, bits, distortion, progress=progress)
    return solve(network, distortions, budget)


def solve(
    network: Tensors,
    distortions: Mapping[Tensor, Mapping[int, float]],
    budget: Mapping[str, float],
) -> BitChoice:
    """The bits of least summed distortion under a budget, see `choose_bits`.

    Args:
      network: what is to be decided.
      distortions: by tensor and by bits.
      budget: by resource.

    Raises:
      ValueError: if the budget cannot be met.
    """
    options = [tuple(distortions[tensor]) for tensor in network.tensors]
    _check_can_be_met(network, budget, options[0])
    found = allocate(
        [tuple(distortions[tensor].values()) for tensor in network.tensors],
        {
            name: [
                [_unit_use(tensor, name) * bits for bits in widths]
                for tensor, widths in zip(network.tensors, options, strict=True)
            ]
            for name in budget
        },
        {name: _limit(network, name, most) for name, most in budget.items()},
    )
    assert found is not None
    whole = 2 * OFF * network.fmas
    chosen = [
        (tensor, widths[at])
        for tensor, widths, at in zip(network.tensors, options, found, strict=True)
    ]
    decisions = tuple(
        Decision(
            part=tensor.part,
            layers=tensor.layers,
            bits=width,
            distortions=distortions[tensor],
            cost=tensor.fmas * width / whole,
            flash=tensor.weights * width / 8,
        )
        for tensor, width in chosen
    )
    return BitChoice(
        decisions=decisions,
        cost=(network.fixed + sum(tensor.fmas * width for tensor, width in chosen)) / whole,
        flash=sum(each.flash for each in decisions),
        distortion=sum(each.distortion for each in decisions),
    )


def _unit_use(tensor: Tensor, resource: str) -> int:
    """What each bit of a tensor takes: FMAs, or bits of kernels."""
    return tensor.fmas if resource == "cost" else tensor.weights


def _limit(network: Tensors, resource: str, most: float) -> int:
    """What all tensors may take together, in FMAs x bits or in bits of kernels."""
    if resource == "flash":
        return math.floor(most * 8)
    # A share such as 0.1 is not exact; what is meant is within float64's rounding of it.
    return math.floor(most * 2 * OFF * network.fmas * (1 + 1e-12)) - network.fixed


def _check_can_be_met(network: Tensors, budget: Mapping[str, float], bits: Sequence[int]) -> None:
    """Raises ValueError, which says the smallest budget, where the fewest bits exceed it."""
    for name, most in budget.items():
        least = min(bits) * sum(_unit_use(tensor, name) for tensor in network.tensors)
        if least > _limit(network, name, most):
            if name == "flash":
                smallest = f"{math.ceil(least / 8)} bytes"
            else:
                share = (least + network.fixed) / (2 * OFF * network.fmas)
                smallest = f"{math.ceil(share * 1e4) / 1e4:.4f}"
            raise ValueError(
                f"A budget of {name} {most:g} cannot be met: the least, {min(bits)} bits, takes "
                f"{smallest}."
            )


def _check(budget: Mapping[str, float], bits: Sequence[int], distortion: str) -> None:
    if not isinstance(budget, Mapping) or not budget or not set(budget) <= set(RESOURCES):
        raise ValueError(
            f"A budget is the most of {' or '.join(RESOURCES)}, as in {{'cost': 0.3}}; "
            f"got {budget!r}."
        )
    for name, most in budget.items():
        is_number = isinstance(most, int | float | np.number) and not isinstance(most, bool)
        if not is_number or not 0 < most < math.inf:
            raise ValueError(f"The budget of {name} must be a positive number; got {most!r}.")
        if name == "cost" and most > 1:
            raise ValueError(f"The budget of cost is a share of the model in float; got {most!r}.")
    if not bits:
        raise ValueError("There are no bits to choose from.")
    for width in bits:
        if check_bits(width, "bits to choose from") == OFF:
            raise ValueError("Bits to choose from are 1 to 8; got 32.")
    if distortion not in get_args(Distortion):
        raise ValueError(
            f"distortion must be one of {', '.join(get_args(Distortion))}; got {distortion!r}."
        )
