"""What layers are asked to have, and what they carry."""

import pytest
import tf_keras as keras
from tf_keras import layers

from wrpn_tf.arithmetic.bits import OFF
from wrpn_tf.graph.decomposition import decomposed
from wrpn_tf.graph.placement import KBit, Range
from wrpn_tf.graph.plan import KernelPlan, LayerPlan, layer_plan, layer_plans, placed
from wrpn_tf.graph.rules import Rule
from wrpn_tf.tfmot import front, traversal


def kernel(bits, method="learned", per_channel=True):
    return KernelPlan(bits=bits, method=method, per_channel=per_channel)


def k_bit(bits, method="learned"):
    return KBit(bits=bits, method=method)


def test_what_one_layer_is_asked_to_have():
    conv, relu = layers.Conv2D(2, 1), layers.ReLU()
    assert layer_plan(conv, 2, 3) == LayerPlan(weight=kernel(2), output=k_bit(3))
    assert layer_plan(conv, per_channel=False).weight == kernel(4, per_channel=False)
    assert layer_plan(relu, 2, 3) == LayerPlan(output=k_bit(3))
    assert layer_plan(conv, OFF, OFF) == LayerPlan()
    methods = layer_plan(conv, 1, 3, "xnor", "pact")
    assert methods == LayerPlan(weight=kernel(1, "xnor"), output=k_bit(3, "pact"))


def chain():
    inputs = keras.Input((4, 4, 2), name="image")
    x = layers.Conv2D(2, 1, activation="relu", name="first")(inputs)
    x = layers.Conv2D(2, 1, activation="relu", name="middle")(x)
    x = layers.Flatten(name="flat")(x)
    return traversal.read(keras.Model(inputs, layers.Dense(2, name="last")(x)))


def plans(**options):
    given = {
        "weight_bits": 1,
        "activation_bits": 4,
        "rules": (),
        "first_last": "integer",
        "method": "calibrated",
        "methods": ("xnor", "pact"),
        "per_channel": False,
    }
    return layer_plans(chain().nodes, **given | options)


def test_first_and_last_layers_follow_the_method_of_all_where_theirs_lacks_the_bits():
    found = plans()
    assert found["first"].weight == kernel(8, "calibrated", per_channel=False)
    assert found["middle"].weight == kernel(1, "xnor", per_channel=False)
    assert found["last"].weight == kernel(8, "calibrated", per_channel=False)
    assert found["first"].output == k_bit(4, "pact")
    assert found["middle"].output == k_bit(8, "pact")  # The last layer reads it.
    one_bit = plans(rules=[Rule(name="first", weight_bits=1)])
    assert one_bit["first"].weight == kernel(1, "xnor", per_channel=False)
    with pytest.raises(ValueError, match="xnor"):
        plans(rules=[Rule(name="middle", weight_bits=2)])


def carried(build, input_range=None, integer=True):
    """What the layers of a model carry, and which of its nodes train."""
    inputs = keras.Input((4, 4, 2), name="image")
    network = decomposed(traversal.read(keras.Model(inputs, build(inputs))), front.layers)
    asked = {node.part_of: layer_plan(node.origin) for node in network.nodes if node.inputs}
    network, found = placed(network, asked, integer, input_range)
    return found, {node.name: node.trainable for node in network.nodes}


def test_parts_of_a_layer_share_out_its_plan():
    convolution = layers.SeparableConv2D(2, 1, activation="relu", name="it")
    found, _ = carried(convolution)
    assert found == {
        "it_depthwise": LayerPlan(weight=kernel(4), output=Range()),
        "it_pointwise": LayerPlan(weight=kernel(4)),
        "it_relu": LayerPlan(output=k_bit(4)),
    }


@pytest.mark.parametrize(
    ("layer", "input_range", "ends"),
    [
        (layers.Rescaling(0.5, -1.0), (0.0, 4.0), (-1.0, 1.0)),
        (layers.Rescaling(-0.5), (0.0, 4.0), (-2.0, 0.0)),
        (layers.Rescaling(0.5, 1.0), (0.0, 4.0), (0.0, 3.0)),
        (layers.Rescaling(0.5, -1.0), None, None),
        (layers.BatchNormalization(), (0.0, 4.0), None),
        # From -1 to 1 of two channels: 128 codes below 0, of 127 steps above it.
        (layers.Rescaling([1.0, 2.0], [0.0, -1.0]), (0.0, 1.0), (-128 / 127, 1.0)),
    ],
)
def test_the_range_of_rescaled_pixels_is_known(layer, input_range, ends):
    found, _ = carried(layer, input_range)
    assert list(found.values()) == [LayerPlan(output=Range(fixed=ends))]
    found, _ = carried(lambda x: layer(layers.Add()([x, x])), input_range)
    assert [plan.output for plan in found.values()] == [Range(), Range()]


@pytest.mark.parametrize("frozen", ["", "one", "two", "one two"])
def test_a_scale_of_several_is_frozen_where_all_of_them_are(frozen):
    def build(x):
        one, two = (layers.ReLU(name=name, trainable=name not in frozen) for name in ("one", "two"))
        return layers.Concatenate(name="both")([one(x), two(x)])

    assert carried(build)[1]["both"] == (frozen != "one two")


def test_dense_layers_have_one_scale_but_over_images():
    def build(x):
        x = layers.Dense(2, name="each_pixel")(x)
        return layers.Dense(2, name="features")(layers.Flatten(name="flat")(x))

    found, _ = carried(build)
    assert found["each_pixel"].weight == kernel(4)
    assert found["features"].weight == kernel(4, per_channel=False)


def test_another_use_of_a_layer_carries_nothing_again():
    conv = layers.Conv2D(2, 1, name="conv")
    found, _ = carried(lambda x: conv(conv(x)))
    assert found == {
        "conv": LayerPlan(weight=kernel(4)),
        "conv_use": LayerPlan(output=Range()),
        "conv_2_use": LayerPlan(output=Range()),
    }
