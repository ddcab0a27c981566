"""Which channels are tied to which, and which are pinned."""

import numpy as np
import tf_keras as keras
from tf_keras import layers

from wrpn_tf.widening.channels import trace


def classes(model) -> tuple[dict[str, list[int]], set[int]]:
    """The classes of each layer's output, numbered in the order of layers, and the pinned ones."""
    channels = trace(model)
    order: dict[int, int] = {}
    found = {
        call.layer.name: [
            order.setdefault(int(c), len(order)) for c in channels.classes[call.outputs[0]]
        ]
        for call in channels.calls
    }
    return found, {order[c] for c in channels.pinned if c in order}


def test_sums_tie_and_concatenations_join():
    inputs = keras.Input((4, 4, 3))
    a = layers.Conv2D(2, 1, name="a")(inputs)
    b = layers.Conv2D(1, 1, name="b")(inputs)
    both = layers.Concatenate(name="both")([b, a, b])
    c = layers.Conv2D(4, 1, name="c")(inputs)
    x = layers.Flatten(name="flat")(layers.Add(name="add")([both, c]))
    found, pinned = classes(keras.Model(inputs, layers.Dense(2, name="logits")(x)))
    whole = [*found["b"], *found["a"], *found["b"]]
    assert len(set(whole)) == 3
    assert found["both"] == found["c"] == found["add"] == whole
    assert found["flat"] == whole * 16
    assert pinned == set(found["logits"])
    assert not pinned & set(whole)


def test_inputs_pin_what_is_added_to_them():
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(2, 1, name="conv")(inputs)
    x = layers.Add(name="add")([x, inputs])
    x = layers.Conv2D(3, 1, name="free")(x)
    found, pinned = classes(keras.Model(inputs, layers.Dense(1, name="logits")(x)))
    assert pinned == {*found["conv"], *found["logits"]}


def test_groups_are_alike_and_depthwise_outputs_are_those_of_their_input():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    x = layers.Conv2D(6, 1, groups=2, name="grouped")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    found, _ = classes(keras.Model(inputs, layers.Dense(1, name="logits")(x)))
    assert found["conv"] == [0, 1] * 2
    assert found["grouped"] == [2, 3, 4] * 2
    assert found["depthwise"] == [2, 2, 3, 3, 4, 4] * 2


def test_layers_that_read_nothing_but_inputs_are_first():
    inputs = keras.Input((4, 4, 3))
    x = layers.DepthwiseConv2D(1)(layers.Rescaling(2.0)(inputs))
    one = layers.Conv2D(2, 1, name="one")(x)
    other = layers.Conv2D(2, 1, name="other")(layers.Concatenate()([one, x]))
    channels = trace(keras.Model(inputs, layers.Dense(1, name="logits")(other)))
    assert {layer.name for layer in channels.firsts} == {"one"}
    assert [layer.name for layer in channels.owned] == ["one", "other", "logits"]
    assert np.array_equal(np.concatenate(list(channels.owned.values())), np.arange(3, 8))
