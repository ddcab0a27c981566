"""Settling of the scales of kernels without a bias."""

import numpy as np
import pytest
import small_networks
import tf_keras as keras
from tf_keras import layers
from trained_layers import clearance, needed_clearance

import export
import wrpn_tf
from export.ir.graph import IntegerGraph
from export.ir.operators import Weighted
from export.verification import checks

CHANNELS = 16


KERNEL_SETS = {
    "convolution": lambda: layers.Conv2D(CHANNELS, 1, use_bias=False, name="bare"),
    "grouped": lambda: layers.Conv2D(CHANNELS, 1, groups=2, use_bias=False, name="bare"),
    "depthwise": lambda: layers.DepthwiseConv2D(
        3, padding="same", depth_multiplier=2, use_bias=False, name="bare"
    ),
    "transposed": lambda: layers.Conv2DTranspose(CHANNELS, 1, use_bias=False, name="bare"),
}


def network(seed: int, kind: str = "convolution", **options: object) -> keras.Model:
    """A kernel without a bias before a sum; half its channels meet their thresholds.

    One step of the accumulator is half an output code, give or take what float32 rounds, in every
    channel with an even index.
    """
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(image)
    one = KERNEL_SETS[kind]()(x)
    other = layers.Conv2D(CHANNELS, 1, name="other")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Add(name="sum")([one, other]))
    model = keras.Model(image, layers.Dense(3, name="logits")(x))
    small_networks.randomize(model, seed)
    model = small_networks.quantize(model, seed, activation_bits=2, **options)
    quantizer, kernel, variables = wrpn_tf.named_kernel_quantizers(model)["quant_bare"]
    graph, operator = bare(model)
    names = (operator.inputs[0], "bare")
    source, output = (graph.tensors[name].quantization for name in names)
    _, scale = quantizer.codes(kernel.numpy(), variables)
    half = 0.5 * output.scale / source.scale / scale
    tied = np.where(np.arange(scale.size).reshape(scale.shape) % 2, 1.0, half)
    quantizer.rescale(kernel, variables, tied.astype(np.float32))
    return model


def bare(model: keras.Model) -> tuple[IntegerGraph, Weighted]:
    """The graph, and the operator of the kernel without a bias."""
    graph = export.realize(export.lower(model), split_groups=False)
    (operator,) = (operator for operator in graph.operators if operator.output == "bare")
    return graph, operator


def narrow(model: keras.Model) -> int:
    """How many channels have thresholds that float32 might not tell from an accumulator."""
    graph, operator = bare(model)
    return int((clearance(graph, operator) < needed_clearance(graph, operator)).sum())


def kernel(model: keras.Model) -> wrpn_tf.KernelCodes:
    (found,) = (view.kernel for view in wrpn_tf.view(model) if view.name == "quant_bare")
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"weight_bits": 2},
        {"weight_bits": 2, "kind": "grouped"},
        {"weight_bits": 3, "kind": "depthwise"},
        {"weight_bits": 3, "kind": "transposed"},
        {"weight_bits": 3, "weight_method": "calibrated"},
        {"weight_bits": 2, "weight_method": "dynamic"},
        {"weight_bits": 1},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
@pytest.mark.parametrize("seed", range(2))
def test_no_threshold_is_left_next_to_an_accumulator(seed: int, options: dict) -> None:
    model = network(seed, **options)
    before = kernel(model)
    assert narrow(model) > 0
    export.settle(model)
    graph, after = export.realize(export.lower(model)), kernel(model)
    assert narrow(model) == 0
    assert graph.provenance.inexact_channels["bare"]["xnnpack"] == 0
    assert np.array_equal(after.codes, before.codes)
    change = np.abs(after.scale / before.scale - 1)
    assert 0 < change.max() <= 2.0**-10 * 1.001
    images = small_networks.codes(model, 64, seed)
    rows = checks.compare_with_keras(model, graph, export.to_tflite(model), images)
    assert rows["bare"].different == 0

    export.settle(model)
    assert np.array_equal(kernel(model).scale, after.scale)


def test_scales_move_by_at_most_a_1024th() -> None:
    """20,000 accumulators in the range of the output: about one scale in 200 gives them room."""
    image = keras.Input((2, 2, 32), name="image")
    model = keras.Model(image, layers.Conv2D(48, 1, use_bias=False, name="bare")(image))
    small_networks.randomize(model, 0)
    rules = [wrpn_tf.Rule(name="bare", weight_bits=4)]
    model = small_networks.quantize(model, 0, activation_bits=8, rules=rules)
    quantizer, variable, variables = wrpn_tf.named_kernel_quantizers(model)["quant_bare"]
    graph, operator = bare(model)
    source, output = (graph.tensors[name].quantization for name in ("image", "bare"))
    step = operator.kernel_scale * operator.code_multiplier * source.scale / output.scale
    wanted = np.random.default_rng(0).uniform(0.012, 0.013, 48)  # Output codes.
    quantizer.rescale(variable, variables, (wanted / step).astype(np.float32).reshape(1, 1, 1, -1))

    before = kernel(model)
    assert narrow(model) > 30
    export.settle(model)
    after = kernel(model)
    assert narrow(model) == 0
    assert np.array_equal(after.codes, before.codes)
    change = np.abs(after.scale / before.scale - 1)
    assert 2.0**-11 < change.max() <= 2.0**-10 * 1.001


@pytest.mark.parametrize(
    "options",
    [{"weight_method": "paper"}, {"per_channel": False}, {"weight_method": "dorefa"}],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_scales_that_are_not_each_channels_own_stay(options: dict) -> None:
    model = network(0, weight_bits=2, **options)
    quantizer, _, _ = wrpn_tf.named_kernel_quantizers(model)["quant_bare"]
    assert not quantizer.has_free_scale
    before = kernel(model)
    export.settle(model)
    assert np.array_equal(kernel(model).scale, before.scale)
    assert np.array_equal(kernel(model).codes, before.codes)
