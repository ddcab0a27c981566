"""The search for biases: it finds what trying them all finds, and tries few."""

import tracemalloc

import numpy as np
import pytest
from trained_layers import wide_layer

from export.alignment import offsets
from export.ir.operators import Conv2D, FullyConnected
from export.realization import channels
from export.realization.accumulator_range import accumulated_codes
from export.realization.context import RequantizationContext


def test_memory_is_a_few_times_that_of_the_codes():
    graph = wide_layer(0, FullyConnected, 100, 100_000)
    (node,) = graph.operators
    tracemalloc.start()
    fitted = channels.fit(
        accumulated_codes(node), node.trained, RequantizationContext.of(graph, node)
    )
    offsets.settled(graph, node)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(fitted.kernel, node.kernel)
    assert peak < 60_000_000  # In int64 the codes alone are 80 MB.


def try_every_bias(settler, plain, chosen, limit, targets):
    """The walk, one bias after the other: 2, -2, 3, -3, ..."""
    move = 2
    while (trying := chosen[settler.left[chosen] & (abs(move) <= limit[chosen])]).size:
        settler._try(plain, settler.trained, trying, settler._bias + move, targets)
        move = -move if move > 0 else 1 - move


@pytest.mark.parametrize(
    ("operator", "taps", "seed", "walked"),
    [(Conv2D, 128, 1, 4), (FullyConnected, 40, 0, 2)],
)
def test_the_walk_finds_what_trying_every_bias_finds(monkeypatch, operator, taps, seed, walked):
    graph = wide_layer(seed, operator, 24, taps)
    monkeypatch.setattr(offsets, "_MOST_STEPS", 300)
    settled, walk = [], offsets._Settler._walk

    def count(settler, plain, chosen, *rest):
        before = settler.left.sum()
        walk(settler, plain, chosen, *rest)
        settled.append(before - settler.left.sum())

    monkeypatch.setattr(offsets._Settler, "_walk", count)
    found = offsets.settled(graph, graph.operators[0])
    assert sum(settled) == walked
    monkeypatch.setattr(offsets._Settler, "_walk", try_every_bias)
    assert np.array_equal(found, offsets.settled(graph, graph.operators[0]))


def test_few_biases_are_looked_at_with_every_level_or_exactly(monkeypatch):
    graph = wide_layer(1, FullyConnected, 24, 128)
    seen = {"levels": 0, "exact": 0}
    positions, matching = offsets.Rounding.positions, offsets._matching_offsets

    def count_levels(rounding, target, bias, levels=None):
        seen["levels"] += (255 if levels is None else len(levels)) * bias.size
        return positions(rounding, target, bias, levels)

    def count_exact(context, rounding, trained, *rest):
        seen["exact"] += len(trained)
        return matching(context, rounding, trained, *rest)

    monkeypatch.setattr(offsets.Rounding, "positions", count_levels)
    monkeypatch.setattr(offsets, "_matching_offsets", count_exact)
    offsets.settled(graph, graph.operators[0])
    assert seen["levels"] <= 1_500_000  # One bias after the other: 25,557,375.
    assert seen["exact"] <= 900  # 98,929.


def test_a_channel_that_no_exact_trial_settles_is_given_up(monkeypatch):
    """Every bias passes what is looked at before the exact trial, which always fails."""
    graph = wide_layer(0, Conv2D, 4, 128)
    trials = np.zeros(4, np.int64)

    def refuse(context, rounding, trained, bias, *rest):
        np.add.at(trials, rounding._chosen, 1)
        return trained["offset"], np.zeros(len(trained), bool)

    def pass_all(context, rounding, trained, on, levels=None):
        return np.zeros(on.shape), np.ones(on.shape)

    monkeypatch.setattr(offsets, "_matching_offsets", refuse)
    monkeypatch.setattr(offsets, "_offset_bounds", pass_all)
    monkeypatch.setattr(offsets._Settler, "_repeats", lambda *_: False)
    offsets.settled(graph, graph.operators[0])
    assert trials.tolist() == [1 + 27 + 4 + 16 + 64] * 4  # Of some thousand biases within reach.
