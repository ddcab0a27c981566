"""The search for biases: it finds what trying them all finds, and tries few."""

import tracemalloc

import numpy as np
import pytest

from export.alignment import offsets
from export.ir.graph import IntegerGraph
from export.ir.operators import Conv2D, FullyConnected
from export.ir.provenance import TRAINED
from export.ir.tensors import Tensor
from export.kernel_sets import ideal
from export.realization import channels
from export.realization.accumulator_range import accumulated_codes
from export.realization.context import RequantizationContext
from wrpn_tf import QuantizationParameters


def layer(seed, operator, count, taps):
    """A layer with 8 bits everywhere: accumulators with gaps, thresholds out of their reach."""
    random = np.random.default_rng(seed)
    codes = random.integers(-127, 128, (count, taps)).astype(np.int8)
    input_scale, output_scale = (float(np.float32(scale)) for scale in (0.1, 0.07))
    trained = np.zeros(count, TRAINED)
    spread = random.uniform(0.3, 2) * output_scale * 255
    trained["scale"] = np.float32(spread / (input_scale * 127 * np.sqrt(taps) * 255))
    trained["gain"], trained["variance"] = 1, 1
    trained["offset"] = random.normal(0, output_scale * 64, count).astype(np.float32)
    trained["digest"] = [ideal.digest(row) for row in codes]
    source, target = (
        QuantizationParameters(scale=scale, low=0, high=255, bits=8)
        for scale in (input_scale, output_scale)
    )
    context = RequantizationContext(
        operator=operator,
        vector_product=operator is FullyConnected,
        source=source,
        target=target,
    )
    fitted = channels.fit(codes, trained, context)
    one = () if operator is FullyConnected else (1, 1)
    node = operator(
        inputs=("input",),
        output="output",
        kernel=fitted.kernel.reshape(count, *one, taps),
        kernel_scale=fitted.scale,
        bias=fitted.bias,
        relu=fitted.relu,
        code_multiplier=fitted.code_multiplier,
        bits=8,
        trained=trained,
    )
    tensors = {
        "input": Tensor(shape=(1, *one, taps), quantization=source),
        "output": Tensor(shape=(1, *one, count), quantization=target),
    }
    return IntegerGraph(
        tensors=tensors, operators=[node], inputs=("input",), outputs=("output",), metadata={}
    )


def test_memory_is_a_few_times_that_of_the_codes():
    graph = layer(0, FullyConnected, 100, 100_000)
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
    graph = layer(seed, operator, 24, taps)
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
    graph = layer(1, FullyConnected, 24, 128)
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
    graph = layer(0, Conv2D, 4, 128)
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
