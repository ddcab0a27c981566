"""Quantizing whole models: what is placed where, what is kept, what is refused and how."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from equality import assert_same
from small_models import convnet, everything, images, randomize, train_step
from tf_keras import layers

import wrpn_tf
from wrpn_tf import Kind, Rule
from wrpn_tf.arithmetic.quantizer_state import ActivationState
from wrpn_tf.tfmot import scheme
from wrpn_tf.tfmot.saving import custom_objects

PAPER = {"first_last": "paper"}
FLOAT = {"weight_bits": 32, "activation_bits": 32, "first_last": "paper"}


def sequential(*stack, shape=(6, 6, 2)):
    return randomize(keras.Sequential([layers.InputLayer(shape, name="image"), *stack]))


def functional(shape, build):
    inputs = keras.Input(shape, name="image")
    return randomize(keras.Model(inputs, build(inputs)))


def quantizer_bits(model):
    """By layer name: (bits of the kernel, bits of the output), None for float."""
    return {
        layer.name.removeprefix("quant_"): (
            layer.kernel and layer.kernel.bits,
            _output_bits(model.get_layer(layer.name)),
        )
        for layer in wrpn_tf.view(model)
    }


def _output_bits(layer):
    quantizers = getattr(layer, "_output_quantizers", None) or [getattr(layer, "quantizer", None)]
    return quantizers[0] and quantizers[0].bits


def by_name(layer):
    return {weight.name.split("/")[-1]: weight.numpy() for weight in layer.weights}


def outputs_of(model, name, inputs):
    layer = model.get_layer(name)
    tensor = next(
        node.outputs
        for nodes in model._nodes_by_depth.values()
        for node in nodes
        if node.layer is layer
    )
    return keras.Model(model.inputs, tensor)(inputs).numpy()


@pytest.fixture(scope="module")
def quantized_everything():
    return wrpn_tf.quantize_model(everything(), 2, 4)


# Placement.


def test_sequential_and_functional_models():
    quantized = wrpn_tf.quantize_model(convnet(), 2, 4)
    expected = {
        "image": (None, None),
        "quantize_image": (None, 8),
        "conv1": (8, None),
        "bn1": (None, None),
        "relu1": (None, 4),
        "conv2": (2, None),
        "bn2": (None, None),
        "relu2": (None, 4),
        "conv3": (2, None),  # A ReLU without normalization behind it.
        "relu3": (None, None),  # The pooling owns the grid.
        "pool": (None, 8),
        "pool_flatten": (None, None),
        "logits": (8, 8),
    }
    assert quantizer_bits(quantized) == expected
    stack = keras.Sequential(convnet().layers)
    assert quantizer_bits(wrpn_tf.quantize_model(stack, 2, 4)) == expected


def test_the_papers_policy_quantizes_nothing_beyond_the_paper():
    quantized = wrpn_tf.quantize_model(convnet(), 2, 4, **PAPER)
    found = {name: bits for name, bits in quantizer_bits(quantized).items() if any(bits)}
    assert found == {
        "relu1": (None, 4),
        "conv2": (2, None),
        "relu2": (None, 4),
        "conv3": (2, None),
    }


def test_rules_reach_the_layers():
    rules = [Rule(name="conv2", weight_bits=5), Rule(name="relu1", activation_bits=3)]
    found = quantizer_bits(wrpn_tf.quantize_model(convnet(), 2, 4, rules))
    assert (found["conv2"][0], found["relu1"][1]) == (5, 3)


def test_a_convolution_before_a_relu_without_normalization_keeps_its_weight_quantizer():
    model = sequential(layers.Conv2D(3, 3, name="conv"), layers.ReLU(), layers.Conv2D(2, 1))
    quantized = wrpn_tf.quantize_model(model, 2, 2, rules=[Rule(name="conv", weight_bits=2)])
    view = {layer.name: layer for layer in wrpn_tf.view(quantized)}
    assert view["quant_conv"].kernel.bits == 2
    assert np.unique(view["quant_conv"].kernel.codes).tolist() == [-1, 0, 1]


def test_residual_sums_and_preactivation(quantized_everything):
    found = quantizer_bits(quantized_everything)
    assert found["shortcut"] == found["body"] == (2, 8)  # Operands of an addition.
    assert found["add"] == (None, 8)  # Read by batch normalization.
    assert found["preactivation"] == (None, None)  # One operator with its ReLU.
    assert found["standalone"] == (None, 8)


def test_both_inputs_of_an_addition_are_quantized(quantized_everything):
    found = quantizer_bits(quantized_everything)
    assert found["quantize_image"] == found["quantize_other"] == (None, 8)
    views = {layer.name: layer for layer in wrpn_tf.view(quantized_everything)}
    assert views["quant_sum_inputs"].inputs == ("quantize_image", "quantize_other")


def test_an_input_that_is_read_twice_is_quantized_once():
    def build(x):
        return layers.Add()([layers.Conv2D(2, 1)(x), x])

    quantized = wrpn_tf.quantize_model(functional((4, 4, 2), build), 2, 4)
    assert sum(layer.name == "quantize_image" for layer in wrpn_tf.view(quantized)) == 1


def test_average_pooling_has_a_grid_of_its_own_before_a_concatenation(quantized_everything):
    quantized = quantized_everything
    found = quantizer_bits(quantized)
    for name in ("average_valid", "average_same"):
        assert type(quantized.get_layer(name)).__name__ == "QuantizedAveragePooling2D"
        assert found[name] == (None, 4)
    assert found["concatenate"] == (None, 4)


@pytest.mark.parametrize("policy", ["integer", "paper"])
def test_branches_of_a_concatenation_leave_their_grid_to_it(policy):
    def build(x):
        x = layers.Conv2D(2, 1)(x)
        branches = [layers.ReLU(name=name)(layers.Conv2D(2, 1)(x)) for name in ("one", "two")]
        x = layers.Concatenate(name="join")(branches)
        x = layers.ReLU()(layers.Conv2D(2, 1)(x))
        return layers.Conv2D(2, 1)(x)

    found = quantizer_bits(
        wrpn_tf.quantize_model(functional((4, 4, 2), build), 2, 4, first_last=policy)
    )
    assert [found[name][1] for name in ("one", "two", "join")] == [None, None, 4]


ONE, TWO, LINEAR = layers.ReLU(0.25), layers.ReLU(), layers.Activation("linear")
SIX = layers.Activation("relu6")


@pytest.mark.parametrize(
    ("one", "two", "between", "grids", "maximum"),
    [
        (ONE, ONE, None, [None, None, 4], 0.25),
        (ONE, ONE, layers.MaxPooling2D, [None, None, 4], 0.25),
        (TWO, TWO, layers.MaxPooling2D, [None, None, 4], None),
        (ONE, TWO, layers.Flatten, [4, None, 4], None),
        (ONE, SIX, None, [4, None, 4], 6.0),
        # What follows may be larger than the maximum, and a kernel clips at the end of its grid.
        (ONE, LINEAR, None, [4, None, 8], None),
        (ONE, LINEAR, layers.MaxPooling2D, [4, None, 8], None),
        (TWO, LINEAR, layers.MaxPooling2D, [None, None, 8], None),
    ],
)
def test_a_relu_with_a_maximum_leaves_its_grid_to_what_clips_there(
    one, two, between, grids, maximum
):
    image = keras.Input((4, 4, 2))
    branches = []
    for name, activation in (("one", one), ("two", two)):
        layer = type(activation).from_config(activation.get_config() | {"name": name})
        branches.append(layer(layers.Conv2D(2, 1)(image)))
    branches = [between()(branch) if between else branch for branch in branches]
    joined = layers.Concatenate(name="join")(branches)
    quantized = wrpn_tf.quantize_model(keras.Model(image, joined), 2, 4)
    found = quantizer_bits(quantized)
    assert [found[name][1] for name in ("one", "two", "join")] == grids
    (joint,) = quantized.get_layer("quant_join")._output_quantizers
    assert getattr(joint, "maximum", None) == maximum


@pytest.mark.parametrize("join", [layers.Concatenate, layers.Maximum])
def test_a_maximum_clips_its_own_relu_and_no_other(join):
    image = keras.Input((4, 4, 2))
    branches = [
        layers.ReLU(maximum)(layers.Conv2D(2, 1, kernel_initializer="ones")(image))
        for maximum in (1.0, 6.0, None)
    ]
    quantized = wrpn_tf.quantize_model(
        keras.Model(image, join(name="join")(branches)), 8, 8, input_range=(0.0, 8.0)
    )
    pixels = np.full((1, 4, 4, 2), 8, np.float32)
    wrpn_tf.calibrate(quantized, pixels)
    wanted = [1, 1, 6, 6, 16, 16] if join is layers.Concatenate else [16, 16]
    np.testing.assert_allclose(quantized(pixels)[0, 0, 0], wanted, atol=16 / 255)


@pytest.mark.parametrize(
    ("first", "second", "last", "grids", "maxima"),
    [
        (0.25, 0.25, "relu", [None, None, 4, 4], [0.25, None]),
        (0.25, 0.25, "linear", [None, None, 4, 8], [0.25]),
        (0.25, None, "relu", [4, None, None, 4], [0.25, None]),
        (0.25, None, "linear", [4, None, None, 8], [0.25]),
        (0.25, 6.0, "relu6", [4, None, None, 4], [0.25, 6.0]),
        (0.25, 2.0, "relu6", [4, None, 4, 4], [0.25, 2.0, 6.0]),
    ],
)
def test_a_concatenation_of_relus_with_a_maximum_clips_before_another(
    first, second, last, grids, maxima
):
    image = keras.Input((4, 4, 2))
    one, two, three = (
        layer(layers.Conv2D(2, 1)(image))
        for layer in (
            *(layers.ReLU(first, name="one"), layers.ReLU(second, name="two")),
            layers.Activation(last),
        )
    )
    inner = layers.Concatenate(name="inner")([one, two])
    model = keras.Model(image, layers.Concatenate(name="outer")([inner, three]))
    quantized = wrpn_tf.quantize_model(model, 2, 4)
    names = ("one", "two", "inner", "outer")
    assert [quantizer_bits(quantized)[name][1] for name in names] == grids
    outputs = wrpn_tf.named_output_quantizers(quantized)
    found = [outputs[f"quant_{name}"][0] for name in names if f"quant_{name}" in outputs]
    assert [each.maximum for each in found if isinstance(each, ActivationState)] == maxima


def test_a_concatenation_without_a_grid_leaves_its_branches_theirs():
    """A linear branch has no k-bit grid by the paper; its neighbour keeps its own."""

    def build(x):
        x = layers.Conv2D(2, 1)(x)
        branches = [layers.ReLU(name="relu")(layers.Conv2D(2, 1)(x)), layers.Conv2D(2, 1)(x)]
        return layers.Conv2D(2, 1)(layers.Conv2D(2, 1)(layers.Concatenate(name="join")(branches)))

    found = quantizer_bits(
        wrpn_tf.quantize_model(functional((4, 4, 2), build), 2, 4, first_last="paper")
    )
    assert (found["relu"][1], found["join"][1]) == (4, None)


def test_an_output_of_the_model_has_a_grid_even_where_another_layer_reads_it():
    inputs = keras.Input((4, 4, 2), name="image")
    features = layers.Conv2D(2, 1, name="conv")(inputs)
    relu = layers.ReLU(name="relu")(features)
    logits = layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D(name="pool")(relu))
    model = randomize(keras.Model(inputs, [features, relu, logits]))
    found = quantizer_bits(wrpn_tf.quantize_model(model, 2, 4))
    assert found["conv"] == (8, 8)
    assert found["relu"] == (None, 8)
    assert found["pool"] == (None, 8)


@pytest.mark.parametrize(
    ("layer", "maximum"),
    [
        (layers.ReLU(name="relu"), None),
        (layers.ReLU(6.0, name="relu"), 6.0),
        (layers.ReLU(max_value=0.5, name="relu"), 0.5),
        (layers.Activation("relu6", name="relu"), 6.0),
        (layers.Activation(tf.nn.relu6, name="relu"), 6.0),
    ],
)
def test_the_clip_stays_within_a_bounded_relu(layer, maximum):
    model = sequential(layers.Conv2D(2, 1), layer, layers.Conv2D(2, 1), layers.Conv2D(2, 1))
    quantized = wrpn_tf.quantize_model(model, 2, 2)
    quantizer = quantized.get_layer("quant_relu")._output_quantizers[0]
    assert quantizer.maximum == maximum
    wrpn_tf.calibrate(quantized, [50 * images(model)])
    found = outputs_of(quantized, "quant_relu", 50 * images(model))
    assert found.max() <= (maximum or np.inf) * (1 + 1e-6)
    quantized.get_layer("quant_relu")._output_quantizer_vars["scale"].assign(100.0)
    found = outputs_of(quantized, "quant_relu", 500 * images(model))
    assert maximum is None or found.max() == np.float32(maximum / 3) * np.float32(3)


def test_a_clip_that_starts_at_its_bound_is_trained():
    model = sequential(layers.Conv2D(2, 1), layers.ReLU(0.5, name="relu"), layers.Conv2D(2, 1))
    quantized = wrpn_tf.quantize_model(model, 2, 2)
    scale = quantized.get_layer("quant_relu")._output_quantizer_vars["scale"]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(quantized(images(model)) ** 2)
    assert tape.gradient(loss, scale).numpy() != 0


# What is kept.


def test_every_supported_layer_computes_the_same_in_float():
    model = everything()
    quantized = wrpn_tf.quantize_model(model, **FLOAT)
    for actual, expected in zip(quantized(images(model)), model(images(model)), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
    assert not any(bits for pair in quantizer_bits(quantized).values() for bits in pair)


def test_every_supported_layer_is_quantized(quantized_everything):
    quantized = quantized_everything
    wrpn_tf.calibrate(quantized, [images(quantized)])
    view = wrpn_tf.view(quantized)
    # A use is of a layer that is called several times, which has tests of its own.
    assert {layer.kind for layer in view} == set(Kind) - {Kind.USE}
    assert all(layer.kernel is not None for layer in view if layer.kind is Kind.KERNEL)
    assert all(layer.grid is not None for layer in view if layer.observes)
    assert np.isfinite(np.sum(train_step(quantized, images(quantized))))


@pytest.mark.parametrize("bits", [8, 4])
def test_more_bits_come_closer_to_the_float_model(bits):
    model = convnet()
    quantized = wrpn_tf.quantize_model(model, bits, bits)
    wrpn_tf.calibrate(quantized, [images(model, 64)])
    # Calibration uses the statistics of the batch, so compare in training mode.
    error = quantized(images(model, 64), training=True) - model(images(model, 64), training=True)
    assert np.abs(error).max() < {8: 0.05, 4: 0.6}[bits]


def test_a_layer_with_the_name_of_a_wrapper_is_named():
    stack = layers.Conv2D(2, 3, name="a"), layers.MaxPooling2D(name="quant_a")
    with pytest.raises(ValueError, match="Layer 'a' would be called 'quant_a', as another"):
        wrpn_tf.quantize_model(sequential(*stack))


def test_nested_models_are_inlined(quantized_everything):
    quantized = quantized_everything
    assert not any(isinstance(layer, keras.Model) for layer in quantized.layers)
    assert quantizer_bits(quantized)["inner_conv"] == (2, None)


def test_trained_weights_and_statistics_are_kept_and_the_original_is_untouched():
    model = convnet()
    before = [weight.numpy() for weight in model.weights]
    quantized = wrpn_tf.quantize_model(model, 2, 4)
    new = {layer.name.removeprefix("quant_"): by_name(layer) for layer in quantized.layers}
    for layer in model.layers:
        for name, value in by_name(layer).items():
            assert_same(new[layer.name][name], value)
    train_step(quantized, images(model))
    for old, new in zip(before, model.weights, strict=True):
        assert_same(new, old)


def test_regularization_is_kept():
    def build(x):
        x = layers.Conv2D(2, 1, kernel_regularizer="l2", activation="relu")(x)
        x = layers.SeparableConv2D(
            2, 1, depthwise_regularizer="l2", pointwise_regularizer="l1", bias_regularizer="l2"
        )(x)
        return layers.Dense(2, kernel_regularizer="l2")(layers.Flatten()(x))

    model = functional((4, 4, 2), build)
    quantized = wrpn_tf.quantize_model(model, 2, 4)
    assert len(quantized.losses) == len(model.losses) == 5
    np.testing.assert_allclose(sum(quantized.losses), sum(model.losses), rtol=1e-6)


def test_several_uses_of_a_layer_without_weights_become_several_layers():
    def build(x):
        relu = layers.ReLU(name="relu")
        x = relu(layers.Conv2D(2, 1)(x))
        x = layers.ReLU(name="relu_2")(layers.Conv2D(2, 1)(x))
        return relu(layers.Conv2D(2, 1)(x))

    model = functional((4, 4, 2), build)
    quantized = wrpn_tf.quantize_model(model, **FLOAT)
    assert {"relu", "relu_2", "relu_3"} <= {layer.name for layer in quantized.layers}
    np.testing.assert_allclose(quantized(images(model)), model(images(model)), rtol=1e-5)


# Values.


@pytest.mark.parametrize(
    ("bits", "method"),
    [(1, "learned"), (2, "learned"), (8, "learned"), (2, "calibrated"), (1, "paper"), (3, "paper")],
)
def test_kernels_carry_exactly_their_bits(bits, method):
    quantized = wrpn_tf.quantize_model(convnet(), bits, 4, method=method)
    views = {layer.name: layer for layer in wrpn_tf.view(quantized)}
    for name, channels in (("quant_conv2", 4), ("quant_conv3", 4)):
        kernel = views[name].kernel
        limit = max(1, 2 ** (bits - 1) - 1)
        assert (kernel.bits, kernel.codes.dtype) == (bits, np.int32)
        assert np.abs(kernel.codes).max() <= limit
        assert kernel.scale.size == channels
        ((variable, quantizer, variables),) = quantized.get_layer(name)._weight_vars
        used = quantizer(tf.convert_to_tensor(variable), False, variables)
        assert_same(used, kernel.codes.astype(np.float32) * kernel.scale)
        rows = np.reshape(used, (-1, kernel.scale.size))
        assert max(len(np.unique(row)) for row in rows.T) <= (2 if bits == 1 else 2 * limit + 1)
        if method == "paper" and bits > 1:
            assert_same(kernel.scale, np.full_like(kernel.scale, 1 / limit))


@pytest.mark.parametrize(
    ("bits", "method", "limit"),
    [
        (1, "dorefa", 1),
        (2, "dorefa", 3),
        (7, "dorefa", 127),
        (1, "xnor", 1),
        (1, "dynamic", 1),
        (3, "dynamic", 3),
        (8, "dynamic", 127),
    ],
)
@pytest.mark.parametrize("per_channel", [True, False])
def test_statistics_give_kernels_their_scales(bits, method, limit, per_channel):
    model = convnet()
    quantized = wrpn_tf.quantize_model(
        model, bits, 4, weight_method=method, per_channel=per_channel
    )
    ((variable, quantizer, variables),) = quantized.get_layer("quant_conv2")._weight_vars
    kernel = next(v.kernel for v in wrpn_tf.view(quantized) if v.name == "quant_conv2")
    assert variables == {}
    assert kernel.scale.size == (4 if per_channel and method != "dorefa" else 1)
    assert np.abs(kernel.codes).max() <= limit
    used = tf.function(quantizer)(tf.convert_to_tensor(variable), False, variables)
    assert_same(used, kernel.codes.astype(np.float32) * kernel.scale)
    first = quantized.get_layer("quant_conv1").quantize_config.weight
    assert (first.bits, first.method) == (8, "dynamic" if method == "dynamic" else "learned")


def test_one_learned_scale_for_a_layer():
    quantized = wrpn_tf.quantize_model(convnet(), 2, 4, per_channel=False)
    kernel = next(v.kernel for v in wrpn_tf.view(quantized) if v.name == "quant_conv2")
    assert kernel.scale.size == 1


def test_pact_learns_its_clip():
    quantized = wrpn_tf.quantize_model(convnet(), 4, 4, activation_method="pact")
    wrpn_tf.calibrate(quantized, [images(quantized, 32)])
    clips = {w.name: w.numpy() for w in quantized.trainable_weights if "output_clip" in w.name}
    scales = [
        layer.grid.scale for layer in wrpn_tf.view(quantized) if layer.grid and "relu" in layer.name
    ]
    assert scales == [
        np.float32(clip) / np.float32(15) for clip in list(clips.values())[: len(scales)]
    ]
    train_step(quantized, images(quantized, 32) * 3)
    moved = [w.name for w in quantized.weights if w.name in clips and w.numpy() != clips[w.name]]
    assert moved


@pytest.mark.parametrize("method", ["learned", "calibrated", "paper"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_transposed_kernels_are_quantized_as_others(bits, method):
    """One scale for each output channel, which is the last axis but one."""
    kinds = (layers.Conv2D, layers.Conv2DTranspose)
    models = [functional((4, 4, 2), kind(5, 3, name="conv")) for kind in kinds]
    kernel, bias = (np.random.default_rng(bits).normal(0, 1, s) for s in ((3, 3, 2, 5), 5))
    kernels = []
    for model, values in zip(models, (kernel, kernel.swapaxes(2, 3)), strict=True):
        model.get_layer("conv").set_weights([values, bias])
        quantized = wrpn_tf.quantize_model(model, bits, 4, method=method, first_last="integer")
        kernels.append(next(v.kernel for v in wrpn_tf.view(quantized) if v.kernel))
    plain, transposed = kernels
    assert transposed.scale.shape == (1, 1, 5, 1)
    assert_same(transposed.codes.swapaxes(2, 3), plain.codes)
    assert_same(transposed.scale.swapaxes(2, 3), plain.scale)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_transposed_convolutions_learn(padding):
    def build(x):
        x = layers.Conv2D(4, 3, 2, padding="same", activation="relu", name="down")(x)
        x = layers.Conv2DTranspose(4, 3, 2, padding=padding, use_bias=False, name="up")(x)
        x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
        return layers.Conv2D(2, 1, name="head")(x)

    model = wrpn_tf.quantize_model(functional((4, 4, 2), build), 2, 4)
    inputs = images(model, 16)
    wrpn_tf.calibrate(model, [inputs])
    before = [weight.numpy() for weight in model.trainable_weights]
    losses = [train_step(model, inputs) for _ in range(10)]
    assert losses[-1] < losses[0]
    for old, weight in zip(before, model.trainable_weights, strict=True):
        assert np.any(old != weight.numpy()), weight.name


def test_dense_kernels_share_one_scale():
    quantized = wrpn_tf.quantize_model(convnet(), 2, 4)
    logits = next(layer for layer in wrpn_tf.view(quantized) if layer.name == "quant_logits")
    assert logits.kernel.scale.shape == (1, 1)


@pytest.mark.parametrize("bits", [1, 4])
def test_outputs_take_at_most_two_to_the_k_values(bits):
    quantized = wrpn_tf.quantize_model(convnet(), 2, bits)
    batch = images(quantized, 32)
    wrpn_tf.calibrate(quantized, [batch])
    for view in wrpn_tf.view(quantized):
        if view.grid is None:
            continue
        values = np.unique(outputs_of(quantized, view.name, batch))
        assert len(values) <= 2**view.grid.bits, view.name
        codes = np.rint(values / view.grid.scale)
        assert_same(codes.astype(np.float32) * np.float32(view.grid.scale), values)
        assert view.grid.low <= codes.min() <= codes.max() <= view.grid.high


def test_grids_as_int8_tensors():
    quantized = wrpn_tf.quantize_model(convnet(), 2, 4, input_range=(-1.890625, 2.09375))
    grids = {layer.name: layer.grid for layer in wrpn_tf.view(quantized)}
    assert (grids["quant_relu1"].zero_point, grids["quant_relu1"].high) == (112, 15)
    assert (grids["quantize_image"].scale, grids["quantize_image"].zero_point) == (1 / 64, -7)


# Training.


@pytest.mark.parametrize(
    ("method", "trained"), [("learned", True), ("calibrated", False), ("paper", False)]
)
def test_a_step_trains_kernels_and_only_learned_scales(method, trained):
    quantized = wrpn_tf.quantize_model(convnet(), 4, 4, method=method)
    wrpn_tf.calibrate(quantized, [images(quantized, 32)])
    before = {weight.name: weight.numpy() for weight in quantized.weights}
    train_step(quantized, images(quantized, 32))
    moved = {w.name: bool((before[w.name] != w.numpy()).any()) for w in quantized.weights}
    kernels = [name for name in moved if "scale" not in name and "kernel" in name]
    scales = [name for name in moved if "scale" in name]
    assert len(kernels) == 4
    assert len(scales) == 7
    assert all(moved[name] for name in kernels)
    assert [name for name in scales if moved[name] != trained] == []


def test_plain_compile_and_fit():
    quantized = wrpn_tf.quantize_model(convnet(), 2, 4)
    x = images(quantized, 64)
    y = (x.mean(axis=(1, 2, 3)) > 0).astype(int)
    quantized.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = quantized.fit(x, y, batch_size=16, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert_same(quantized.predict(x, verbose=0).argmax(1), quantized(x).numpy().argmax(1))


def test_batch_normalization_learns_its_statistics():
    quantized = wrpn_tf.quantize_model(convnet(), 2, 4)
    means = [w for w in quantized.weights if "moving" in w.name]
    before = [w.numpy() for w in means]
    train_step(quantized, images(quantized, 32))
    assert len(means) == 4
    assert all((w.numpy() != old).any() for w, old in zip(means, before, strict=True))


# Annotating some layers.


def annotated(**options):
    def build(x):
        x = layers.Conv2D(4, 3, activation="relu", name="plain")(x)
        x = wrpn_tf.quantize_annotate(
            layers.Conv2D(4, 3, activation="relu", name="marked"), **options
        )(x)
        x = layers.Conv2DTranspose(2, 3, activation="tanh", name="foreign")(x)
        return layers.Dense(2, activation="sigmoid", name="head")(layers.Flatten()(x))

    return functional((6, 6, 2), build)


def test_layers_without_annotation_stay_as_they_are():
    model = annotated(weight_bits=2, activation_bits=4)
    quantized = wrpn_tf.quantize_apply(model)
    found = {name: bits for name, bits in quantizer_bits(quantized).items() if any(bits)}
    assert found == {"marked": (2, None), "marked_relu": (None, 4)}
    for name in ("plain", "foreign", "head"):
        old, new = model.get_layer(name), quantized.get_layer(name)
        assert new.get_config() == old.get_config()
        for one, other in zip(old.get_weights(), new.get_weights(), strict=True):
            assert_same(other, one)


def test_annotation_with_32_bits_changes_nothing():
    model = annotated(weight_bits=32, activation_bits=32)
    quantized = wrpn_tf.quantize_apply(model)
    np.testing.assert_allclose(quantized(images(model)), model(images(model)), rtol=1e-5)


def test_annotated_layers_of_nested_models():
    inner = keras.Sequential(
        [wrpn_tf.quantize_annotate(layers.Conv2D(2, 1, name="conv"), 2, 4), layers.ReLU()]
    )
    inner.build((None, 4, 4, 2))
    quantized = wrpn_tf.quantize_apply(functional((4, 4, 2), inner))
    assert quantizer_bits(quantized)["conv"] == (2, None)


def test_an_integer_network_needs_every_layer_annotated():
    with pytest.raises(ValueError, match=r"without annotation: plain, foreign, .*head"):
        wrpn_tf.quantize_apply(annotated(), integer=True)


def test_annotating_a_layer_that_has_no_place_is_an_error():
    layer = layers.Conv2DTranspose(2, 3, dilation_rate=2, name="foreign")
    model = functional((4, 4, 2), wrpn_tf.quantize_annotate(layer))
    with pytest.raises(ValueError, match=r"foreign \(Conv2DTranspose: dilation_rate must be 1\)"):
        wrpn_tf.quantize_apply(model)


def test_a_model_without_annotations():
    with pytest.raises(ValueError, match="'convnet' has no annotated layers"):
        wrpn_tf.quantize_apply(convnet())


@pytest.mark.parametrize("where", ["planned", "get_quantize_config"])
def test_a_layer_that_loses_its_configuration_is_named(where, monkeypatch):
    plan = scheme.WRPNLayoutTransform.plan

    def forget(self, network, asked):
        network, planned = plan(self, network, asked)
        planned = dict(planned)  # What the scheme remembers stays whole.
        if where == "planned":
            del planned["conv2"]
        else:
            planned["conv2"] = wrpn_tf.WRPNQuantizeConfig()
        return network, planned

    monkeypatch.setattr(scheme.WRPNLayoutTransform, "plan", forget)
    with pytest.raises(RuntimeError, match="lost their quantizers: conv2"):
        wrpn_tf.quantize_model(convnet(), 2, 4)


@pytest.mark.parametrize("options", [{}, {"integer": True, "input_range": (-1.0, 1.0)}])
def test_tfmot_applies_the_scheme_to_the_same_layers(options):
    """TF-MOT's own `quantize_apply`, which builds several models, and ours, which builds one."""

    def build(x):
        x = wrpn_tf.quantize_annotate(layers.Conv2D(4, 3, activation="relu", name="conv"), 2, 4)(x)
        x = wrpn_tf.quantize_annotate(layers.GlobalAveragePooling2D(name="mean"))(x)
        return wrpn_tf.quantize_annotate(layers.Dense(2, name="head"), 2, 4)(x)

    model = functional((6, 6, 2), build)
    ours = wrpn_tf.quantize_apply(model, **options)
    with keras.utils.custom_object_scope(custom_objects()):
        theirs = tfmot.quantization.keras.quantize_apply(model, wrpn_tf.WRPNScheme(**options))
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        assert isinstance(one, type(other))
        assert one.get_config() == other.get_config()
        found, wanted = by_name(one), by_name(other)
        assert found.keys() == wanted.keys()
        for name in {"kernel:0", "bias:0"} & wanted.keys():
            assert_same(found[name], wanted[name])


# What is refused.


def test_layers_that_cannot_be_quantized_are_listed_in_one_error():
    def build(x):
        x = layers.Conv2DTranspose(2, 3, 2, output_padding=1, name="up")(x)
        x = layers.PReLU(name="trained_slope")(x)
        smooth = layers.UpSampling2D(3, interpolation="bilinear", name="smooth")
        x = keras.Sequential([smooth], name="inner")(x)
        x = layers.Conv2D(2, 1, activation="selu", name="selu_conv")(x)
        x = layers.Activation("gelu", name="gelu")(x)
        x = layers.ReLU(threshold=0.1, name="jump")(x)
        x = layers.Lambda(lambda t: t * 2, name="function")(x)
        x = tf.nn.relu(x) + tf.abs(x)
        x = layers.LayerNormalization(name="instance")(x)
        x = layers.BatchNormalization(axis=1, name="sideways")(x)
        return layers.Dense(2, name="blockwise")(layers.Reshape((30, 1, 30, 2))(x))

    with pytest.raises(ValueError, match="Layers that cannot be quantized") as error:
        wrpn_tf.quantize_model(functional((4, 4, 2), build))
    for text in (
        "up (Conv2DTranspose: output_padding must be None)",
        "trained_slope (PReLU: slopes for ",
        "smooth (UpSampling2D: bilinear factors (3, 3); TFLite is exact for powers of 2 up to 64",
        "selu_conv (Conv2D: activation 'selu')",
        "gelu (Activation: activation 'gelu')",
        "jump (ReLU: threshold must be 0",
        "function (Lambda: class)",
        "(TFOpLambda: operation 'math.abs')",
        "instance (LayerNormalization: class)",
        "sideways (BatchNormalization: ",
        "blockwise (Dense: Dense needs features, a sequence or images",
    ):
        assert text in str(error.value)


def test_operands_of_shapes_that_do_not_go_together_are_named():
    def build(x):
        row = layers.MaxPooling2D((4, 1), name="row")(x)
        return layers.Multiply(name="product")([x, layers.Add(name="sum")([x, row])])

    with pytest.raises(ValueError, match=r"sum \(Add: operands of shapes .*4, 4, 2.*1, 4, 2"):
        wrpn_tf.quantize_model(functional((4, 4, 2), build))


def test_a_subclass_of_a_supported_layer_is_not_supported():
    class Standardized(layers.Conv2D):
        pass

    with pytest.raises(ValueError, match=r"conv \(Standardized: class\)"):
        wrpn_tf.quantize_model(sequential(Standardized(2, 1, name="conv")))


def test_each_use_of_a_layer_has_an_output_quantizer():
    """Behind the layer, if that has weights: it has one kernel, of the most bits of all uses."""

    def build(x):
        shared, relu = layers.Conv2D(2, 1, name="shared"), layers.ReLU(name="relu")
        x = relu(shared(relu(shared(layers.Conv2D(2, 1, name="first")(x)))))
        return shared(layers.Conv2D(2, 1, name="between")(x))

    quantized = wrpn_tf.quantize_model(functional((4, 4, 2), build), 2, 4)
    views = {view.name: view for view in wrpn_tf.view(quantized)}
    assert [name for name, view in views.items() if view.observes] == [
        *("quantize_image", "quant_first", "quant_relu", "quant_relu_2", "quant_between"),
        "quant_shared_3_use",
    ]
    uses = [view for view in views.values() if view.layer is views["quant_shared"].layer]
    assert [(view.name, view.again) for view in uses] == [
        ("quant_shared", False),
        ("quant_shared_2", True),
        ("quant_shared_3", True),
    ]
    assert {view.kernel.bits for view in uses} == {8}
    assert views["quant_between"].kernel.bits == 2
    assert [layer.name for layer in quantized.layers].count("quant_shared") == 1


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Subclassed, "tf_keras.Model(inputs, outputs)"),
        (lambda: keras.Sequential([layers.Dense(2)]), "not built; give its first layer"),
        (lambda: "resnet", "not a Keras model; build it with `import keras` or"),
        (lambda: layers.Dense(2), "not a tf_keras model"),
    ],
)
@pytest.mark.parametrize("quantize", [wrpn_tf.quantize_model, wrpn_tf.quantize_apply])
def test_a_model_of_the_wrong_kind_gets_one_sentence(model, message, quantize):
    with pytest.raises(ValueError, match="Cannot quantize the") as error:
        quantize(model())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_quantized_model_is_not_quantized_again():
    with pytest.raises(ValueError, match="quant_conv1"):
        wrpn_tf.quantize_model(wrpn_tf.quantize_model(convnet()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "best"}, "method must be one of learned, calibrated, paper; got 'best'"),
        ({"weight_method": "pact"}, "weight_method must be one of .*; got 'pact'"),
        ({"activation_method": "xnor"}, "activation_method must be one of .*; got 'xnor'"),
        ({"weight_bits": 2, "weight_method": "xnor"}, "'xnor' is for 1 bit; got 2"),
        (
            {"weight_bits": 8, "weight_method": "dorefa"},
            r"'dorefa' is for 1 to 7 bits \(.* fit int8\); got 8",
        ),
        ({"first_last": "float"}, "got 'float'"),
        ({"weight_bits": 16}, "weight_bits .*; got 16"),
        ({"activation_bits": True}, "activation_bits .*; got True"),
        ({"input_range": (0.5, 1.0)}, r"must contain 0.*\(0.5, 1.0\)"),
        *(
            ({"input_range": value}, "input_range must contain 0: .*; got ")
            for value in (255, 0, (0,), (0, 1, 2), "01", (None, 1), ("a", "b"), {"image": (1, 2)})
        ),
        *(
            ({"input_range": value}, "input_range must contain 0: .*; got ")
            for value in ((0, 0), (1, 0), (0, np.nan), (0, np.inf), (-np.inf, 0), np.array([1, 2]))
        ),
        ({"rules": [Rule(name="absent", weight_bits=2)]}, "absent"),
        ({"rules": Rule(name="absent", weight_bits=2)}, "rules are a list of rules"),
        ({"rules": ["conv*"]}, "rules are a list of rules"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        wrpn_tf.quantize_model(convnet(), **options)


@pytest.mark.parametrize("options", [{"weight_bits": 0}, {"activation_bits": 9}, {"method": "x"}])
def test_invalid_annotations(options):
    with pytest.raises(ValueError, match=f"got {next(iter(options.values()))!r}"):
        wrpn_tf.quantize_annotate(layers.Dense(2), **options)


@pytest.mark.parametrize("value", [(0, 255), [0, 255], np.array([0, 255]), (0, np.float32(255))])
def test_an_input_range_is_any_pair(value):
    quantized = wrpn_tf.quantize_model(convnet(), input_range=value)
    (grid,) = (view.grid for view in wrpn_tf.view(quantized) if view.name.startswith("quantize_"))
    assert (grid.scale, grid.zero_point) == (1, -128)


# Import order.


@pytest.mark.parametrize("first", ["tensorflow", "keras"])  # The other tests: tf_keras first.
def test_import_order_does_not_matter(first):
    program = f"""
import {first}
import wrpn_tf, tf_keras, keras
layer = tf_keras.layers.Conv2D(2, 1, activation="relu", input_shape=(4, 4, 1))
quantized = wrpn_tf.quantize_model(tf_keras.Sequential([layer]), 2, 4)
assert isinstance(quantized, tf_keras.Model)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
assert isinstance(wrpn_tf.quantize_model(model, 2, 4), keras.Model)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
