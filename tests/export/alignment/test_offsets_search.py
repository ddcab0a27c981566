"""What settling tries and in which order, with stand-ins for what decides; and what it finds."""

import dataclasses
import types

import numpy as np
import pytest
from trained_layers import wide_layer

from export.alignment import bias_candidates, offsets
from export.ir.operators import Conv2D, FullyConnected
from export.ir.provenance import TRAINED
from export.kernel_sets import ideal
from export.kernel_sets.ideal import BEYOND
from export.kernel_sets.rules import TARGETS
from export.realization import channels
from export.realization.accumulator_range import AccumulatorRange, accumulated_codes
from export.realization.channels import ULPS, Rounding
from export.realization.context import RequantizationContext
from wrpn_tf import QuantizationParameters

CONTEXT = RequantizationContext(
    operator=Conv2D,
    vector_product=False,
    source=QuantizationParameters(scale=0.5, low=0, high=3, bits=2),
    target=QuantizationParameters(scale=0.25, low=-2, high=3, bits=3),
)
CODES = np.array([[1, -1], [2, 3], [-3, 2], [3, -3], [0, 1], [2, 2]])


def records(**fields):
    trained = np.zeros(len(CODES), TRAINED)
    trained["gain"] = trained["variance"] = 1
    for name, values in fields.items():
        trained[name] = values
    return trained


def rounding(trained, code_multiplier=9):
    slope, _ = ideal.line(trained, CONTEXT.source.scale)
    scale = channels.kernel_scale(slope, CONTEXT, code_multiplier)
    return Rounding(CONTEXT, scale, code_multiplier, AccumulatorRange(CODES, 0, 3))


def test_ranks():
    assert offsets._ranks(np.array([2, 0, 3, 1])).tolist() == [0, 1, 0, 1, 2, 0]
    assert offsets._ranks(np.array([], int)).tolist() == []


def test_offsets_bring_a_threshold_between_two_accumulators():
    """Channel 1 takes 0, 2, 3, 4 and so on to 15; one step is 1/8, a code 1/4, the shift 1/16.

    The level -1 has its tie at -3/8. It is met at accumulator 2 and not at 0: offsets from
    -3/8 - 2/8 - 1/16 up to -3/8 - 1/16.
    """
    trained = records(scale=0.25, shift=0.0625, offset=0.5)
    plain = rounding(trained)
    on = np.array([[-3, 2, -9, -9, 0, 0], *[[BEYOND] * 6] * 4])
    low, high = offsets._offset_bounds(CONTEXT, plain, trained, on)
    assert low[0, 1] == -0.375 - 0.25 - 0.0625
    assert high[0, 1] == -0.375 - 0.0625
    assert high[0, [0, 2, 3, 4, 5]].tolist() == [np.inf] * 5  # The least accumulators.
    assert low[0, 0] == -0.375 + 0.375 - 0.0625
    # Level 3 at 5/8: never, so above the largest accumulator.
    assert (low[1:] == -np.inf).all()
    most = np.array([3, 15, 6, 9, 3, 12])
    assert high[4].tolist() == (0.625 - most / 8 - 0.0625).tolist()
    levels = np.array([[4] * 6, [0] * 6])
    some = offsets._offset_bounds(CONTEXT, plain, trained, on[[4, 0]], levels)
    assert some[0].tolist() == low[[4, 0]].tolist()
    assert some[1].tolist() == high[[4, 0]].tolist()


@pytest.mark.parametrize("targets", [("xnnpack",), ("xnnpack", "reference"), TARGETS])
def test_matching_offsets_are_those_that_make_thresholds_ideal(targets):
    random = np.random.default_rng(len(targets))
    trained = records(
        scale=random.uniform(0.1, 0.5, 6).astype(np.float32),
        offset=random.uniform(-0.4, 0.7, 6).astype(np.float32),
    )
    plain = rounding(trained)
    slope, start = ideal.line(trained, 0.5)
    real = np.rint(start / 0.25 / CONTEXT.multipliers(plain._kernel_scale, "reference"))
    seen = np.zeros(2, int)
    for move in range(-9, 10):
        bias = real.astype(np.int64) + move
        positions = [plain.positions(target, bias) for target in targets]
        low, high = offsets._offset_bounds(CONTEXT, plain, trained, positions[0])
        low, high = low.max(axis=0), high.min(axis=0)
        agree = np.all([(each == positions[0]).all(axis=0) for each in positions], axis=0)
        for margin in (np.zeros(6), np.full(6, 0.02)):
            found = offsets._matching_offsets(CONTEXT, plain, trained, bias, targets, margin)
            offset, suits = found
            assert offset.dtype == np.float32
            assert suits.tolist() == (agree & (high - low >= 2 * margin)).tolist()
            inner = np.minimum(slope, high - low) / 2
            nearest = np.minimum(np.maximum(trained["offset"], low + inner), high - inner)
            assert offset[suits].tolist() == nearest[suits].astype(np.float32).tolist()
            settled = trained.copy()
            settled["offset"] = offset
            wanted = ideal.thresholds(settled, 0.5, 0.25, CONTEXT.levels)
            wanted = plain.accumulators.at_or_above(wanted)
            assert (wanted == positions[0])[:, suits].all()
            seen += np.count_nonzero(suits), np.count_nonzero(~suits)
    assert (seen > 10).all()


def settler(graph, ulps=0, **fields):
    (node,) = graph.operators
    context, codes = RequantizationContext.of(graph, node), accumulated_codes(node)
    context = dataclasses.replace(context, **fields)
    accumulators = AccumulatorRange(codes, context.source.low, context.source.high)
    return offsets._Settler(context, node, ulps, codes, accumulators)


def moves(rounding, node):
    """By how many float32 steps the scales of all channels are moved."""
    steps = rounding._kernel_scale.view(np.int32) - node.kernel_scale.view(np.int32)
    assert (steps == steps[0]).all()
    return int(steps[0])


@pytest.mark.parametrize("gains", [False, True])
def test_what_is_tried_in_order(monkeypatch, gains):
    graph = wide_layer(0, Conv2D, 3, 4)
    (node,) = graph.operators
    events, first = [], ("xnnpack",)

    def refuse(context, rounding, trained, bias, targets, margin):
        if len(bias):
            move = np.unique(bias - node.bias[rounding._chosen])
            assert rounding._chosen.tolist() == [0, 1, 2] and move.size == 1
            assert (margin > 0).all() or (margin == 0).all()
            events.append((int(move[0]), moves(rounding, node), targets, bool(margin[0])))
        return trained["offset"], np.zeros(len(trained), bool)

    def pass_all(context, rounding, trained, on, levels=None):
        return np.zeros(on.shape), np.ones(on.shape)

    def spread(settler, given, targets):
        events.append((given, targets))

    monkeypatch.setattr(offsets, "_matching_offsets", refuse)
    monkeypatch.setattr(offsets, "_offset_bounds", pass_all)
    monkeypatch.setattr(offsets._Settler, "_repeats", lambda *_: False)
    monkeypatch.setattr(offsets._Settler, "_spread", spread)
    monkeypatch.setattr(offsets, "_MOST_STEPS", 5)
    one = settler(graph)
    one._margin = np.full(3, 1e-9)
    assert one.left.tolist() == [True] * 3
    one.run(gains, ULPS[:3])
    assert one.left.tolist() == [True] * 3
    assert one.trained.tolist() == node.trained.tolist()
    wanted = []
    for margin in (True, False):
        wanted += [(0, 0, TARGETS, margin)]
        fast = ("xnnpack", "optimized", "optimized_arm")
        wanted += [(gains, targets) for targets in (TARGETS, fast, ("xnnpack", "optimized_arm"))]
        wanted += [(m, ulps, first, margin) for ulps in (0, 1, -1) for m in (0, 1, -1)]
        wanted += [(gains, first)]
        wanted += [(sign * m, 0, first, margin) for m in (2, 3, 4, 5) for sign in (1, -1)]
    assert events == wanted


def test_channels_that_fail_are_looked_for_again_without_a_margin(monkeypatch):
    """Of three that fail two had a margin; another had one and was found."""
    searched = []

    def search(settler, gains, scale_ulps):
        searched.append((settler.left.tolist(), settler._margin.tolist(), gains, scale_ulps))
        settler.left = settler.left & [True, True, False, len(searched) == 1]

    monkeypatch.setattr(offsets._Settler, "_search", search)
    graph = wide_layer(0, Conv2D, 4, 4)
    one = settler(graph)
    one._margin = np.array([1.0, 0.0, 2.0, 3.0])
    one.run(True, (0, 1))
    assert searched == [
        ([True] * 4, [1, 0, 2, 3], True, (0, 1)),
        ([True, False, False, True], [0] * 4, True, (0, 1)),
    ]
    assert one.left.tolist() == [True, True, False, False]
    searched.clear()
    one = settler(graph)
    one._margin = np.array([0.0, 0.0, 2.0, 0.0])
    one.run(False, (0,))
    assert len(searched) == 1
    assert one.left.tolist() == [True, True, False, True]


def walked(monkeypatch, bounds, serves, limit, margin=(0.01, 0.05)):
    """The biases that a walk tries for each of some channels, with stand-ins, and who is left."""
    graph = wide_layer(0, Conv2D, len(limit), 4)
    one, tried = settler(graph), [[] for _ in limit]
    one._bias, one._margin = np.arange(len(limit)), np.linspace(*margin, len(limit))

    def known(settler, plain, chosen, bias, target, levels=None):
        assert target == "xnnpack"
        pairs = zip(chosen.tolist(), (bias - settler._bias[chosen]).tolist(), strict=True)
        low, high = np.moveaxis(np.array([bounds(*pair) for pair in pairs]).reshape(-1, 2, 6), 0, 2)
        if levels is not None:
            low, high = (np.take_along_axis(each, levels, axis=0) for each in (low, high))
        return low, high

    def try_each(settler, plain, chosen, bias, targets):
        assert targets == ("xnnpack",)
        for channel, place in zip(chosen.tolist(), bias.tolist(), strict=True):
            if settler.left[channel]:
                tried[channel].append(place - channel)
                settler.left[channel] = not serves(channel, place - channel)

    monkeypatch.setattr(offsets._Settler, "_bounds", known)
    monkeypatch.setattr(offsets._Settler, "_try_each", try_each)
    chosen = np.flatnonzero(np.array(limit) > 0)
    one._walk(one._rounding(one.trained), chosen, np.array(limit, float), ("xnnpack",))
    return tried, one


def random_bounds(channel, move):
    """Low and high of six levels: about one of six biases passes."""
    random = np.random.default_rng([channel, move + 1000])
    return random.uniform(0, 1, 6), random.uniform(0.8, 1.8, 6)


def test_the_walk_tries_what_passes_from_the_nearest_on(monkeypatch):
    """The fourth channel is not asked for, the fifth may move by 1 only, the sixth by 20."""
    limit = [90.9, 90, 90, 0, 1, 20]

    def serves(channel, move):
        return move * 7 % 5 == channel and channel != 5

    tried, one = walked(monkeypatch, random_bounds, serves, limit)
    for channel, found in enumerate(tried):
        moves = [sign * step for step in range(2, int(limit[channel]) + 1) for sign in (1, -1)]
        wanted = []
        for move in moves:
            low, high = random_bounds(channel, move)
            if high.min() - low.max() >= 2 * one._margin[channel]:
                wanted.append(move)
                if serves(channel, move):
                    break
        assert found == wanted, channel
    assert one.left.tolist() == [False, False, False, True, True, True]


def test_the_walk_gives_up(monkeypatch):
    """After 5 trials in vain, or up to as many more, of 180 biases of which every second passes."""
    monkeypatch.setattr(offsets, "_MOST_TRIALS", 5)

    def bounds(channel, move):
        high = np.ones(6)
        high[abs(move) % 6] -= 2 * (move > 0)
        return np.zeros(6), high

    tried, one = walked(monkeypatch, bounds, lambda channel, move: False, [91, 91, 91])
    assert one.left.all()
    for found in tried:
        assert 5 <= len(found) <= 10
        assert found == [-2 - step for step in range(len(found))]


def test_the_walk_passes_what_has_twice_the_margin(monkeypatch):
    """A room of 1/8 is twice a margin of 1/16, with which no bias is too narrow by a hair."""
    bounds = np.full(6, 0.5), np.full(6, 0.625)
    margin = 0.0625, 0.0626
    tried, _ = walked(monkeypatch, lambda *_: bounds, lambda _, move: move == 6, [9, 9], margin)
    assert tried == [[2, -2, 3, -3, 4, -4, 5, -5, 6], []]


def test_levels_that_fail_are_looked_at_first(monkeypatch):
    """The first, second and fourth bias fail by one pair of levels each; the third passes."""
    failing = {2: (1, 5), -2: (2, 4), -3: (3, 0)}
    seen = []

    def bounds(channel, move):
        low, high = np.zeros(6), np.ones(6)
        if move in failing:
            low[failing[move][0]], high[failing[move][1]] = 2, -1
        return low, high

    take = np.take_along_axis

    def spy(values, levels, axis):
        seen.append(levels.T.tolist())
        return take(values, levels, axis)

    monkeypatch.setattr(np, "take_along_axis", spy)
    walked(monkeypatch, bounds, lambda channel, move: move == 4, [9])
    assert seen[0] == [[1, 2, 0, 3, 5, 4, 0, 0]] * 12


@pytest.mark.parametrize(("most", "looked_at"), [(64, [4, 16, 64]), (20, [4, 16]), (5, [4, 5])])
def test_four_times_as_many_biases_are_looked_at_each_time(monkeypatch, most, looked_at):
    monkeypatch.setattr(offsets, "_MOST_TRIALS", most)
    tried = []

    def bounds(channel, move):
        return np.zeros(6), np.ones(6)

    found, _ = walked(monkeypatch, bounds, lambda *_: tried.append(0), [200])
    assert len(found[0]) == sum(looked_at)


def test_bounds_are_those_of_the_channels_and_levels():
    one = settler(wide_layer(0, Conv2D, 3, 4))
    plain, chosen = one._rounding(one.trained), np.array([2, 0, 2])
    bias, levels = one._bias[chosen] + [0, 3, -2], np.array([[7, 100, 30], [9, 0, 254]])
    rounding = plain.select(chosen)
    on = rounding.positions("reference", bias)
    wanted = offsets._offset_bounds(one._context, rounding, one.trained[chosen], on)
    for whole, found, some in zip(
        wanted,
        one._bounds(plain, chosen, bias, "reference"),
        one._bounds(plain, chosen, bias, "reference", levels),
        strict=True,
    ):
        assert found.tolist() == whole.tolist()
        assert some.tolist() == np.take_along_axis(whole, levels, axis=0).tolist()


def test_no_bias_farther_than_half_a_code_or_a_code_multiplier(monkeypatch):
    graph = wide_layer(0, Conv2D, 3, 4)
    (node,) = graph.operators
    assert node.code_multiplier == 1
    multiplier = RequantizationContext.of(graph, node).multipliers(node.kernel_scale, "reference")
    limits = []

    def walk(settler, plain, chosen, limit, targets):
        limits.append((chosen.tolist(), limit.tolist(), targets))

    monkeypatch.setattr(
        offsets,
        "_matching_offsets",
        lambda context, rounding, trained, *_: (trained["offset"], np.zeros(len(trained), bool)),
    )
    monkeypatch.setattr(offsets._Settler, "_spread", lambda *_: None)
    monkeypatch.setattr(offsets._Settler, "_walk", walk)
    monkeypatch.setattr(offsets, "_BLOCK", 2)
    half = (0.5 / multiplier).tolist()
    assert 1 < max(half) < 2048
    for repeats in (False, True, np.array([True, False, False])):

        def repeat(settler, plain, target, limit, value=repeats):
            assert isinstance(plain, Rounding) and target == "xnnpack"
            assert limit.tolist() == half
            return value

        monkeypatch.setattr(offsets._Settler, "_repeats", repeat)
        settler(graph)._search(False, (0,))
    mixed = [1.0, *half[1:]]
    assert limits == [
        (channels, limit, ("xnnpack",))
        for limit in (half, [1.0] * 3, mixed)
        for channels in ([0, 1], [2])
    ]
    limits.clear()
    monkeypatch.setattr(offsets, "_MOST_STEPS", 3)
    monkeypatch.setattr(offsets._Settler, "_repeats", lambda *_: False)
    settler(graph)._search(False, (0,))
    assert [limit for _, limit, _ in limits] == [[min(3, each) for each in half]] * 2


def test_gains_are_tried_from_the_nearest_on(monkeypatch):
    """Three channels, ten factors; a place is known for some factors, and one of them serves."""
    graph = wide_layer(0, Conv2D, 3, 4)
    (node,) = graph.operators
    factors = 1 + np.arange(10)[:, None] * 2.0**-12 * np.ones(3)
    asked, tried = [], []
    places = {0: {2: 11, 3: 12, 9: 13}, 1: {0: 14}, 2: {}}
    serves = {(0, 9), (1, 5)}

    def nearest(context, accumulators, trained, multiplier, code_multiplier, targets):
        assert code_multiplier == node.code_multiplier and targets == ("xnnpack",)
        result = []
        for record, scale in zip(trained, multiplier, strict=True):
            channel = node.trained["scale"].tolist().index(record["scale"])
            step = round((record["gain"] - 1) * 2**12)
            assert record["gain"] == np.float32(1 + step * 2.0**-12)
            plain = RequantizationContext.of(graph, node).multipliers(
                node.kernel_scale, "reference"
            )
            share = (1, 1.125, 1.25)[channel] * record["gain"] if step else 1
            assert np.isclose(scale, plain[channel] * share, rtol=1e-6)
            asked.append((channel, step))
            result.append(places[channel].get(step, np.nan))
        return np.array(result)

    def matching(context, rounding, trained, bias, targets, margin):
        found = []
        for record, place in zip(trained, bias, strict=True):
            channel = node.trained["scale"].tolist().index(record["scale"])
            step = round((record["gain"] - 1) * 2**12)
            tried.append((channel, step, int(place)))
            found.append((channel, step) in serves)
        return trained["offset"] + np.float32(1), np.array(found, bool)

    def given(multiplier, code_multiplier):
        assert code_multiplier == node.code_multiplier
        assert multiplier.tolist() == context.multipliers(node.kernel_scale, "reference").tolist()
        return factors

    context = RequantizationContext.of(graph, node)
    monkeypatch.setattr(bias_candidates, "gain_factors", given)
    monkeypatch.setattr(bias_candidates, "nearest_bias", nearest)
    monkeypatch.setattr(offsets, "_matching_offsets", matching)
    graph.operators[0].trained["scale"] *= np.float32([1, 1.125, 1.25])
    one = settler(graph)
    one._spread(True, ("xnnpack",))
    eight = [(channel, step) for step in range(8) for channel in range(3)]
    assert asked[:24] == eight
    assert sorted(asked[24:]) == [(0, 8), (0, 9), (1, 8), (1, 9), (2, 8), (2, 9)]
    assert tried == [(0, 2, 11), (1, 0, 14), (0, 3, 12), (0, 9, 13)]
    assert one.left.tolist() == [False, True, True]
    moved = node.trained.copy()
    moved["gain"][0] = np.float32(1 + 9 * 2.0**-12)
    moved["offset"][0] += np.float32(1)
    assert one.trained.tolist() == moved.tolist()
    asked.clear(), tried.clear()
    one = settler(graph)
    one._spread(False, ("xnnpack",))
    assert asked == [(0, 0), (1, 0), (2, 0)] and tried == [(1, 0, 14)]


def test_at_most_twelve_gains_are_tried(monkeypatch):
    graph = wide_layer(0, Conv2D, 2, 4)
    factors = 1 + np.arange(40)[:, None] * 2.0**-14 * np.ones(2)
    trials = []

    def refuse(context, rounding, trained, bias, targets, margin):
        trials.append(len(trained))
        return trained["offset"], np.zeros(len(trained), bool)

    monkeypatch.setattr(bias_candidates, "gain_factors", lambda multiplier, code: factors)
    monkeypatch.setattr(
        bias_candidates, "nearest_bias", lambda c, a, trained, *_: np.zeros(len(trained))
    )
    monkeypatch.setattr(offsets, "_matching_offsets", refuse)
    settler(graph)._spread(True, ("xnnpack",))
    assert trials == [2] * 12


@pytest.fixture(name="reaching")
def reaching_fixture():
    """Accumulators 0 to 9, one 0.8 codes and 9 steps of a kernel's; and a channel with gaps.

    Levels from -1 to 3 are reached from -1.5 * 9 / 0.8 = -16.9 to 2.5 * 9 / 0.8 = 28.1 on: -16 and
    29. A bias of -25 has the first level at 1 and the last at 6, one of -50 has them at 4 and 9.
    """
    codes = np.array([[1, 1, 1], [1, 1, 1], [3, 0, 0]])
    trained = records(scale=0.4)[:3]
    slope, _ = ideal.line(trained, 0.5)
    operator = types.SimpleNamespace(
        kernel_scale=channels.kernel_scale(slope, CONTEXT, 9),
        bias=np.array([-25, -50, -25], np.int32),
        code_multiplier=9,
        trained=trained,
    )
    one = offsets._Settler(CONTEXT, operator, 0, codes, AccumulatorRange(codes, 0, 3))
    return one, one._rounding(trained)


@pytest.mark.parametrize(
    ("limit", "repeats"),
    [(2.9, [True, True]), (3, [True, False]), (8, [True, False]), (9, [False, False])],
)
def test_thresholds_that_stay_within_reach_repeat(reaching, limit, repeats):
    one, plain = reaching
    found = one._repeats(plain, "xnnpack", np.full(3, limit))
    assert found.tolist() == [*repeats, False]


@pytest.mark.parametrize("overflow", [[-27, -52, -27], [-23, -48, -23]])
def test_biases_that_overflow_do_not_repeat(monkeypatch, reaching, overflow):
    one, plain = reaching

    def fits(rounding, target, bias):
        assert target == "xnnpack"
        return bias != np.array([*overflow[:1], 0, 0])

    monkeypatch.setattr(Rounding, "fits", fits)
    assert one._repeats(plain, "xnnpack", np.full(3, 2)).tolist() == [False, True, False]


@pytest.mark.parametrize("shared", [True, False])
def test_attempts_of_one_scale_end_with_the_first_that_leaves_nothing(monkeypatch, shared):
    graph = wide_layer(0, FullyConnected, 3, 4)
    (node,) = graph.operators
    if not shared:
        node.kernel_scale[0] *= 2
    else:
        node.kernel_scale[:] = node.kernel_scale[0]
    for left, ulps in (({0: 2, 1: 1, -1: 0}, -1), ({2: 1, 3: 1}, 2), ({0: 0}, 0)):
        runs = []

        def run(settler, gains, scale_ulps, left=left, runs=runs):
            step = int((settler._scale.view(np.int32) - node.kernel_scale.view(np.int32))[0])
            runs.append((step, gains, tuple(scale_ulps)))
            settler.left = np.arange(3) < left.get(step, 3)
            settler.trained["offset"] = step

        monkeypatch.setattr(offsets._Settler, "run", run)
        found = offsets.settled(graph, node, gains=True)
        tried = (*ULPS[: ULPS.index(ulps) + 1],) if left.get(ulps) == 0 else ULPS
        if not shared:
            tried, ulps = (0,), 0
        assert runs == [(step, True, (0,) if shared else ULPS) for step in tried]
        assert found["offset"].tolist() == [ulps] * 3
    offsets.settled(graph, node)
    assert runs[-1][1] is False or not runs[-1][1]


def test_a_narrow_kernel_has_to_serve_as_an_int8_file_too(monkeypatch):
    graph = wide_layer(0, Conv2D, 3, 4)
    one = settler(graph, dtype_bits=4, delegated=False)
    one.trained["gain"][1] = -1
    seen = []

    def fit(codes, trained, context):
        seen.append(
            (codes.tolist(), trained["offset"].tolist(), context.dtype_bits, context.delegated)
        )
        return types.SimpleNamespace(exact={"xnnpack": np.array([True, True, False])})

    def matching(context, rounding, trained, bias, targets, margin):
        return np.float32([7, 8]), np.array([True, True])

    monkeypatch.setattr(channels, "fit", fit)
    monkeypatch.setattr(offsets, "_matching_offsets", matching)
    before = one.trained.copy()
    plain = one._rounding(one.trained)
    one._try(plain, one.trained, np.array([1, 2]), one._bias, ("xnnpack",))
    codes = accumulated_codes(graph.operators[0]) * np.array([[1], [-1], [1]])
    assert seen == [(codes.tolist(), [before["offset"][0], 7, 8], 8, True)]
    assert one.left.tolist() == [True, False, True]
    assert one.trained["offset"].tolist() == [before["offset"][0], 7, before["offset"][2]]


@pytest.mark.parametrize(("operator", "seed"), [(Conv2D, 3), (FullyConnected, 4)])
def test_settled_channels_are_exact_and_have_room(operator, seed):
    graph = wide_layer(seed, operator, 8, 3)
    (node,) = graph.operators
    context = RequantizationContext.of(graph, node)
    found = offsets.settled(graph, node)
    unmoved = node.trained.copy()
    unmoved["offset"] = found["offset"]
    assert unmoved.tolist() == found.tolist()  # Nothing but offsets.
    assert (found["offset"] == found["offset"].astype(np.float32)).all()
    moved = np.abs(found["offset"] - node.trained["offset"]) / context.target.scale
    assert 0 < moved.max() <= 0.5
    fitted = channels.fit(accumulated_codes(node), found, context)
    assert fitted.exact["xnnpack"].all()
