"""Widening a network: more channels, the same function or a fresh start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from wrpn_tf.fronts import front_of
from wrpn_tf.graph.acceptance import check_copied
from wrpn_tf.graph.roles import Layer, class_name, operation_name
from wrpn_tf.graph.rules import decide
from wrpn_tf.widening.channel_roles import Role, role
from wrpn_tf.widening.channels import Call, Channels, trace
from wrpn_tf.widening.replication import widened_config, widened_weights
from wrpn_tf.widening.widths import FirstLayer, WidthRule, check_factor, count_copies

Initialization = Literal["preserve", "fresh"]
Model = Any
"""A model of a Keras."""


def widen(
    model: Model,
    factor: float,
    rules: Sequence[WidthRule] = (),
    *,
    initialization: Initialization = "preserve",
    first_layer: FirstLayer = "widen",
    noise: float = 0.1,
    seed: int | None = None,
) -> Model:
    """A copy of `model` with `factor` times as many filters and units in its layers.

    The model's inputs and outputs keep their channels: the classes stay. Layers whose outputs are
    added or multiplied are widened alike. The copy is uncompiled, and flat (nested models are
    inlined; a layer that is used several times stays one layer).

    Args:
      model: built Sequential or Functional model of Keras 3 or tf_keras, trained or fresh; float,
        not quantized.
      factor: on filters and units, at least 0.25; products are rounded to integers, halves up. In
        groups of a grouped convolution and where channels must be alike, the share of a group is
        rounded.
      rules: factors for some layers; of several matching rules the first wins.
      initialization: 'preserve' gives the copy the function of `model` up to rounding (Net2Wider,
        Chen et al., arXiv 1511.05641): each channel is repeated in its place, and weights that sum
        over copies share the original's value. It needs factors of at least 1. 'fresh' initializes
        every layer anew, as it is configured; layers that normalize inputs keep their statistics.
      first_layer: 'keep' leaves the layers that read the model's inputs at their width, and the
        layers whose outputs are added to theirs: in a ResNet-34 the sums of its first stage, which
        the paper's wide one widens (`models.build` with a width).
      noise: standard deviation of the shares of copies, relative to equal ones; the function stays
        the same. At 0 copies are equal, have equal gradients and never become different.
      seed: makes the noise repeatable.

    Raises:
      ValueError: for a model, factor or option that is not supported, what the copy of a model
        would lose (a `train_step` of its own, single frozen weights), layers that cannot be widened
        (all are listed), a rule that decides for no layer or cannot be followed, or a layer whose
        function cannot be preserved.
    """
    front = front_of(model, "widen")
    check_copied(front, model, "widen")
    if front.named_kernel_quantizers(model):
        raise ValueError(f"Model {model.name!r} is quantized already; widen the float model.")
    check_factor(factor, "factor")
    _check_option("initialization", initialization, ("preserve", "fresh"))
    _check_option("first_layer", first_layer, ("widen", "keep"))
    if not 0 <= noise <= 1:
        raise ValueError(f"noise must be between 0 and 1; got {noise!r}.")
    channels = trace(model)
    deciding = [*channels.owned, *channels.problems]
    decisions = zip(deciding, decide(rules, deciding), strict=True)
    decided = {layer: rule for layer, rule in decisions if rule is not None}
    _check_possible(channels, decided)
    copies = count_copies(channels, factor, decided, first_layer)
    if initialization == "preserve":
        _check_preserved(channels, copies)
    rebuilder = _Rebuilder(front, channels.calls, copies, initialization, noise, seed)
    return front.rebuild_calls(model, rebuilder.visit)


def _check_option(name: str, value: str, allowed: tuple[str, str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}; got {value!r}.")


def _check_possible(channels: Channels, decided: dict[Layer, WidthRule]) -> None:
    """Raises ValueError naming the layers that cannot be widened and that no rule keeps."""
    problems = [
        f"{layer.name} ({type(layer).__name__}: {problem})"
        for layer, problem in channels.problems.items()
        if layer not in decided or decided[layer].factor != 1
    ]
    if problems:
        raise ValueError(
            f"Layers that cannot be widened: {'; '.join(problems)}. Replace them, or keep them and "
            "the channels that they read with WidthRule(name=..., factor=1)."
        )


def _check_preserved(channels: Channels, copies: np.ndarray) -> None:
    """Raises ValueError naming the layers whose function changes with these copies."""
    problems = [
        f"{layer.name} has fewer channels than before"
        for layer, layout in channels.owned.items()
        if (copies[layout] < 1).any()
    ]
    problems += [
        f"{layer.name} ({type(layer).__name__}) has statistics over channels, which are the same "
        "only where every channel has equally many copies"
        for layer, rows in channels.alike
        if (copies[rows] != copies[rows[:, :1]]).any()
    ]
    problems += [
        f"{layer.name} ({type(layer).__name__}) shares a sum out among its channels, and has "
        "other shares where they have copies"
        for layer, layout in channels.single
        if (copies[layout] != 1).any()
    ]
    if problems:
        raise ValueError(
            f"Widening cannot preserve the function: {'; '.join(problems)}. Use other factors, a "
            "WidthRule, or initialization='fresh'."
        )


class _Rebuilder:
    """Calls the widened layers in the place of the originals, in the order of the calls."""

    def __init__(
        self,
        front: Any,
        calls: Sequence[Call],
        copies: np.ndarray,
        initialization: Initialization,
        noise: float,
        seed: int | None,
    ):
        self.front = front
        self.calls: Iterator[Call] = iter(calls)
        self.copies = copies
        self.preserve = initialization == "preserve"
        self.noise = noise
        self.random = np.random.default_rng(seed)
        self.layers: dict[Layer, Layer] = {}
        self.names: set[str] = set()

    def visit(self, node: Any, tensors: list[Any], arguments: Mapping[str, Any]) -> Any:
        call = next(self.calls)
        layer = call.layer
        if layer in self.layers:
            return self.front.call_as(node, self.layers[layer], tensors, arguments)
        changes = widened_config(call, self.copies)
        if not operation_name(layer):
            changes["name"] = self.unique(layer.name)
        new = self.layers[layer] = self.front.configured(layer, layer.get_config() | changes)
        if type(layer) is type(self.front.layer_call(node).called):
            outputs = self.front.call_as(node, new, tensors, arguments)
        else:
            outputs = new(tensors if len(tensors) > 1 else tensors[0])
        if not operation_name(layer) and (self.preserve or role(layer) is Role.FIX):
            new.set_weights(widened_weights(call, self.copies, self.noise, self.random))
        if class_name(new) == "Normalization":
            new.finalize_state()  # it computes with copies of its weights
        return outputs

    def unique(self, name: str) -> str:
        """`name`, with a number where another layer, of another nested model, has it."""
        candidates = (name if i == 1 else f"{name}_{i}" for i in range(1, len(self.names) + 2))
        chosen = next(candidate for candidate in candidates if candidate not in self.names)
        self.names.add(chosen)
        return chosen
