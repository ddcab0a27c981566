"""Quantizers of related work: values against the NumPy twins, gradients against the papers'."""

import math

import numpy as np
import pytest
import tensorflow as tf
from equality import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from wrpn_tf import quantizers
from wrpn_tf.arithmetic import related_work
from wrpn_tf.arithmetic.scales import best_scale_np

settings.register_profile("related", max_examples=40, deadline=None)
settings.load_profile("related")

SHAPE = (2, 3, 4)
AXES = st.sampled_from([(0,), (0, 1), (0, 1, 2), None])
tensors = st_numpy.arrays(
    np.float32, SHAPE, elements=st.floats(-4, 4, width=32, allow_subnormal=False)
)


def normal(seed, shape=SHAPE, deviation=1.0):
    return np.random.default_rng(seed).normal(0, deviation, shape).astype(np.float32)


def gradients(function, upstream, *arguments):
    """Gradients of `function` at float32 `arguments` for an upstream gradient."""
    variables = [tf.constant(argument, tf.float32) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(variables)
        value = function(*variables)
    found = tape.gradient(value, variables, output_gradients=tf.constant(upstream))
    return [gradient.numpy() for gradient in found]


@pytest.mark.parametrize("bits", range(2, 8))
def test_graph_mode_equals_the_twins(bits):
    """As `quantizers.opaque` must make it: the graph optimizer may not change a division."""
    w, x, axes = normal(bits, (3, 3, 16, 16), 0.2), normal(1, 5000), (0, 1, 2)
    levels = quantizers.activation_levels(bits)

    @tf.function
    def everything(w, x):
        return (
            related_work.dynamic_scale(w, quantizers.weight_levels(bits), axes),
            related_work.dorefa_weights(w, bits),
            related_work.xnor_weights(w, axes),
            related_work.pact(x, tf.constant(0.7), levels),
        )

    codes = related_work.dorefa_codes_np(w, bits)
    expected = (
        related_work.dynamic_scale_np(w, quantizers.weight_levels(bits), axes),
        codes.astype(np.float32) * np.float32(1 / levels),
        quantizers.wrpn_weights_np(w, 1, axes),
        related_work.pact_np(x, 0.7, levels),
    )
    for actual, value in zip(everything(tf.constant(w), tf.constant(x)), expected, strict=True):
        assert_same(actual, value)


# Dynamic scales.


@given(tensors, st.sampled_from([1, 3, 7, 127]), AXES)
def test_dynamic_scales_equal_their_twin(w, levels, axes):
    actual = related_work.dynamic_scale(tf.constant(w), levels, axes)
    assert_same(actual, related_work.dynamic_scale_np(w, levels, axes))


@pytest.mark.parametrize("levels", [1, 3, 7, 127])
def test_dynamic_scales_are_close_to_the_best_of_normal_weights(levels):
    w = normal(levels, 20000)
    found = related_work.dynamic_scale_np(w, levels, None)

    def error(scale):
        return np.square(w - quantizers.fake_quantize_np(w, scale, -levels, levels)).mean()

    assert error(found) < 1.05 * error(best_scale_np(w, -levels, levels, candidates=512))


def test_the_ternary_factor_is_the_optimum_of_the_normal_distribution():
    """Levels -1.224, 0, 1.224 for unit variance (Max 1960), over a mean magnitude of .798."""
    assert related_work.normal_factor(1) == pytest.approx(1.224 / 0.7979, rel=0.005)


@pytest.mark.parametrize(
    ("levels", "factor"),
    [(1, 1.5355928), (3, 0.81419343), (7, 0.44258943), (127, 0.03584959)],
)
def test_the_factors_that_networks_were_trained_with(levels, factor):
    found = related_work.normal_factor(levels)
    assert found.dtype == np.float32
    assert found == pytest.approx(factor, rel=1e-6)


def test_dynamic_scales_pass_no_gradient_and_are_positive():
    w = tf.constant(normal(0))
    with tf.GradientTape() as tape:
        tape.watch(w)
        scale = related_work.dynamic_scale(w, 3, (0, 1))
    assert tape.gradient(scale, w) is None
    assert scale.shape == (1, 1, 4)
    zeros = np.zeros((2, 2), np.float32)
    for levels in (1, 127):
        for scale in (
            related_work.dynamic_scale(tf.constant(zeros), levels, None).numpy(),
            related_work.dynamic_scale_np(zeros, levels, None),
        ):
            assert scale.tolist() == [
                [max(2.0**-24, 2.0**-24 * related_work.normal_factor(levels))]
            ]


# DoReFa.


@given(tensors, st.integers(2, 7))
def test_dorefa_weights_equal_their_twin(w, bits):
    levels = np.float32(1 / (2**bits - 1))
    codes = related_work.dorefa_codes_np(w, bits)
    actual = related_work.dorefa_weights(tf.constant(w), bits)
    assert_same(actual, codes.astype(np.float32) * levels)


@pytest.mark.parametrize("bits", range(2, 8))
def test_dorefa_codes_are_the_papers_formula(bits):
    w = normal(bits, (3, 3, 8, 8))
    levels = 2**bits - 1
    normalized = np.tanh(w.astype(np.float64))
    normalized = normalized / (2 * np.abs(normalized).max()) + 0.5
    expected = 2 * np.floor(levels * normalized + 0.5) / levels - 1
    codes = related_work.dorefa_codes_np(w, bits)
    np.testing.assert_allclose(codes / levels, expected, atol=1e-12)
    assert set(np.unique(codes)) <= set(range(-levels, levels + 1, 2))
    assert np.abs(codes).max() == levels


@pytest.mark.parametrize("bits", [2, 7])
def test_dorefas_gradient_is_that_of_its_normalization(bits):
    """Of ``tanh(w) / max|tanh(w)|``: of the largest weight in numerator and denominator."""
    w, upstream = normal(0), normal(1)
    (found,) = gradients(lambda w: related_work.dorefa_weights(w, bits), upstream, w)
    t, g = np.tanh(w.astype(np.float64)), upstream.astype(np.float64)
    largest = np.abs(t).max()
    through_largest = (np.abs(t) == largest) * np.sign(t) * (g * t).sum() / largest
    expected = (1 - np.square(t)) * (g - through_largest) / largest
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bits", range(2, 8))
def test_dorefa_codes_are_rounded_in_float32(bits):
    """Of weights next to a half-way place, float32 decides otherwise than float64 for some."""
    levels, largest = 2**bits - 1, np.float32(4)
    places = ((np.arange(levels) + 0.5) / levels - 0.5) * 2 * math.tanh(largest)
    halves = np.arctanh(places).astype(np.float32)
    w = np.concatenate([halves + step * np.spacing(halves) for step in range(-3, 4)])
    w = np.append(w, largest).astype(np.float32)
    unit = np.tanh(w.astype(np.float64)) / (2 * np.tanh(np.float64(largest))) + 0.5
    half = np.float32(0.5)
    expected = [
        2 * math.floor(value * np.float32(levels) + half) - levels for value in np.float32(unit)
    ]
    codes = related_work.dorefa_codes_np(w, bits)
    assert codes.dtype == np.int32
    assert codes.tolist() == expected
    assert expected != (2 * np.floor(unit * levels + 0.5) - levels).tolist()


def test_dorefas_weights_of_zeros_are_finite():
    zeros = np.zeros((2, 2), np.float32)
    assert_same(related_work.dorefa_codes_np(zeros, 2), np.ones((2, 2), np.int32))
    (gradient,) = gradients(lambda w: related_work.dorefa_weights(w, 2), zeros, zeros)
    assert np.isfinite(gradient).all()


# XNOR-Net.


@given(tensors, AXES)
def test_xnor_weights_are_signs_times_mean_magnitudes(w, axes):
    actual = related_work.xnor_weights(tf.constant(w), axes)
    mean = quantizers.mean_magnitude_np(w, axes)
    assert_same(actual, quantizers.binarize_np(w, mean))


def test_xnors_gradient_is_that_of_the_product():
    w, upstream = normal(2, deviation=0.8), normal(3)
    (found,) = gradients(lambda w: related_work.xnor_weights(w, (0, 1)), upstream, w)
    alpha = np.abs(w).mean(axis=(0, 1), keepdims=True)
    signs = np.where(w >= 0, 1, -1)
    through_scale = signs * (upstream * signs).mean(axis=(0, 1), keepdims=True)
    expected = upstream * alpha * (np.abs(w) <= 1) + through_scale
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# PACT.


@given(tensors, st.floats(2**-6, 6, width=32), st.integers(1, 8))
def test_pact_equals_its_twin(x, clip, bits):
    levels = quantizers.activation_levels(bits)
    actual = related_work.pact(tf.constant(x), tf.constant(clip), levels)
    assert_same(actual, related_work.pact_np(x, clip, levels))


@pytest.mark.parametrize("bits", range(1, 9))
def test_pacts_clip_is_a_float32(bits):
    levels = quantizers.activation_levels(bits)
    for clip in np.random.default_rng(bits).uniform(0.1, 6, 50).tolist():
        scale = np.float32(clip) / np.float32(levels)
        x = np.float32([-1, 0, clip / 3, 2 * clip])
        expected = np.clip(np.floor(x / scale + np.float32(0.5)), 0, levels) * scale
        assert_same(related_work.pact_np(x, clip, levels), expected)


def test_pacts_gradient_is_the_papers():
    x, upstream, clip = normal(4), normal(5), np.float32(0.75)
    x.flat[0] = clip  # The boundary belongs to the clip (equation 3).
    x.flat[1] = 0.0  # And 0 to what passes.
    to_x, to_clip = gradients(lambda x, a: related_work.pact(x, a, 15), upstream, x, clip)
    assert_same(to_x, np.where((x >= 0) & (x < clip), upstream, 0))
    assert to_clip == pytest.approx(upstream[x >= clip].sum(), rel=1e-5)
