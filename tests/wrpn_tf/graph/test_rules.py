"""Policy: which layer gets how many bits, and what is said about rules that decide nothing."""

import dataclasses

import pytest
import tf_keras as keras
from tf_keras import layers

from wrpn_tf import Rule
from wrpn_tf.graph.rules import LayerBits, assign_bits, edge_layers
from wrpn_tf.tfmot import traversal


def chain():
    return keras.Sequential(
        [
            layers.Conv2D(2, 1, name="first", input_shape=(4, 4, 1)),
            layers.ReLU(name="relu1"),
            layers.DepthwiseConv2D(1, name="middle"),
            layers.BatchNormalization(name="bn"),
            layers.ReLU(name="relu2"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(2, name="last"),
        ]
    )


def residual():
    """Two inputs, a stem each, a shortcut with a convolution, and two heads."""
    one, other = keras.Input((4, 4, 1), name="one"), keras.Input((4, 4, 1), name="other")
    x = layers.Conv2D(2, 1, name="stem_one")(one)
    y = layers.Conv2D(2, 1, name="stem_other")(other)
    x = layers.Add(name="join")([x, y])
    x = layers.ReLU(name="relu")(x)
    shortcut = layers.Conv2D(2, 1, name="shortcut")(x)
    x = layers.Conv2D(2, 1, name="body")(x)
    x = layers.Add(name="sum")([x, shortcut])
    x = layers.ReLU(name="top")(x)
    x = layers.Flatten(name="flat")(layers.MaxPooling2D(name="pool")(x))
    heads = [layers.Dense(2, name="head_one")(x), layers.Dense(3, name="head_other")(x)]
    return keras.Model([one, other], heads)


def assign(model, rules=(), weight_bits=2, activation_bits=4, first_last="integer"):
    return assign_bits(
        traversal.read(model).nodes,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        rules=rules,
        first_last=first_last,
    )


def test_first_matching_rule_wins():
    rules = [
        Rule(name="mid*", weight_bits=3),
        Rule(layer_class=layers.DepthwiseConv2D, weight_bits=5),
    ]
    with pytest.raises(ValueError, match="decide for no layer"):
        assign(chain(), rules)
    assert assign(chain(), rules[:1])["middle"].weight == 3
    assert assign(chain(), rules[1:])["middle"].weight == 5


def test_a_rule_sets_only_what_it_names():
    bits = assign(
        chain(), [Rule(name="relu1", activation_bits=3), Rule(name="middle", weight_bits=6)]
    )
    assert bits["relu1"].activation == 3
    assert bits["middle"] == LayerBits(weight=6, activation=4)


def test_rules_match_by_name_and_class_together():
    rules = [Rule(name="*", layer_class=layers.ReLU, activation_bits=2)]
    bits = assign(chain(), rules)
    assert (bits["relu1"].activation, bits["relu2"].activation) == (2, 2)
    assert bits["middle"].activation == 4


def test_a_rule_for_a_class_covers_its_subclasses():
    bits = assign(chain(), [Rule(layer_class=layers.Layer, weight_bits=7)])
    assert {entry.weight for entry in bits.values()} == {7}


def test_rules_that_decide_nothing_are_all_named():
    rules = [
        Rule(name="fist", weight_bits=3),
        Rule(name="middle", weight_bits=3),
        Rule(name="middle", weight_bits=5),
    ]
    with pytest.raises(ValueError) as error:
        assign(chain(), rules)
    assert str(rules[0]) in str(error.value)
    assert str(rules[1]) not in str(error.value)
    assert str(rules[2]) in str(error.value)


def test_a_rule_that_repeats_an_earlier_one_is_an_error():
    with pytest.raises(ValueError, match="decide for no layer"):
        assign(chain(), [Rule(name="middle", weight_bits=3)] * 2 + [Rule(name="x", weight_bits=3)])


@pytest.mark.parametrize(("first_last", "edge"), [("integer", 8), ("paper", 32)])
def test_first_and_last_layers_get_the_policys_bits(first_last, edge):
    bits = assign(chain(), first_last=first_last)
    assert (bits["first"].weight, bits["middle"].weight, bits["last"].weight) == (edge, 2, edge)
    # What the last layer reads belongs to it, through pooling; the first layer's output does not.
    assert (bits["relu1"].activation, bits["relu2"].activation) == (4, edge)


def test_edges_of_a_branching_graph():
    firsts, lasts = edge_layers(traversal.read(residual()).nodes)
    assert firsts == {"stem_one", "stem_other"}
    assert lasts == {"head_one", "head_other"}


def test_policy_in_a_branching_graph():
    bits = assign(residual())
    assert [bits[name].weight for name in ("shortcut", "body")] == [2, 2]
    assert [bits[name].activation for name in ("relu", "top")] == [4, 8]


def test_the_last_activations_are_found_through_a_concatenation():
    """And from there on through pooling, in every branch; not what a kernel lies between."""
    inputs = keras.Input((4, 4, 1))
    x = layers.ReLU(name="stem")(layers.Conv2D(2, 1)(inputs))
    one = layers.ReLU(name="one")(layers.Conv2D(2, 1)(x))
    two = layers.ReLU(name="two")(layers.Conv2D(2, 1)(x))
    x = layers.Concatenate(name="joined")([one, layers.MaxPooling2D(1)(two)])
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    bits = assign(keras.Model(inputs, layers.Dense(3, name="head")(x)))
    found = {name: bits[name].activation for name in ("stem", "one", "two", "joined")}
    assert found == {"stem": 4, "one": 8, "two": 8, "joined": 8}


def test_a_parallel_branch_without_kernels_does_not_hide_an_edge():
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(2, 1, name="conv")(inputs)
    outputs = layers.Add(name="add")([x, inputs])
    firsts, lasts = edge_layers(traversal.read(keras.Model(inputs, outputs)).nodes)
    assert firsts == lasts == {"conv"}


def test_a_rule_overrides_the_policy():
    rules = [Rule(name="first", weight_bits=4), Rule(name="relu2", activation_bits=2)]
    bits = assign(chain(), rules)
    assert (bits["first"].weight, bits["relu2"].activation) == (4, 2)


def test_activations_that_are_off_stay_off_before_the_last_layer():
    assert assign(chain(), activation_bits=32)["relu2"].activation == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_bits": 2}, "selects no layer"),
        ({"name": "conv"}, "sets nothing"),
        ({"name": "conv", "weight_bits": 0}, "got 0"),
        ({"name": "conv", "activation_bits": 9}, "got 9"),
        ({"name": "conv", "weight_bits": True}, "got True"),
        ({"layer_class": layers.Dense, "weight_bits": "4"}, "got '4'"),
    ],
)
def test_invalid_rule(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        Rule(**arguments)
    assert "Rule(" in str(error.value)


def test_rules_are_frozen_and_keyword_only():
    with pytest.raises(TypeError):
        Rule("conv", None, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Rule(name="conv", weight_bits=2).weight_bits = 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_bits": 0}, "weight_bits must be .*; got 0"),
        ({"activation_bits": 16}, "activation_bits must be .*; got 16"),
        ({"first_last": "float"}, "first_last must be 'integer' or 'paper'; got 'float'"),
    ],
)
def test_invalid_policy(arguments, message):
    with pytest.raises(ValueError, match=message):
        assign(chain(), **arguments)
