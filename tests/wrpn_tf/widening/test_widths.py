"""Copies of channels: how they are spread, and rules that are no rules."""

import dataclasses
import math
import types

import numpy as np
import pytest
import tf_keras as keras
from hypothesis import given
from hypothesis import strategies as st
from tf_keras import layers

from wrpn_tf import WidthRule
from wrpn_tf.widening.channels import trace
from wrpn_tf.widening.widths import check_factor, classes_of, count_copies, spread


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


def test_the_smallest_factor():
    assert check_factor(0.25, "factor") == 0.25


def test_classes_are_in_the_order_of_channels():
    channels = types.SimpleNamespace(
        classes=np.array([2, 0, 2, 1]), owned={"layer": np.array([0, 1, 2, 3])}
    )
    assert classes_of(channels, "layer").tolist() == [2, 0, 1]


def copies_of(outputs, factor, rules=(), first_layer="widen") -> dict[str, list[int]]:
    """The copies of each layer's channels, by its name; rules are factors by name."""
    channels = trace(keras.Model(inputs_of(outputs), outputs))
    by_name = {layer.name: layer for layer in channels.owned}
    decided = {by_name[name]: WidthRule(name=name, factor=f) for name, f in dict(rules).items()}
    copies = count_copies(channels, factor, decided, first_layer)
    return {name: copies[channels.owned[layer]].tolist() for name, layer in by_name.items()}


def inputs_of(tensor):
    return keras.utils.get_source_inputs(tensor)


def dense(units, name):
    return layers.Dense(units, name=name)


def test_a_class_keeps_what_it_got_first():
    x = keras.Input((3,))
    both = layers.Concatenate()([dense(3, "a")(x), dense(1, "b")(x)])
    outputs = dense(2, "logits")(layers.Add()([both, dense(4, "c")(x)]))
    same = {"a": 1.5, "b": 1.5, "c": 1.5, "logits": 1}
    assert copies_of(outputs, 1, same) == {
        "a": [1, 2, 2],
        "b": [2],
        "c": [1, 2, 2, 2],
        "logits": [1, 1],
    }


def test_copies_are_spread_over_all_channels_of_a_layer_whose_inputs_keep_some():
    x = keras.Input((3,))
    c = dense(6, "c")(x)
    both = layers.Concatenate()([x, dense(3, "a")(c)])
    outputs = dense(2, "logits")(layers.Add()([both, c]))
    assert copies_of(outputs, 1.5) == {
        "c": [1, 1, 1, 2, 1, 2],  # As of [1, 2, 1, 2, 1, 2].
        "a": [2, 1, 2],
        "logits": [1, 1],
    }


def test_rules_for_groups_are_for_their_channels():
    image = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 1, groups=2, name="grouped")(layers.Conv2D(4, 1, name="conv")(image))
    outputs = layers.Conv2D(1, 1, name="logits")(x)
    assert copies_of(outputs, 1, {"grouped": 1.5})["grouped"] == [1, 2, 2] * 2
