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


@pytest.mark.parametrize(
    ("rules", "largest"),
    [
        (
            ("double_up", "double_mixed", "double_away"),
            [2**31 - 1, 2**31 - 1, 2**30 - 1, 2**29 - 1, 2**24 - 1],
        ),
        (
            ("float_even", "single_up", "real_away"),  # 2^31 - 2^10 by the multiplier.
            [2**31 - 1, 2**31 - 1, 1_431_655_082, 2**30 - 2**9, 21_474_826],
        ),
    ],
)
def test_integers_do_not_overflow_within_the_domain(rules, largest):
    for rule in rules:
        found = thresholds.domain(rule, np.array([0.3, 0.99, 1.5, 2.0, 100.0]))
        assert found.dtype == np.int64
        assert found.tolist() == largest


def test_thresholds_in_numbers():
    """Of halves of an accumulator: 2 * level - 1 where they round up."""
    found = {
        rule: thresholds.smallest_accumulators(
            rule, np.array([0.5, 2.0**-33]), np.array([-1, 0, 1, 2])
        ).tolist()
        for rule in ("float_even", "double_up", "real_away")
    }
    always, never = -(1 << 40), 1 << 40
    rest = [always, always, never, never]
    assert found == {
        "float_even": [[-2, rest[0]], [-1, rest[1]], [2, rest[2]], [3, rest[3]]],
        "double_up": [[-3, rest[0]], [-1, rest[1]], [1, rest[2]], [3, rest[3]]],
        "real_away": [[-2, rest[0]], [0, rest[1]], [1, rest[2]], [3, rest[3]]],
    }


@pytest.mark.parametrize(("multiplier", "most"), [(0.3, 8), (2.0**-20, 13)])
@pytest.mark.parametrize("rule", RULES)
def test_few_looks_find_a_threshold(monkeypatch, rule, multiplier, most):
    """Four at the ends of a few steps around real arithmetic; then these are halved."""
    looks = []
    requantize = requantization.requantize

    def counted(*arguments):
        looks.append(arguments)
        return requantize(*arguments)

    monkeypatch.setattr(requantization, "requantize", counted)
    dtype = np.float32 if rule == "float_even" else np.float64
    thresholds.smallest_accumulators(rule, np.array([multiplier], dtype), np.arange(-255, 256))
    assert len(looks) <= most


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
