"""What layers do to channels, one by one."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

from wrpn_tf.widening.channel_roles import Role, fits_one_width, role, softmax_over_channels
from wrpn_tf.widening.channels import trace


def test_a_line_for_each_channel_lists_the_channels():
    assert role(layers.Rescaling(2.0, 1.0)) is Role.PASS
    assert role(layers.Rescaling([1.0, 2.0], 1.0)) is Role.FIX
    assert role(layers.Rescaling(2.0, [1.0, 2.0])) is Role.FIX


@pytest.mark.parametrize(
    ("layer", "fits_one"),
    [
        (layers.Reshape((2, 2)), True),
        (layers.Reshape((2, -1)), False),
        (layers.Flatten(), False),
        (layers.ReLU(), False),
        (layers.Dense(2), True),
        (layers.DepthwiseConv2D(3), True),
        (layers.BatchNormalization(), True),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_layers_that_fit_one_width(layer, fits_one):
    assert fits_one_width(layer) == fits_one


@pytest.mark.parametrize(
    ("layer", "shares"),
    [
        (layers.Softmax(), True),
        (layers.Softmax(3), True),
        (layers.Softmax(1), False),
        (layers.Softmax([1, 3]), True),
        (layers.Softmax([1, 2]), False),
        (layers.UnitNormalization(axis=[2, 3]), True),
        (layers.Activation("softmax"), True),
        (layers.Activation("relu"), False),
        (layers.Conv2D(2, 1, activation=layers.Softmax()), True),
        (layers.Conv2D(2, 1, activation=layers.Softmax(1)), False),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_sums_that_are_shared_out_among_channels(layer, shares):
    assert softmax_over_channels(layer, 4) == shares


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (layers.LayerNormalization(axis=[2, 3]), "it must normalize over the last axis alone"),
        (layers.LayerNormalization(axis=[3]), None),
        (layers.GroupNormalization(2, axis=1), "it must group the last axis"),
        (layers.GroupNormalization(2, axis=3), None),
        (layers.Conv2D(2, 1, activation=layers.ReLU(6.0)), None),
        (
            layers.Conv2D(2, 1, activation=layers.PReLU()),
            "activation 'PReLU' is not known to be elementwise",
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_problems_by_layer(layer, problem):
    inputs = keras.Input((4, 4, 2))
    found = trace(keras.Model(inputs, layer(inputs))).problems
    assert list(found.values()) == ([] if problem is None else [problem])


def test_sizes_that_are_not_known():
    inputs = keras.Input((None, None, 2))
    found = trace(keras.Model(inputs, layers.Reshape((4, 4, 2))(inputs))).problems
    assert list(found.values()) == ["the size of its input is not known"]


def test_a_constant_for_each_channel_that_a_layer_can_stand_for_is_no_problem():
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(2, 1, name="conv")(inputs) * np.float32([1, 2])
    channels = trace(keras.Model(inputs, layers.Conv2D(1, 1)(x)))
    assert not channels.problems
    (conv,) = (layout for layer, layout in channels.owned.items() if layer.name == "conv")
    assert set(channels.classes[conv]) <= set(channels.pinned)


def shuffle(x, split, order, joined):
    x = layers.Permute(order, name="turned")(layers.Reshape(split, name="split")(x))
    return layers.Reshape(joined, name="joined")(x)


@pytest.mark.parametrize(
    ("split", "order", "joined", "is_shuffle"),
    [
        ((4, 4, 2, 2), (1, 2, 4, 3), (4, 4, 4), True),
        ((4, 4, 2, 2), (2, 1, 4, 3), (4, 4, 4), False),  # Turns images too.
        ((4, 2, 4, 2), (1, 2, 4, 3), (4, 4, 4), False),  # Splits the width.
        ((4, 4, 2, 2), (1, 2, 4, 3), (4, 4, 2, 2), False),
    ],
)
def test_what_is_a_shuffle(split, order, joined, is_shuffle):
    inputs = keras.Input((4, 4, 4))
    inner = keras.Model(inputs, shuffle(inputs, split, order, joined))
    outer = keras.Input((4, 4, 4))
    for model in (inner, keras.Model(outer, inner(outer))):
        parts = [call.shuffle for call in trace(model).calls if call.shuffle]
        assert [part.splits for part in parts] == ([True, False, False] if is_shuffle else [])


@pytest.mark.parametrize("seen", [0, 1])
def test_a_shuffle_whose_parts_others_see_is_none(seen):
    inputs = keras.Input((4, 4, 4))
    parts = [layers.Reshape((4, 4, 2, 2))(inputs)]
    parts.append(layers.Permute((1, 2, 4, 3))(parts[0]))
    outputs = layers.Reshape((4, 4, 4))(parts[1])
    for model in (
        keras.Model(inputs, [outputs, parts[seen]]),
        keras.Model(inputs, [outputs, tf.nn.relu(parts[seen])]),
    ):
        assert not any(call.shuffle for call in trace(model).calls)
