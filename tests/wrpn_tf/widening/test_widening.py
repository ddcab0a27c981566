"""Widening: channels of every structure, the function that stays, fresh starts, and errors."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from small_models import everything, images, randomize
from tf_keras import layers

import wrpn_tf
from wrpn_tf import WidthRule, widen

FACTORS = (1.5, 2, 3)


def round_half_up(value: float) -> int:
    return int(value + 0.5)


def relative_difference(model, other) -> float:
    """Largest difference of the outputs, relative to the largest output."""
    inputs = images(model)
    outputs = (tf.nest.flatten(network(inputs, training=False)) for network in (model, other))
    return max(
        float(np.abs(one - two).max() / np.abs(one).max())
        for one, two in zip(*outputs, strict=True)
    )


def channels(model) -> dict[str, int]:
    """Filters, units or size of the last axis of each layer's output."""
    return {layer.name: layer.get_output_shape_at(0)[-1] for layer in model.layers[1:]}


def image(size=4, depth=3):
    return keras.Input((size, size, depth), name="image")


def head(inputs, x, name):
    """Pools, classifies in 5 classes, and gives every weight a random value."""
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return randomize(keras.Model(inputs, layers.Dense(5, name="logits")(x), name=name))


def chain():
    inputs = image()
    x = layers.Conv2D(4, 3, name="conv1")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Conv2D(6, 1, name="conv2")(x)
    return head(inputs, x, "chain"), {"conv1": 4, "bn": 4, "conv2": 6}


def shuffled():
    """Channel shuffles of layers and of operations, around grouped convolutions."""
    inputs = image()
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(inputs)
    x = layers.Reshape((4, 4, 2, 2), name="split")(x)
    x = layers.Reshape((4, 4, 4), name="joined")(layers.Permute((1, 2, 4, 3), name="turned")(x))
    x = layers.Conv2D(6, 1, groups=2, name="conv2")(x)
    x = tf.transpose(tf.reshape(x, [-1, 4, 4, 3, 2]), [0, 1, 2, 4, 3])
    x = layers.Conv2D(6, 1, groups=3, name="conv3")(tf.reshape(x, [-1, 4, 4, 6]))
    return head(inputs, x, "shuffled"), {
        "conv1": lambda factor: 4 * round_half_up(factor),
        "joined": lambda factor: 4 * round_half_up(factor),
        "conv2": lambda factor: 6 * round_half_up(factor),
        "conv3": lambda factor: round_half_up(2 * factor) * 3,
    }


def in_blocks():
    """Pixels to channels and back, parts of images, flips, activations that are layers."""
    inputs = image()
    x = layers.Conv2D(3, 3, padding="same", activation=layers.ReLU(6.0), name="conv1")(inputs)
    x = layers.Conv2D(8, 1, name="conv2")(tf.nn.space_to_depth(x, 2))
    x = tf.nn.depth_to_space(layers.LeakyReLU(name="leaky")(x), 2)
    x = layers.Conv2D(4, 1, name="conv3")(tf.image.flip_left_right(x[:, 1:]))
    return head(inputs, x, "in_blocks"), {
        "conv1": lambda factor: round_half_up(3 * factor),
        "conv2": lambda factor: 4 * round_half_up(2 * factor),
        "leaky": lambda factor: 4 * round_half_up(2 * factor),
        "conv3": 4,
    }


def one_filter():
    """A single channel before depthwise convolutions, whose kernels are [..., 1, multiplier]."""
    inputs = image()
    x = layers.Conv2D(1, 1, name="one")(inputs)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="depthwise")(x)
    y = layers.Conv2D(1, 1, name="other")(x)
    y = layers.SeparableConv2D(3, 3, padding="same", name="separable")(y)
    return head(inputs, y, "one_filter"), {
        "one": round_half_up,
        "depthwise": lambda factor: 2 * round_half_up(factor),
        "other": round_half_up,
        "separable": lambda factor: round_half_up(3 * factor),
    }


def residual():
    inputs = image()
    x = layers.Conv2D(4, 1, name="stem")(inputs)
    y = layers.Conv2D(8, 3, padding="same", name="body1")(x)
    y = layers.Conv2D(4, 3, padding="same", name="body2")(y)
    x = layers.Add(name="add")([x, y])
    return head(inputs, x, "residual"), {"stem": 4, "body1": 8, "body2": 4, "add": 4}


def concatenation():
    inputs = image()
    a = layers.Conv2D(4, 1, name="a")(inputs)
    b = layers.Conv2D(2, 3, padding="same", name="b")(inputs)
    x = layers.Concatenate(name="both")([a, b])
    x = layers.Conv2D(4, 1, name="after")(x)
    return head(inputs, x, "concatenation"), {"a": 4, "b": 2, "both": 6, "after": 4}


def concatenation_in_a_sum():
    inputs = image()
    a = layers.Conv2D(4, 1, name="a")(inputs)
    b = layers.Conv2D(2, 1, name="b")(inputs)
    c = layers.Conv2D(6, 1, name="c")(inputs)
    x = layers.Add(name="add")([layers.Concatenate(name="both")([a, b]), c])
    return head(inputs, x, "concatenation_in_a_sum"), {"a": 4, "b": 2, "c": 6, "add": 6}


def input_in_a_concatenation():
    inputs = image()
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    x = layers.Concatenate(name="both")([inputs, x])
    model = head(inputs, x, "input_in_a_concatenation")
    return model, {"conv": 4, "both": lambda factor: 3 + 4 * factor}


def spatial_concatenation():
    inputs = image()
    a = layers.Conv2D(4, 1, name="a")(inputs)
    b = layers.Conv2D(4, 1, name="b")(inputs)
    x = layers.Concatenate(axis=1, name="stacked")([a, b])
    return head(inputs, x, "spatial_concatenation"), {"a": 4, "b": 4, "stacked": 4}


def depthwise():
    inputs = image()
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=3, name="depthwise")(x)
    y = layers.Conv2D(12, 1, name="beside")(inputs)
    x = layers.Add(name="add")([x, y])
    return head(inputs, x, "depthwise"), {"conv": 4, "depthwise": 12, "beside": 12}


def separable():
    inputs = image()
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    x = layers.SeparableConv2D(6, 3, depth_multiplier=2, name="separable")(x)
    return head(inputs, x, "separable"), {"conv": 4, "separable": 6}


def grouped():
    inputs = image()
    x = layers.Conv2D(8, 1, name="conv")(inputs)
    x = layers.Conv2D(4, 3, groups=2, name="grouped")(x)
    return head(inputs, x, "grouped"), {"conv": 8, "grouped": 4}


def groups_of_one():
    inputs = image()
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    x = layers.Conv2D(8, 3, groups=4, name="grouped")(x)
    return head(inputs, x, "groups_of_one"), {"conv": 4, "grouped": 8}


def flattened():
    inputs = image()
    x = layers.Conv2D(2, 1, name="conv")(inputs)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(4, activation="relu", name="hidden")(x)
    outputs = layers.Dense(5, name="logits")(x)
    model = randomize(keras.Model(inputs, outputs, name="flattened"))
    return model, {"conv": 2, "flat": 32, "hidden": 4}


def unflattened():
    inputs = keras.Input((7,), name="code")
    x = layers.Dense(3 * 3 * 4, name="dense")(inputs)
    x = layers.Reshape((3, 3, 4), name="reshape")(x)
    x = layers.Conv2DTranspose(6, 3, strides=2, name="transposed")(x)
    return head(inputs, x, "unflattened"), {"dense": 36, "reshape": 4, "transposed": 6}


def squeeze_and_excitation():
    inputs = image()
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    s = layers.GlobalAveragePooling2D(name="squeeze")(x)
    s = layers.Reshape((1, 1, 4), name="reshape")(s)
    s = layers.Conv2D(2, 1, activation="relu", name="reduce")(s)
    s = layers.Conv2D(4, 1, activation="sigmoid", name="expand")(s)
    x = layers.Multiply(name="excite")([x, s])
    model = head(inputs, x, "squeeze_and_excitation")
    return model, {"conv": 4, "reshape": 4, "reduce": 2, "expand": 4, "excite": 4}


def attention_over_pixels():
    inputs = image()
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    gate = layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="gate")(x)
    x = layers.Multiply(name="gated")([x, gate])
    return head(inputs, x, "attention_over_pixels"), {"conv": 4, "gate": lambda factor: 1}


def operators():
    inputs = image()
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    x = x * (tf.nn.relu6(x + 3.0) / 6.0)  # hard swish
    y = layers.Conv2D(4, 1, name="beside")(inputs)
    return head(inputs, 1.0 - x + y, "operators"), {"conv": 4, "beside": 4}


def shared():
    one, other = keras.Input((4, 4, 3), name="one"), keras.Input((4, 4, 3), name="other")
    conv, bn = layers.Conv2D(4, 1, name="conv"), layers.BatchNormalization(name="bn")
    narrow = layers.Conv2D(4, 1, name="narrow")
    x, y = narrow(bn(conv(one))), narrow(bn(layers.Conv2D(4, 1, name="own")(other)))
    outputs = layers.Subtract(name="difference")([x, y])
    outputs = layers.Dense(5, name="logits")(layers.Flatten(name="flat")(outputs))
    model = randomize(keras.Model([one, other], outputs, name="shared"))
    return model, {"conv": 4, "own": 4, "narrow": 4}


def shared_by_sizes():
    """Layers without weights, called on maps of different sizes and channels."""
    inputs = image()
    flat, line = layers.Flatten(name="flat"), layers.Reshape((-1,), name="line")
    x = layers.Conv2D(4, 1, name="conv1")(inputs)
    y = layers.Conv2D(6, 1, name="conv2")(layers.MaxPooling2D(name="half")(x))
    both = [
        layers.Concatenate(name=name)([use(x), use(y)]) for name, use in (("a", flat), ("b", line))
    ]
    outputs = layers.Dense(5, name="logits")(layers.Add(name="add")(both))
    model = randomize(keras.Model(inputs, outputs, name="shared_by_sizes"))
    return model, {"conv1": 4, "conv2": 6}


def nested():
    inner = keras.Sequential(
        [
            layers.Conv2D(4, 1, input_shape=(4, 4, 4), name="conv"),
            layers.PReLU(shared_axes=(1, 2), name="prelu"),
        ],
        name="inner",
    )
    other = keras.Sequential([layers.Conv2D(4, 1, input_shape=(4, 4, 4), name="conv")])
    inputs = image()
    x = layers.Conv2D(4, 1, name="stem")(inputs)
    return head(inputs, other(inner(inner(x))), "nested"), {"conv": 4, "conv_2": 4, "prelu": 4}


def normalized_inputs():
    inputs = image()
    x = layers.Normalization(name="normalization")(inputs)
    x = layers.Rescaling([1.0, 2.0, 3.0], [0.1, 0.2, 0.3], name="rescaling")(x)
    x = layers.Rescaling(2.0, name="twice")(x)
    x = layers.Conv2D(4, 1, name="conv")(x)
    model = head(inputs, x, "normalized_inputs")
    model.get_layer("normalization").adapt(3 + 2 * images(model))
    return model, {"rescaling": lambda factor: 3, "conv": 4}


def channels_as_positions():
    inputs = image()
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    s = layers.Reshape((4, 1), name="line")(layers.GlobalAveragePooling2D(name="squeeze")(x))
    s = layers.Conv1D(1, 3, padding="same", activation="sigmoid", name="attention")(s)
    x = layers.Multiply(name="excite")([x, layers.Reshape((1, 1, -1), name="back")(s)])
    # The four channels are alike, and of one channel a real factor leaves a whole number.
    whole = np.round
    model = head(inputs, x, "channels_as_positions")
    return model, {"conv": lambda factor: 4 * whole(factor), "attention": whole}


STRUCTURES = [
    chain,
    shuffled,
    in_blocks,
    residual,
    concatenation,
    concatenation_in_a_sum,
    input_in_a_concatenation,
    spatial_concatenation,
    depthwise,
    separable,
    grouped,
    groups_of_one,
    flattened,
    unflattened,
    squeeze_and_excitation,
    attention_over_pixels,
    operators,
    shared,
    shared_by_sizes,
    nested,
    normalized_inputs,
    channels_as_positions,
    one_filter,
]


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_structure(structure, factor):
    model, expected = structure()
    widened = widen(model, factor)
    assert relative_difference(model, widened) < 1e-5
    actual = channels(widened)
    for name, count in expected.items():
        assert actual[name] == (count(factor) if callable(count) else count * factor), name
    assert widened.output_shape == model.output_shape
    assert widened.input_shape == model.input_shape


def test_the_original_is_left_alone():
    model, _ = residual()
    before = model.get_weights()
    widen(model, 2)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_every_supported_structure_at_once():
    model = everything()
    widened = widen(model, 1.5)
    assert relative_difference(model, widened) < 1e-5
    assert widened.count_params() > 1.9 * model.count_params()


def test_channels_are_repeated_in_their_place_and_share_sums():
    model, _ = chain()
    widened = widen(model, 1.5, noise=0)
    conv1, conv2 = widened.get_layer("conv1"), widened.get_layer("conv2")
    kernel, bias = model.get_layer("conv1").get_weights()
    copies = [0, 1, 1, 2, 3, 3]
    assert np.array_equal(conv1.kernel, kernel[..., copies])
    assert np.array_equal(conv1.bias, bias[copies])
    for weight, old in zip(
        widened.get_layer("bn").get_weights(), model.get_layer("bn").get_weights(), strict=True
    ):
        assert np.array_equal(weight, old[copies])
    kernel = model.get_layer("conv2").kernel.numpy()
    shares = np.float32([1, 0.5, 0.5, 1, 0.5, 0.5])[:, None]
    copied = [0, 1, 1, 2, 3, 3, 4, 5, 5]
    assert np.array_equal(conv2.kernel, (kernel[..., copies, :] * shares)[..., copied])


def test_noise_moves_shares_and_keeps_sums():
    model, _ = chain()
    equal, noisy = widen(model, 2, noise=0), widen(model, 2, noise=0.5, seed=1)
    one, other = (network.get_layer("conv2").kernel.numpy() for network in (equal, noisy))
    assert (one != other).all()
    sums = other.reshape(1, 1, 4, 2, 12).sum(axis=3)
    np.testing.assert_allclose(
        sums, model.get_layer("conv2").kernel.numpy()[..., np.repeat(range(6), 2)], rtol=1e-5
    )
    again = widen(model, 2, noise=0.5, seed=1)
    assert np.array_equal(again.get_layer("conv2").kernel, other)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (lambda: layers.Conv2D(6, 3, name="last"), 2),
        (lambda: layers.Conv2DTranspose(6, 3, name="last"), 3),
        (lambda: layers.SeparableConv2D(40, 1, name="last"), 2),
        (lambda: layers.Dense(40, name="last"), 0),
    ],
    ids=["convolution", "transposed", "separable", "dense"],
)
def test_noise_is_drawn_anew_for_each_weight(layer, inputs):
    """For each output, position and channel: a pair of copies has +d and -d of its own."""
    start, last = image(), layer()
    x = layers.Conv2D(4, 1, name="wide")(start)
    x = layers.GlobalAveragePooling2D()(x) if type(last) is layers.Dense else x
    model = randomize(keras.Model(start, last(x)))
    equal, noisy = (
        widen(model, 2, noise=noise, seed=3).get_layer("last").weights[-2].numpy()
        for noise in (0, 0.5)
    )
    assert equal.shape[inputs] == 8
    moved = np.moveaxis(noisy / equal - 1, inputs, 0)
    one, other = moved[::2], moved[1::2]
    np.testing.assert_allclose(one, -other, atol=1e-6)
    for axis in range(one.ndim):
        neighbours = np.abs(np.diff(one, axis=axis))
        assert neighbours.min(initial=1) > 1e-6, axis
    # A draw less the mean of two: 0.5 * sqrt(1 - 1/2).
    assert one.std() == pytest.approx(0.354, rel=0.15)


@pytest.mark.parametrize("noise", [0, 0.1])
def test_copies_part_in_training_where_there_is_noise(noise):
    model, _ = chain()
    widened = widen(model, 2, noise=noise, seed=0)
    widened.compile(keras.optimizers.SGD(0.1), "mse")
    widened.train_on_batch(images(widened), np.ones((4, 5)))
    kernel = widened.get_layer("conv1").kernel.numpy()
    assert np.array_equal(kernel[..., ::2], kernel[..., 1::2]) == (noise == 0)


@pytest.mark.parametrize("width", [0.25, 0.5, 1.3, 2])
@pytest.mark.parametrize("arch", ["resnet8", "digits_cnn"])
def test_a_fresh_network_is_the_builders_at_that_width(arch, width):
    def build(width):
        shape = (16, 16, 3)
        return wrpn_tf.models.build(
            arch, width=width, num_classes=10, input_shape=shape, front="tf_keras"
        )

    base = build(1)
    widened, expected = widen(base, width, initialization="fresh"), build(width)
    assert [(w.name, w.shape) for w in widened.weights] == [
        (w.name, w.shape) for w in expected.weights
    ]
    assert [w.name for w in widened.trainable_weights] == [
        w.name for w in expected.trainable_weights
    ]


def test_a_fresh_network_is_initialized_at_its_own_width():
    inputs = image(1, 1)
    x = layers.Conv2D(400, 1, kernel_initializer="he_normal", name="conv1")(inputs)
    x = layers.Conv2D(100, 1, kernel_initializer="he_normal", name="conv2")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    kernel = widen(model, 4, initialization="fresh").get_layer("conv2").kernel.numpy()
    assert kernel.std() == pytest.approx((2 / 1600) ** 0.5, rel=0.05)


def test_a_fresh_network_keeps_the_statistics_of_its_inputs():
    model, _ = normalized_inputs()
    widened = widen(model, 2, initialization="fresh")
    one, other = (network.get_layer("normalization") for network in (model, widened))
    assert all(np.array_equal(a, b) for a, b in zip(one.weights, other.weights, strict=True))


def test_inference_in_a_call_of_a_nested_model_stays():
    inner_in = image()
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(4, 1, name="conv")(inner_in))
    inner = keras.Model(inner_in, x, name="inner")
    inputs = image()
    model = head(inputs, inner(inputs, training=False), "calls")
    expected, found = (
        network(images(model), training=True) for network in (model, widen(model, 2))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_shared_layers_stay_shared():
    model, _ = shared()
    widened = widen(model, 2)
    assert len(widened.get_layer("narrow").inbound_nodes) == 2
    assert len(widened.weights) == len(model.weights)


def test_first_layers_can_keep_their_width():
    model, _ = residual()
    kept = channels(widen(model, 2, first_layer="keep"))
    assert (kept["stem"], kept["body1"], kept["body2"]) == (4, 16, 4)
    model, _ = depthwise()
    kept = channels(widen(model, 2, first_layer="keep"))
    assert (kept["conv"], kept["depthwise"], kept["beside"]) == (4, 12, 12)


def test_a_rule_for_one_layer_is_for_all_that_are_added_to_it():
    model, _ = residual()
    widened = channels(widen(model, 2, [WidthRule(name="body2", factor=3)], first_layer="keep"))
    assert (widened["stem"], widened["body1"], widened["body2"]) == (12, 16, 12)


def test_the_first_matching_rule_wins():
    model, _ = chain()
    rules = [WidthRule(name="conv2", factor=1), WidthRule(layer_class=layers.Conv2D, factor=4)]
    widened = channels(widen(model, 2, rules))
    assert (widened["conv1"], widened["conv2"]) == (16, 6)


@pytest.mark.parametrize("initialization", ["preserve", "fresh"])
def test_a_layer_of_an_unknown_class_can_be_kept(initialization):
    inputs = image()
    x = layers.Conv2D(4, 1, name="conv1")(inputs)
    x = layers.LocallyConnected2D(6, 1, name="local")(x)
    x = layers.Conv2D(4, 1, name="conv2")(x)
    model = head(inputs, x, "unknown")
    with pytest.raises(ValueError, match=r"local \(LocallyConnected2D: the class is not known"):
        widen(model, 2)
    with pytest.raises(ValueError, match=r"local \(LocallyConnected2D: the class is not known"):
        widen(model, 2, [WidthRule(name="local", factor=2)])
    rules = [WidthRule(name="local", factor=1)]
    widened = widen(model, 2, rules, initialization=initialization)
    assert channels(widened) | {"conv1": 4, "local": 6, "conv2": 8} == channels(widened)
    assert (relative_difference(model, widened) < 1e-5) == (initialization == "preserve")


@pytest.mark.parametrize("layer", ["layer", "group"])
def test_statistics_over_channels_need_equal_copies(layer):
    normalization = {
        "layer": layers.LayerNormalization(name="norm"),
        "group": layers.GroupNormalization(2, name="norm"),
    }[layer]
    inputs = image()
    x = layers.Conv2D(8, 1, name="conv")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(normalization(x))
    model = head(inputs, x, "statistics")
    assert relative_difference(model, widen(model, 2)) < 1e-5
    with pytest.raises(ValueError, match=r"norm \(\w+Normalization\) has statistics over channels"):
        widen(model, 1.5)
    assert channels(widen(model, 1.5, initialization="fresh"))["norm"] == 12


def test_softmax_over_copies_is_refused():
    inputs = image()
    x = layers.Conv2D(4, 1, activation="softmax", name="mixture")(inputs)
    model = head(inputs, layers.Conv2D(4, 1, name="conv")(x), "softmax")
    with pytest.raises(ValueError, match=r"mixture \(Conv2D\) shares a sum out"):
        widen(model, 2)
    rules = [WidthRule(name="mixture", factor=1)]
    assert relative_difference(model, widen(model, 2, rules)) < 1e-5


def test_all_layers_that_cannot_be_widened_are_named():
    inputs = image()
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    x = layers.Lambda(lambda x: x, name="custom")(x)
    x = layers.Permute((3, 1, 2), name="permute")(x)
    x = layers.BatchNormalization(axis=1, name="bn")(x)
    x = layers.Conv2D(4, 1, activation=lambda x: x, name="activated")(x)
    x = tf.pow(tf.roll(x, 1, 2), [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(ValueError) as error:
        widen(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))), 2)
    for part in (
        "custom (Lambda: the class is not known)",
        "permute (Permute: it moves the channels to another axis)",
        "bn (BatchNormalization: it must normalize over the last axis alone)",
        "activated (Conv2D: activation '<lambda>' is not known to be elementwise)",
        "(TFOpLambda: the function tf.roll is not known to be elementwise)",
        "(TFOpLambda: one of its arguments is a constant for each channel)",
        "keep them and the channels that they read with WidthRule(name=..., factor=1)",
    ):
        assert part in str(error.value)


def test_a_layer_that_moves_channels_can_be_kept():
    inputs = image()
    x = layers.Conv2D(4, 1, name="conv1")(inputs)
    x = layers.Permute((3, 1, 2), name="permute")(x)
    model = head(inputs, layers.Conv2D(4, 1, name="conv2")(x), "permuted")
    widened = widen(model, 2, [WidthRule(name="permute", factor=1)])
    assert channels(widened) | {"conv1": 4, "conv2": 8} == channels(widened)
    assert relative_difference(model, widened) < 1e-5


def test_channels_first_can_only_be_kept():
    inputs = keras.Input((3, 4, 5))
    x = layers.Conv2D(7, 1, data_format="channels_first", name="conv")(inputs)
    x = layers.Dense(3, name="dense")(x)
    model = keras.Model(inputs, layers.Dense(2, name="logits")(x))
    with pytest.raises(ValueError, match=r"conv \(Conv2D: data_format must be channels_last\)"):
        widen(model, 2)
    widened = widen(model, 2, [WidthRule(name="conv", factor=1)])
    assert widened.get_layer("conv").get_config() == model.get_layer("conv").get_config()
    assert widened.get_layer("dense").units == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 0.2}, "factor must be a number of at least 0.25; got 0.2"),
        ({"factor": "2"}, "factor must be a number of at least 0.25; got '2'"),
        ({"factor": float("nan")}, "factor must be a number of at least 0.25; got nan"),
        ({"initialization": "net2net"}, "initialization must be 'preserve' or 'fresh'"),
        ({"first_layer": True}, "first_layer must be 'widen' or 'keep'; got True"),
        ({"noise": -1}, "noise must be between 0 and 1; got -1"),
        ({"noise": 1.5}, "noise must be between 0 and 1; got 1.5"),
        ({"factor": 0.5}, "cannot preserve the function: stem has fewer channels than before"),
        ({"rules": [WidthRule(name="add", factor=2)]}, r"decide for no layer .*name='add'"),
        (
            {"rules": [WidthRule(name="l*", factor=2)]},
            r"name='l\*'.* cannot widen logits: the model's outputs keep their channels",
        ),
        (
            {"rules": [WidthRule(name="stem", factor=2), WidthRule(name="body2", factor=3)]},
            "factor=3.* gives body2 another width than .*factor=2.* gives stem, but their",
        ),
    ],
)
def test_invalid_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        widen(residual()[0], **({"factor": 2} | arguments))


def test_models_that_are_not_graphs():
    with pytest.raises(ValueError, match=r"Cannot widen the .*Sequential: it is not built"):
        widen(keras.Sequential([layers.Dense(2)]), 2)


def test_quantized_models_are_refused():
    quantized = wrpn_tf.quantize_model(residual()[0])
    with pytest.raises(ValueError, match="is quantized already; widen the float model"):
        widen(quantized, 2)


def test_a_widened_network_can_be_quantized():
    model, _ = residual()
    widened = widen(model, 2)
    quantized = wrpn_tf.quantize_model(widened, 8, 8)
    wrpn_tf.calibrate(quantized, [images(model)])
    assert relative_difference(model, quantized) < 0.1


def test_mobilenet_v2():
    model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=10)
    randomize(model)
    assert relative_difference(model, widen(model, 1.5)) < 1e-4


def random_network(seed: int) -> keras.Model:
    """A graph of up to ten operations on 4x4 pixels, each on random earlier results."""
    random = np.random.default_rng(seed)
    inputs = image()
    tensors = [layers.Conv2D(4, 1)(inputs)]

    def choose():
        return tensors[random.integers(len(tensors))]

    def alike(x):
        return [y for y in tensors if y.shape[-1] == x.shape[-1]]

    operations = [
        lambda x: layers.Conv2D(int(random.integers(2, 9)), 3, padding="same")(x),
        lambda x: layers.Conv2D(2 * x.shape[-1], 1, groups=2 - x.shape[-1] % 2)(x),
        lambda x: layers.SeparableConv2D(6, 3, padding="same", depth_multiplier=2)(x),
        lambda x: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x),
        lambda x: layers.BatchNormalization()(layers.ReLU()(x)),
        lambda x: layers.Concatenate()([x, choose()]),
        lambda x: layers.Add()([x, *alike(x)]),
        lambda x: layers.Multiply()([x, layers.Conv2D(x.shape[-1], 1)(choose())]),
        lambda x: x + layers.GlobalAveragePooling2D(keepdims=True)(x),
        lambda x: layers.Reshape((4, 4, -1))(layers.Dense(32)(layers.Flatten()(x))),
    ]
    for _ in range(random.integers(3, 10)):
        tensors.append(operations[random.integers(len(operations))](choose()))
    return head(inputs, layers.Concatenate()([tensors[-1], choose()]), f"random_{seed}")


# Every example builds two networks: shrinking one that fails takes longer than reading it.
@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(seed=st.integers(0, 10_000), factor=st.sampled_from([1, 1.25, 1.5, 2, 2.7, 3]))
def test_the_function_of_random_networks_stays(seed, factor):
    model = random_network(seed)
    assert relative_difference(model, widen(model, factor, seed=seed)) < 1e-4
