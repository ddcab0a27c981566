"""Ideal thresholds against exact arithmetic, accumulator by accumulator."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_layers import exact_code

from export.ir.provenance import TRAINED
from export.kernel_sets import ideal


def record(scale, shift, gain, variance, offset):
    return np.array([(scale, shift, gain, variance, offset, 0)], TRAINED)


def assert_is_exact(trained, input_scale, output_scale, low, high):
    """Every threshold is the first accumulator of its code, by `exact_code`."""
    found = ideal.thresholds(trained, input_scale, output_scale, np.arange(low + 1, high + 1))[:, 0]
    sign = -1 if trained["gain"][0] < 0 else 1
    for level, threshold in zip(range(low + 1, high + 1), found.tolist(), strict=True):
        if abs(threshold) == ideal.BEYOND:
            continue
        codes = [
            exact_code(trained[0], input_scale, output_scale, low, high, sign * accumulator)
            for accumulator in (threshold - 1, threshold)
        ]
        assert codes[0] < level <= codes[1], (level, threshold)


@settings(max_examples=200, deadline=None)
@given(
    scale=st.floats(0.0009765625, 1, width=32),
    shift=st.floats(-4, 4, width=32),
    gain=st.floats(-4, 4, width=32),
    variance=st.floats(0.0009765625, 8, width=32),
    offset=st.floats(-4, 4, width=32),
    output_scale=st.floats(0.0078125, 1, width=32),
)
def test_thresholds_are_exact(scale, shift, gain, variance, offset, output_scale):
    if abs(gain) < 1e-6:  # Thresholds beyond what exact_code can be asked for.
        gain = 0.0
    trained = record(scale, shift, gain, variance, offset)
    assert_is_exact(trained, 0.25, output_scale, -3, 12)


@given(
    scale=st.sampled_from([0.5, 0.25, 1.0, 3.0]),
    shift=st.integers(-40, 40),
    gain=st.sampled_from([-3.0, -0.5, 1.0, 1.5]),
    root=st.sampled_from([0.5, 1.0, 1.5, 3.0]),
    offset=st.integers(-20, 20),
)
def test_ties_round_up(scale, shift, gain, root, offset):
    """All numbers are small fractions, so many accumulators lie exactly on a threshold."""
    trained = record(scale, shift / 4, gain, root**2, offset / 4)
    assert_is_exact(trained, 0.5, 0.5, -4, 11)


def test_one_ulp_of_an_offset_decides_a_tie():
    at_tie = record(1.0, 0.0, 1.0, 1.0, 0.5)
    below = record(1.0, 0.0, 1.0, 1.0, np.nextafter(np.float32(0.5), np.float32(0)))
    levels = np.array([1])
    assert ideal.thresholds(at_tie, 1.0, 1.0, levels).tolist() == [[0]]
    assert ideal.thresholds(below, 1.0, 1.0, levels).tolist() == [[1]]


@pytest.mark.parametrize("scale", [1.0, 2.0**-10, 2.0**-20, 2.0**-32])
@pytest.mark.parametrize("sign", [1, -1])
def test_ties_are_found_where_float64_cancels(scale, sign):
    """(scale a + 3 k + 1/2) / 3 - k is a half at integers a; a third is none of float64's."""
    levels = np.arange(-3, 5)
    expected = ((3 * levels - 2) / scale).astype(np.int64).tolist()
    for k in [0, *np.random.default_rng(0).integers(1, 2**21, 40).tolist()]:
        trained = record(scale, sign * (3 * k + 0.5), sign, 9.0, -k)
        found = ideal.thresholds(trained, 1.0, 1.0, levels)
        assert found[:, 0].tolist() == expected, k


def test_ties_without_anything_to_add():
    levels = np.arange(-100, 101)
    found = ideal.thresholds(record(0.5, 0.0, 1.0, 9.0, 0.0), 1.0, 1.0, levels)
    assert found[:, 0].tolist() == (6 * levels - 3).tolist()


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("variance", [1.0, 4.0])
@pytest.mark.parametrize("gain", [2.0, -2.0])
def test_what_a_channel_reaches_in_numbers(scale, variance, gain):
    channel = ideal.Channel(record(scale, 0.0, gain, variance, 0.5)[0], 1.0)
    for accumulator in (-2, -1, 0, 1, 2):
        value = abs(gain) * scale * accumulator / variance**0.5 + 0.5
        for step in (-1.5, -0.5, -0.25, 0.0, 0.25, 0.5, 1.5):
            assert channel.reaches(accumulator, Fraction(value + step)) == (step <= 0)


def test_an_irrational_root_is_compared_exactly():
    """sqrt(2) a >= b, for convergents b / a of sqrt(2), where float64 cannot tell."""
    top, bottom = 3, 2
    for _ in range(18):
        top, bottom = top + 2 * bottom, top + bottom
        exact = ideal.Channel(record(1.0, 0.0, 2.0, 2.0, 0.0)[0], 1.0)
        assert exact.reaches(bottom, top) == (2 * bottom**2 >= top**2)


def test_a_gain_of_zero_is_its_offset():
    found = ideal.thresholds(record(1.0, 2.0, 0.0, 1.0, 1.5), 1.0, 1.0, np.array([1, 2, 3]))
    assert found[:, 0].tolist() == [-ideal.BEYOND, -ideal.BEYOND, ideal.BEYOND]


def test_the_line_of_a_channel_in_numbers():
    trained = np.concatenate([record(0.5, 3.0, -2.0, 4.0, 1.0), record(0.5, 3.0, 3.0, 0.25, -1.0)])
    slope, start = ideal.line(trained, 0.25)
    assert slope.dtype == start.dtype == np.float64
    assert (slope.tolist(), start.tolist()) == ([0.125, 0.75], [-2.0, 17.0])


def test_only_negative_gains_negate():
    trained = np.concatenate([record(0.5, 0.0, gain, 1.0, 0.0) for gain in (-0.5, 0.0, 0.5, 3.0)])
    signs = ideal.signs(trained)
    assert signs.dtype == np.int8
    assert signs.tolist() == [[-1], [1], [1], [1]]


def test_a_variance_of_zero_is_for_others_to_reject():
    trained = np.concatenate([record(1.0, 1.0, 1.0, 0.0, 0.0), record(1.0, 1.0, 0.0, 0.0, 0.0)])
    slope, start = ideal.line(trained, 1.0)
    assert not np.isfinite([slope, start]).any()


def test_levels_out_of_reach_are_told():
    """A slope of 2 ** -50: a level of 1 / 2 lies at 2 ** 49, further than any accumulator."""
    trained = record(2.0**-50, 0.0, 1.0, 1.0, 0.0)
    found = ideal.thresholds(trained, 1.0, 1.0, np.array([-1, 0, 1]))
    assert found.dtype == np.int64
    assert found.tolist() == [[-(1 << 40)], [-(1 << 40)], [1 << 40]]


def test_digests_are_those_of_the_files_that_were_written():
    assert ideal.digest(np.array([1, -1, 0, 1])) == 0xBF03699E3C6F0EC3
    rows = np.array([[1, -1], [0, 1]])
    assert ideal.digest(rows.T) == ideal.digest(np.array([1, 0, -1, 1]))


def test_digests_tell_codes_apart():
    codes = np.array([1, -1, 0, 1])
    assert ideal.digest(codes) == ideal.digest(codes.astype(np.int8))
    assert len({ideal.digest(codes), ideal.digest(-codes), ideal.digest(codes[::-1])}) == 3
