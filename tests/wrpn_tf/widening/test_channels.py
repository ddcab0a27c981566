"""Which channels are tied to which, and which are pinned."""

import numpy as np
import pytest
import tensorflow as tf
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


def test_blocks_of_pixels_are_positions():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(2, 1, name="conv1")(inputs)
    x = layers.Conv2D(8, 1, name="conv2")(tf.nn.space_to_depth(x, 2))
    x = tf.nn.depth_to_space(x, 2)
    found, _ = classes(keras.Model(inputs, layers.Dense(1, name="logits")(x)))
    packed, unpacked = (layouts for name, layouts in found.items() if name.startswith("tf."))
    assert packed == found["conv1"] * 4 == [0, 1] * 4
    assert found["conv2"] == [2, 3] * 4
    assert unpacked == [2, 3]


def test_concatenations_by_axis():
    inputs = keras.Input((4, 4, 3))
    a, b = (layers.Conv2D(2, 1, name=name)(inputs) for name in "ab")
    x = layers.Flatten()(layers.Concatenate(axis=2, name="wide")([a, b]))
    c, d = (layers.Dense(2, name=name)(x) for name in "cd")
    found, _ = classes(
        keras.Model(inputs, layers.Dense(1)(layers.Concatenate(axis=1, name="both")([c, d])))
    )
    assert found["a"] == found["b"] == found["wide"] == [0, 1]
    assert found["both"] == found["c"] + found["d"]
    assert len(set(found["both"])) == 4


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (lambda x: x[..., :1], 1),
        (lambda x: tf.stack([x, x, x], axis=-1), 3),
        (lambda x: layers.Rescaling([1.0, 2.0])(x), 2),
        (lambda x: layers.Lambda(lambda y: y + 1)(x), 2),
    ],
    ids=["slice", "stack", "line", "unknown"],
)
def test_layers_that_keep_what_they_read_and_what_they_return(build, size):
    inputs = keras.Input((4, 4, 3))
    x = build(layers.Conv2D(2, 1, name="conv")(inputs))
    channels = trace(keras.Model(inputs, layers.Dense(1)(layers.Flatten()(x))))
    (at,) = (i for i, call in enumerate(channels.calls) if call.layer.name == "conv")
    conv, keeping = channels.calls[at : at + 2]
    assert len(keeping.outputs[0]) == size
    for layout in (*conv.outputs, *keeping.outputs):
        assert set(channels.classes[layout]) <= set(channels.pinned)


def test_parts_of_images_keep_no_channels():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(2, 1, name="conv")(inputs)[:, 1:]
    found, pinned = classes(keras.Model(inputs, layers.Dense(1, name="logits")(x)))
    assert pinned == set(found["logits"])


def test_groups_of_a_normalization_are_alike():
    inputs = keras.Input((4, 4, 3))
    x = layers.GroupNormalization(2)(layers.Conv2D(4, 1, name="conv")(inputs))
    found, _ = classes(keras.Model(inputs, layers.Dense(1)(x)))
    assert found["conv"] == [0, 1] * 2


@pytest.mark.parametrize("build", [layers.BatchNormalization, lambda: layers.DepthwiseConv2D(1)])
def test_what_a_layer_reads_twice_has_one_width(build):
    inputs, shared = keras.Input((4, 4, 3)), build()
    a, b = (shared(layers.Conv2D(2, 1, name=name)(inputs)) for name in "ab")
    found, _ = classes(keras.Model(inputs, layers.Dense(1)(layers.Concatenate()([a, b]))))
    assert found["a"] == found["b"] == [0, 1]


def test_shuffles_with_one_permutation_have_one_width():
    inputs, turned = keras.Input((4, 4, 3)), layers.Permute((1, 2, 4, 3))
    both = []
    for name in "ab":
        x = layers.Reshape((4, 4, 2, 2))(layers.Conv2D(4, 1, name=name)(inputs))
        both.append(layers.Reshape((4, 4, 4))(turned(x)))
    found, _ = classes(keras.Model(inputs, layers.Dense(1)(layers.Concatenate()(both))))
    assert found["a"] == found["b"] == [0] * 4


def test_the_first_reason_is_told():
    inputs = keras.Input((4, 4, 2))
    x = layers.Rescaling([1.0, 2.0], name="line")(layers.Add()([inputs, inputs]))
    channels = trace(keras.Model(inputs, layers.Conv2D(1, 1)(x)))
    assert [channels.pinned[i] for i in (0, 1)] == ["the model's inputs keep their channels"] * 2
