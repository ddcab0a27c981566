"""Reachable accumulators against all inputs."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from export.kernel_sets.ideal import BEYOND
from export.realization.accumulator_range import AccumulatorRange


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
    above = [min((s for s in sums if s >= place), default=BEYOND) for place in asked]
    below = [max((s for s in sums if s < place), default=-BEYOND) for place in asked]
    both = np.stack([asked, asked], axis=1)
    for chosen in (accumulators, accumulators.select(np.array([1, 0]))):
        assert chosen.at_or_above(both).T.tolist() == [above, above]
        assert chosen.below(both).T.tolist() == [below, below]
