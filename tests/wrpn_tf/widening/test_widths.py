"""Copies of channels: how they are spread, and rules that are no rules."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tf_keras import layers

from wrpn_tf import WidthRule
from wrpn_tf.widening.widths import spread


@given(st.integers(1, 500), st.floats(0.25, 5))
def test_copies_are_spread_evenly(channels, factor):
    copies = spread(channels, factor)
    assert len(copies) == channels
    assert copies.sum() == max(1, math.floor(channels * factor + 0.5))
    assert copies.max() - copies.min() <= 1
    # Every run of channels has its part of the copies.
    sums = np.cumsum(copies)
    assert (np.abs(sums - np.arange(1, channels + 1) * sums[-1] / channels) < 1).all()


def test_spread():
    assert spread(4, 1.5).tolist() == [1, 2, 1, 2]
    assert spread(4, 0.5).tolist() == [0, 1, 0, 1]
    assert spread(3, 2).tolist() == [2, 2, 2]
    assert spread(1, 0.25).tolist() == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 2}, "selects no layer"),
        ({"name": "conv", "factor": 0.1}, "at least 0.25; got 0.1"),
        ({"name": "conv", "factor": True}, "got True"),
        ({"layer_class": layers.Dense, "factor": "2"}, "got '2'"),
        ({"name": "conv", "factor": float("inf")}, "got inf"),
    ],
)
def test_invalid_rule(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        WidthRule(**arguments)
    assert "WidthRule(" in str(error.value)


def test_rules_are_frozen_and_need_a_factor():
    with pytest.raises(TypeError, match="factor"):
        WidthRule(name="conv")
    with pytest.raises(dataclasses.FrozenInstanceError):
        WidthRule(name="conv", factor=2).factor = 3
