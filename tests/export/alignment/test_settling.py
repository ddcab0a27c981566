"""Settling: what moves in a model, how far at most, and what float32 has as its margin then."""

import numpy as np
import pytest
import small_networks
import tf_keras as keras
from equality import assert_same
from tf_keras import layers
from trained_layers import clearance, needed_clearance

import export
import wrpn_tf
from export.ir.operators import DepthwiseConv2D, FullyConnected
from export.kernel_sets import narrow_weights
from export.kernel_sets.narrow_weights import Storage


def network(
    seed: int,
    kernel: keras.layers.Layer,
    *after: keras.layers.Layer,
    weight_bits: int,
    activation_bits: int = 8,
) -> keras.Model:
    """One kernel between image and output, with what is folded into it."""
    image = x = keras.Input((6, 6, 4), name="image")
    for layer in (kernel, *after):
        x = layer(x)
    model = keras.Model(image, x)
    small_networks.randomize(model, seed)
    random = np.random.default_rng(seed)
    for layer in after:
        if isinstance(layer, layers.BatchNormalization):
            count = kernel.filters
            gamma = random.uniform(0.5, 1.5, count) * random.choice([-1, 1], count)
            beta, mean = random.normal(0, 0.5, (2, count))
            layer.set_weights([gamma, beta, mean, random.uniform(0.2, 2, count)])
    rules = [wrpn_tf.Rule(layer_class=type(kernel), weight_bits=weight_bits)]
    return small_networks.quantize(model, seed, activation_bits=activation_bits, rules=rules)


def only_operator(model: keras.Model, **options: str):
    graph = export.realize(export.lower(model), **options)
    (operator,) = graph.operators
    return graph, operator


def kernel_codes(model: keras.Model) -> np.ndarray:
    (codes,) = (view.kernel.codes for view in wrpn_tf.view(model) if view.kernel)
    return codes


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("normalized", [True, False], ids=["normalization", "bias"])
def test_thresholds_have_room_for_float32(normalized: bool, seed: int) -> None:
    after = [layers.BatchNormalization()] if normalized else []
    model = network(seed, layers.Conv2D(32, 3, use_bias=not normalized), *after, weight_bits=2)
    codes = kernel_codes(model)
    graph, operator = only_operator(model)
    assert np.count_nonzero(clearance(graph, operator) < needed_clearance(graph, operator)) > 10
    export.settle(model)
    graph, operator = only_operator(model)
    assert clearance(graph, operator).min() >= needed_clearance(graph, operator)
    assert graph.provenance.inexact_channels[operator.output]["xnnpack"] == 0
    assert_same(kernel_codes(model), codes)


@pytest.mark.parametrize("seed", range(2))
def test_gains_move_by_at_most_a_256th(seed: int) -> None:
    """Among thousands of accumulators that lie close together few gains serve all kernels."""
    after = layers.BatchNormalization(name="bn"), layers.ReLU()
    kernel = layers.Conv2D(24, 3, use_bias=False)
    model = network(seed, kernel, *after, weight_bits=8, activation_bits=3)
    (view,) = (view for view in wrpn_tf.view(model) if view.name.endswith("bn"))
    before = view.layer.gamma.numpy()
    export.settle(model)
    moved = np.abs(view.layer.gamma.numpy() / before - 1)
    assert 2.0**-9 < moved.max() <= 2.0**-8 * (1 + 1e-4)
    graph, operator = only_operator(model)
    assert graph.provenance.inexact_channels[operator.output]["xnnpack"] == 0


def test_gains_of_a_dense_layer_with_many_scales_move() -> None:
    """A 1x1 convolution in INT4; with gains that stay, 23 of 24 channels suit XNNPACK only."""
    after = layers.BatchNormalization()
    model = network(0, layers.Conv2D(24, 1, use_bias=False), after, weight_bits=2)
    export.settle(model, weights="int4")
    graph, operator = only_operator(model, weights="int4")
    assert (type(operator), operator.dtype_bits) == (FullyConnected, 4)
    counts = graph.provenance.inexact_channels[operator.output]
    assert [counts[n] for n in ("xnnpack", "optimized", "optimized_arm", "reference")] == [0] * 4


def test_offsets_move_by_at_most_half_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that round halves away from 0 are exact where no output is below -1/2 code.

    Such is the optimized one of a depthwise layer with fewer than 8 channels, whose INT4 kernel
    XNNPACK would not take. The lowest outputs are at 0.7, 0.9, 1.2, 1.7, 2.7 and 0 codes below 0.
    """
    left = Storage(operator=DepthwiseConv2D, dtype_bits=4)
    monkeypatch.setattr(narrow_weights, "storage", lambda *_, **__: left)
    image = keras.Input((3, 3, 6), name="image")
    model = keras.Model(image, layers.DepthwiseConv2D(2, name="depthwise")(image))
    span = np.array([31.3, 28.7, 33.3, 31.7, 27.1, 250])
    codes = np.array([[7, 1], [1, 0]])[:, :, None, None]
    model.get_layer("depthwise").set_weights(
        [codes * span[:, None] / (9 * 255), np.full(6, -4 / 255)]
    )
    rules = [wrpn_tf.Rule(name="depthwise", weight_bits=4)]
    model = wrpn_tf.quantize_model(model, input_range=(0, 1), rules=rules)
    wrpn_tf.calibrate(model, [np.stack([np.zeros((3, 3, 6)), np.ones((3, 3, 6))])])
    (view,) = (view for view in wrpn_tf.view(model) if view.kernel)
    below = np.float32([0.7, 0.9, 1.2, 1.7, 2.7, 0])
    view.layer.bias.assign(-below * view.grid.scale)

    graph, operator = only_operator(model, weights="int4")
    assert (operator.dtype_bits, operator.code_multiplier) == (4, 1)
    assert graph.provenance.inexact_channels["depthwise"]["optimized"] == 5
    export.settle(model, weights="int4")
    graph, operator = only_operator(model, weights="int4")
    assert graph.provenance.inexact_channels["depthwise"]["optimized"] == 3
    moved = view.layer.bias.numpy() / view.grid.scale + below
    assert 0.2 < moved[0] < 0.25
    assert 0.4 < moved[1] < 0.45
    assert np.abs(moved[2:]).max() < 0.01
