"""Kernels' thresholds against the rules themselves."""

import fractions
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.kernel_sets import requantization, thresholds
from export.kernel_sets.ideal import BEYOND

RULES = ("float_even", "double_up", "double_mixed", "double_away", "single_up", "real_away")


@pytest.mark.parametrize("rule", RULES)
@given(exponents=st.lists(st.floats(-30, 7.9), min_size=1, max_size=10))
def test_a_level_is_reached_from_its_threshold_on(rule, exponents):
    dtype = np.float32 if rule == "float_even" else np.float64
    multiplier = (2.0 ** np.array(exponents)).astype(dtype)
    levels = np.arange(-255, 256, 15)
    found = thresholds.smallest_accumulators(rule, multiplier, levels)
    limit = thresholds.domain(rule, multiplier)
    at = np.clip(found, -limit, limit)
    reached = requantization.requantize(at, rule, multiplier) >= levels[:, None]
    assert (reached == (found < BEYOND)).all()
    before = np.maximum(at - 1, -limit)
    reached = requantization.requantize(before, rule, multiplier) >= levels[:, None]
    assert (reached == (found == -BEYOND)).all()


@pytest.mark.parametrize("rule", RULES)
@given(multiplier=st.floats(0.001, 0.9))
def test_rules_are_monotone(rule, multiplier):
    dtype = np.float32 if rule == "float_even" else np.float64
    places = np.arange(-2000, 2001)[:, None]
    rounded = requantization.requantize(places, rule, np.array([multiplier], dtype))
    assert (np.diff(rounded[:, 0]) >= 0).all()


def test_single_rounding_is_one_shift():
    multiplier, half = np.array([0.3, 0.75]), fractions.Fraction(1, 2)
    places = np.arange(-1000, 1001)[:, None]
    parts = np.stack(requantization.quantize_multiplier(multiplier), axis=1).tolist()
    exact = [
        [math.floor(fractions.Fraction(int(place) * m, 1 << (31 - s)) + half) for m, s in parts]
        for place in places[:, 0]
    ]
    assert requantization.requantize(places, "single_up", multiplier).tolist() == exact
