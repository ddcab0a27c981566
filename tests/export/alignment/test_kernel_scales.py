"""Settling of the scales of kernels without a bias."""

import numpy as np
import pytest
import small_networks
import tf_keras as keras
from tf_keras import layers

import export
import wrpn_tf
from export.alignment.bias_candidates import threshold_margin
from export.alignment.kernel_scales import MOST_CHANGE, distance
from export.ir.operators import Weighted
from export.kernel_sets import ideal
from export.realization.accumulator_range import AccumulatorRange, accumulated_codes
from export.realization.context import RequantizationContext
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
    _, context = bare(model)
    _, scale = quantizer.codes(kernel.numpy(), variables)
    half = 0.5 * context.target.scale / context.source.scale / scale
    tied = np.where(np.arange(scale.size).reshape(scale.shape) % 2, 1.0, half)
    quantizer.rescale(kernel, variables, tied.astype(np.float32))
    return model


def bare(model: keras.Model) -> tuple[Weighted, RequantizationContext]:
    """The operator, and where it computes."""
    graph = export.realize(export.lower(model), split_groups=False)
    (operator,) = (operator for operator in graph.operators if operator.output == "bare")
    return operator, RequantizationContext.of(graph, operator)


def narrow(model: keras.Model) -> int:
    """How many channels have thresholds that float32 might not tell from an accumulator."""
    operator, context = bare(model)
    accumulators = AccumulatorRange(
        accumulated_codes(operator), context.source.low, context.source.high
    )
    slope, _ = ideal.line(operator.trained, context.source.scale)
    margin = threshold_margin(context, slope)
    assert margin.all()
    return int((distance(context, accumulators, operator.trained) < margin).sum())


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
    assert 0 < change.max() <= MOST_CHANGE * 1.001
    images = small_networks.codes(model, 64, seed)
    rows = checks.compare_with_keras(model, graph, export.to_tflite(model), images)
    assert rows["bare"].different == 0

    export.settle(model)
    assert np.array_equal(kernel(model).scale, after.scale)


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
