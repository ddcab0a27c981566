"""Reachable accumulators against all inputs."""

import itertools
import tracemalloc
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.kernel_sets.ideal import BEYOND
from export.realization import accumulator_range
from export.realization.accumulator_range import AccumulatorRange


def neighbours(sums, asked):
    """The nearest sums from each place on, and below it."""
    index = np.searchsorted(sums, asked)
    return np.append(sums, BEYOND)[index], np.insert(sums, 0, -BEYOND)[index]


@given(
    codes=st.lists(st.integers(-9, 9), min_size=1, max_size=3),
    low=st.integers(-2, 0),
    high=st.integers(0, 4),
)
def test_neighbours_are_those_of_all_inputs(codes, low, high):
    inputs = itertools.product(range(low, high + 1), repeat=len(codes))
    sums = sorted({sum(c * x for c, x in zip(codes, step, strict=True)) for step in inputs})
    accumulators = AccumulatorRange(np.array([codes, codes]), low, high)
    assert (accumulators.least[0], accumulators.most[1]) == (sums[0], sums[-1])
    asked = np.arange(sums[0] - 2, sums[-1] + 3)
    above, below = neighbours(sums, asked)
    both = np.stack([asked, asked], axis=1)
    for chosen in (accumulators, accumulators.select(np.array([1, 0]))):
        assert np.array_equal(chosen.at_or_above(both).T, [above, above])
        assert np.array_equal(chosen.below(both).T, [below, below])


def every_sum(codes, low, high):
    """All accumulators, sorted: code by code and step by step from the smallest."""
    least = sum(min(code * low, code * high) for code in codes)
    reached = np.zeros(1 + (high - low) * sum(map(abs, codes)), bool)
    reached[0] = True
    for code in filter(None, map(abs, codes)):
        for _ in range(high - low):
            reached[code:] |= reached[:-code].copy()
    return np.flatnonzero(reached) + least


# One magnitude, two far apart, multiples of one number, residues that are never reached, small
# ones that do not bridge large ones, and anything.
POOLS = st.one_of(
    st.lists(st.integers(-127, 127), min_size=1, max_size=2),
    st.integers(2, 40).flatmap(lambda unit: st.sampled_from([[unit, -2 * unit, 3 * unit]])),
    st.sampled_from([[1, 100], [2, 5], [4, 6, 127], [126, 127], [1, -3, 60], [64, 96, 127]]),
    st.lists(st.integers(-127, 127), min_size=3, max_size=9),
)


@settings(max_examples=200, deadline=None)
@given(
    pool=POOLS,
    picks=st.lists(st.integers(0, 8), min_size=1, max_size=9),
    low=st.sampled_from([0, 0, -1, -3]),
    high=st.sampled_from([1, 1, 3, 15, 40]),
)
def test_neighbours_are_those_of_every_sum(pool, picks, low, high):
    rows = [[pool[pick % len(pool)] for pick in picks], [pool[0]] * len(picks)]
    accumulators = AccumulatorRange(np.array(rows), low, high)
    sums = [every_sum(row, low, high) for row in rows]
    first, last = min(each[0] for each in sums), max(each[-1] for each in sums)
    asked = np.arange(first - 2, last + 3)
    found = [neighbours(each, asked) for each in sums]
    both = np.stack([asked, asked], axis=1)
    assert np.array_equal(accumulators.at_or_above(both).T, [above for above, _ in found])
    assert np.array_equal(accumulators.below(both).T, [below for _, below in found])
    everything = [each.size == each[-1] - each[0] + 1 for each in sums]
    assert accumulators.has_no_gaps.tolist() == everything


@pytest.mark.parametrize(
    ("codes", "steps", "held"),
    [
        ([1, 2, 4], 1, 0),  # No gaps.
        ([6, -9, 15], 255, 2),  # Three times 2, 3 and 5: 0, then from 6 on.
        ([2, 3], 255, 2),  # 0, then from 2 on.
        ([2, 5], 255, 3),  # 0, 2, then from 4 on.
        ([2] + [5] * 100, 1, 2),  # 0, 2, 5, 7 and so on: 0 and 2 with a period of 5.
        ([126, 127], 255, 7876),  # From 125 * 126 on.
        ([1, 100], 3, 9),  # All up to the middle, and the one after it.
    ],
)
def test_only_irregular_sums_are_held(codes, steps, held):
    assert AccumulatorRange(np.array([codes]), 0, steps).held == held


@pytest.mark.parametrize("block", [1, 4, 9, 20, 1 << 20])
def test_channels_are_looked_at_in_blocks(monkeypatch, block):
    monkeypatch.setattr(accumulator_range, "_BLOCK", block)
    codes = np.array(
        [[1, 2, -4, 0], [-128, 127, 5, 0], [0, 0, 0, 0], [-6, 9, -15, 0], [2, 2, 5, 7]]
    )
    accumulators = AccumulatorRange(codes, -1, 3)
    assert accumulators.least.dtype == accumulators.most.dtype == np.int64
    assert accumulators.least.tolist() == [-15, -516, 0, -72, -16]
    assert accumulators.most.tolist() == [13, 524, 0, 48, 48]
    assert accumulators.has_no_gaps.tolist() == [True, False, True, False, False]
    asked = np.array([[-99], [1], [47]])
    sums = [every_sum(row, -1, 3) for row in codes.tolist()]
    found = [neighbours(each, asked.ravel()) for each in sums]
    both = np.repeat(asked, 5, axis=1)
    assert accumulators.at_or_above(both).T.tolist() == [above.tolist() for above, _ in found]
    assert accumulators.below(both).T.tolist() == [below.tolist() for _, below in found]


def test_selected_channels_keep_what_is_known_of_them():
    accumulators = AccumulatorRange(np.array([[1, 2], [2, 5], [3, -7]]), 0, 2)
    chosen = accumulators.select(np.array([2, 0]))
    assert chosen.least.tolist() == [-14, 0]
    assert chosen.most.tolist() == [6, 6]
    assert chosen.has_no_gaps.tolist() == [False, True]
    assert chosen.held == accumulators.held > 0


def test_steps_below_and_above_zero_bridge_gaps():
    accumulators = AccumulatorRange(np.array([[1, 5], [1, 6]]), -2, 2)
    assert accumulators.has_no_gaps.tolist() == [True, False]


def test_channels_without_taps_have_one_accumulator():
    accumulators = AccumulatorRange(np.zeros((2, 0), np.int8), 0, 255)
    assert (accumulators.least.tolist(), accumulators.most.tolist()) == ([0, 0], [0, 0])
    assert accumulators.has_no_gaps.all()
    assert accumulators.held == 0
    asked = np.array([[-1, 0], [0, 1]])
    assert accumulators.at_or_above(asked).tolist() == [[0, 0], [0, BEYOND]]
    assert accumulators.below(asked).tolist() == [[-BEYOND, -BEYOND], [-BEYOND, 0]]


def test_sums_of_large_kernels_need_more_than_16_bits():
    accumulators = AccumulatorRange(np.full((1, 3000), -127, np.int8), -3, 255)
    assert accumulators.least.tolist() == [-127 * 3000 * 255]
    assert accumulators.most.tolist() == [127 * 3000 * 3]
    assert accumulators.at_or_above(np.array([[-126], [1]])).tolist() == [[0], [127]]


def test_kernels_lose_their_code_multiplier():
    rows = np.array([[63, -21, 0], [-63, 42, 21]], np.int8)
    operator = types.SimpleNamespace(rows=rows, code_multiplier=21)
    codes = accumulator_range.accumulated_codes(operator)
    assert codes.dtype == np.int8
    assert codes.tolist() == [[3, -1, 0], [-3, 2, 1]]


def test_memory_does_not_grow_with_the_channels():
    """Channels with gaps have more than a million accumulators each."""
    codes = np.random.default_rng(0).integers(-60, 61, (1000, 128), dtype=np.int8) * 2
    codes[:, 0] = 127
    tracemalloc.start()
    accumulators = AccumulatorRange(codes, 0, 255)
    asked = np.zeros((15, 1000), np.int64)
    assert (accumulators.at_or_above(asked) == 0).all()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not accumulators.has_no_gaps.any()
    assert (accumulators.most - accumulators.least).min() > 1_000_000
    assert accumulators.held <= 1000 * 130
    assert peak < 12_000_000
    same = AccumulatorRange(np.repeat(codes[:1], 1000, axis=0), 0, 255)
    assert same.held == AccumulatorRange(codes[:1], 0, 255).held


def test_what_is_around_is_of_what_is_asked():
    accumulators = AccumulatorRange(np.array([[2, -2], [3, 5]]), 0, 2)
    asked = np.array([[1, 4]])
    for _ in range(2):
        below, from_on = accumulators.around(asked)
        assert (below.tolist(), from_on.tolist()) == ([[0, 3]], [[2, 5]])
    asked += 1
    below, from_on = accumulators.around(asked)
    assert (below.tolist(), from_on.tolist()) == ([[0, 3]], [[2, 5]])
    asked += 1
    below, from_on = accumulators.select(slice(1, 2)).around(asked[:, 1:])
    assert (below.tolist(), from_on.tolist()) == ([[5]], [[6]])
    assert accumulators.around(asked)[1].tolist() == [[4, 6]]
    asked = np.array([[1, 1]])
    assert accumulators.around(asked)[1].tolist() == [[2, 3]]
    assert accumulators.select(np.array([1, 0])).around(asked)[1].tolist() == [[3, 2]]
