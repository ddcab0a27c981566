"""Arithmetic: TensorFlow against the NumPy twins bit for bit, the paper's formulas, gradients.

Subnormal inputs are left out: TensorFlow flushes them to zero in some kernels, NumPy does not.
"""

import numpy as np
import pytest
import tensorflow as tf
from equality import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from wrpn_tf import quantizers
from wrpn_tf.arithmetic.scales import best_scale_np, best_scales_np, lsq_gradient_scale

SHAPE = (2, 3, 4)
BITS = range(1, 9)

settings.register_profile("arithmetic", max_examples=60, deadline=None)
settings.load_profile("arithmetic")

bit_widths = st.integers(1, 8)
# Multiples of a half of the steps of all widths hold their half-way cases.
halves = st.builds(
    lambda numerator, levels: np.float32(numerator) * np.float32(0.5 / levels),
    st.integers(-600, 600),
    st.sampled_from([1, 3, 7, 15, 31, 63, 127, 255]),
)
reals = st.one_of(st.floats(-4, 4, width=32, allow_subnormal=False), halves)
tensors = st_numpy.arrays(np.float32, SHAPE, elements=reals)
scales = st.floats(2.0**-10, 4.0, width=32)
channel_scales = st.sampled_from([(4,), (1, 1, 4), (2, 1, 4), (1, 3, 1)]).flatmap(
    lambda shape: st_numpy.arrays(np.float32, shape, elements=scales)
)
all_scales = st.one_of(scales.map(np.float32), channel_scales)


def gradients(function, *arguments):
    """Value and gradients of the sum of `function(*arguments)`."""
    variables = [tf.constant(argument, tf.float32) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(variables)
        value = function(*variables)
    return value.numpy(), *(g.numpy() for g in tape.gradient(value, variables))


# Twins.


@given(tensors, bit_widths)
def test_weights_equal_their_twin(w, bits):
    assert_same(quantizers.wrpn_weights(tf.constant(w), bits), quantizers.wrpn_weights_np(w, bits))


@given(tensors, st.sampled_from([(), (0,), (0, 1), (1, 2), (0, 1, 2), None]))
def test_binary_weights_equal_their_twin_over_any_axes(w, axes):
    actual = quantizers.wrpn_weights(tf.constant(w), 1, axes)
    assert_same(actual, quantizers.wrpn_weights_np(w, 1, axes))


@given(tensors, bit_widths)
def test_activations_equal_their_twin(x, bits):
    actual = quantizers.wrpn_activations(tf.constant(x), bits)
    assert_same(actual, quantizers.wrpn_activations_np(x, bits))


@given(tensors, all_scales, bit_widths)
def test_fake_quantize_equals_its_twin(x, scale, bits):
    high = quantizers.activation_levels(bits)
    for low in (0, -quantizers.weight_levels(bits)):
        actual = quantizers.fake_quantize(tf.constant(x), tf.constant(scale), low, high)
        assert_same(actual, quantizers.fake_quantize_np(x, scale, low, high))


@pytest.mark.parametrize("bits", BITS)
def test_graph_mode_equals_the_twin(bits):
    step = np.float32(0.5 / quantizers.activation_levels(bits))
    x = np.arange(-600, 601, dtype=np.float32) * step
    x = np.concatenate([x, np.nextafter(x, np.float32(-9)), np.nextafter(x, np.float32(9))])
    x = np.where(np.abs(x) < 1e-30, np.float32(0), x)

    @tf.function
    def both(x):
        return quantizers.wrpn_weights(x, bits), quantizers.wrpn_activations(x, bits)

    weights, activations = both(tf.constant(x))
    assert_same(weights, quantizers.wrpn_weights_np(x, bits))
    assert_same(activations, quantizers.wrpn_activations_np(x, bits))


@given(tensors, all_scales)
def test_binarize_equals_its_twin(w, scale):
    actual = quantizers.binarize(tf.constant(w), tf.constant(scale))
    assert_same(actual, quantizers.binarize_np(w, scale))


@given(tensors, st.sampled_from([(), (0,), (0, 1), (0, 1, 2), None]))
def test_mean_magnitude_equals_its_twin(w, axes):
    actual = quantizers.mean_magnitude(tf.constant(w), axes)
    assert_same(actual, quantizers.mean_magnitude_np(w, axes))


def test_mean_magnitude_of_a_large_kernel_equals_its_twin():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    actual = quantizers.mean_magnitude(tf.constant(kernel), (0, 1, 2))
    assert_same(actual, quantizers.mean_magnitude_np(kernel, (0, 1, 2)))


@given(*[st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False)] * 2)
def test_affine_grid_equals_its_twin_and_holds_zero_and_the_range(one, other):
    minimum, maximum = min(one, other), max(one, other)
    scale, zero_point = quantizers.affine_grid(tf.constant(minimum), tf.constant(maximum))
    scale_np, zero_point_np = quantizers.affine_grid_np(minimum, maximum)
    assert scale.numpy() == scale_np > 0
    assert zero_point.numpy() == zero_point_np
    assert -128 <= zero_point_np <= 127
    low, high = (np.float64(scale_np) * (end - zero_point_np) for end in (-128, 127))
    assert low - 0.51 * scale_np <= min(minimum, 0.0)
    assert high + 0.51 * scale_np >= max(maximum, 0.0)


def test_affine_grid_in_graph_mode_equals_the_twin():
    random = np.random.default_rng(0)
    bounds = random.uniform(0, 4, (200, 2)).astype(np.float32) * np.float32([-1, 1])
    affine_grid = tf.function(quantizers.affine_grid)
    actual = [[float(value) for value in affine_grid(*map(tf.constant, pair))] for pair in bounds]
    assert_same(actual, [[float(v) for v in quantizers.affine_grid_np(*pair)] for pair in bounds])


SMALLEST = 2.0**-24


@pytest.mark.parametrize(
    ("minimum", "maximum", "scale", "zero_point"),
    [
        (0.0, 0.0, SMALLEST, -128),
        (0.0, 255.0, 1.0, -128),
        (-255.0, 0.0, 1.0, 127),
        (-0.5, 254.5, 1.0, -127),  # -127.5 rounds up.
        (-254.5, 0.5, 1.0, 127),
        (-127.0, 127.0, 1.0, 0),  # 254 steps.
        (-1.0, 1.0, float(np.float32(1 / 127)), 0),
        (-128.0, 127.0, 1.0, 0),
        (3.0, 510.0, 2.0, -128),
        (-510.0, -3.0, 2.0, 127),
        (-SMALLEST, 0.0, SMALLEST, -127),
    ],
)
def test_affine_grid_in_numbers(minimum, maximum, scale, zero_point):
    actual = quantizers.affine_grid(tf.constant(minimum), tf.constant(maximum))
    assert [value.dtype for value in actual] == [tf.float32] * 2
    assert [float(value) for value in actual] == [scale, zero_point]
    found = quantizers.affine_grid_np(minimum, maximum)
    assert found == (scale, zero_point)
    assert (found[0].dtype, type(found[1])) == (np.float32, int)


PIXEL_RANGES = [
    ((-1.0, 1.0), -1),
    ((-1.7248, 1.7248), -1),
    ((-127.5, 127.5), -1),
    ((0.0, 1.0), -128),
    ((0.0, 255.0), -128),
    ((-1.0, 0.0), 127),
    ((-128.0, 127.0), 0),
    ((-0.9921875, 1.0), -1),
    ((-2.117904, 2.64), -14),
]


@pytest.mark.parametrize(("ends", "zero_point"), PIXEL_RANGES)
def test_every_pixel_has_its_own_code_however_it_is_computed(ends, zero_point):
    """Pixel p is code p - 128, by any float32 formula, and codes' values stay where they are."""
    minimum, maximum = np.float32(ends)
    scale, found, shift = quantizers.pixel_grid_np(minimum, maximum)
    assert found == zero_point
    in_graph = tf.function(quantizers.pixel_grid)(tf.constant(minimum), tf.constant(maximum))
    assert [float(value) for value in in_graph] == [scale, zero_point, shift]
    pixels = np.arange(256)
    step = (np.float64(maximum) - minimum) / 255
    exact = minimum + pixels * step
    values = (pixels - 128 - zero_point) * np.float32(scale)
    low, high = -128 - zero_point, 127 - zero_point
    for noise in (-1e-2, 0.0, 1e-2):  # Of a step; float32's is 1e-5.
        for reals in (exact + noise * step, values + noise * step):
            reals = reals.astype(np.float32)
            codes = quantizers.quantize_codes_np(reals + shift, scale, low, high) + zero_point
            assert_same(codes, (pixels - 128).astype(np.int32))
    assert abs(shift) <= 0.2505 * step
    on_codes = ((0.0, 1.0), (0.0, 255.0), (-1.0, 0.0), (-128.0, 127.0), (-0.9921875, 1.0))
    assert (shift == 0) == (ends in on_codes)


@given(
    # TensorFlow makes 0 of what is below 2^-126, such as half of the smallest normal number.
    st.just(0.0) | st.floats(-(2.0**10), -(2.0**-100), width=32),
    st.floats(2.0**-10, 2.0**10, width=32),
)
def test_pixels_of_any_range_have_their_own_codes(minimum, maximum):
    actual = quantizers.pixel_grid(tf.constant(minimum), tf.constant(maximum))
    scale, zero_point, shift = quantizers.pixel_grid_np(minimum, maximum)
    assert [float(value) for value in actual] == [scale, zero_point, shift]
    pixels = np.arange(256)
    reals = (minimum + pixels * ((maximum - minimum) / 255)).astype(np.float32)
    low, high = -128 - zero_point, 127 - zero_point
    codes = quantizers.quantize_codes_np(reals + shift, scale, low, high) + zero_point
    assert_same(codes, (pixels - 128).astype(np.int32))


def test_the_zero_point_of_every_one_sided_range_is_an_end():
    """Nothing need be clipped: ``minimum / scale`` is 255 to within a few ulp."""
    ranges = np.random.default_rng(0).uniform(2.0**-17, 2.0**20, 2000).astype(np.float32)
    for minimum, maximum, expected in ((-ranges, 0.0, 127), (0.0, ranges, -128)):
        _, zero_points = quantizers.affine_grid(tf.constant(minimum), tf.constant(maximum))
        assert np.unique(zero_points).tolist() == [expected]


@given(st_numpy.arrays(np.float32, 4, elements=reals))
def test_positive_equals_its_twin_and_is_positive(scale):
    actual = quantizers.positive(tf.constant(scale))
    assert_same(actual, quantizers.positive_np(scale))
    assert actual.numpy().min() >= 2.0**-24


def test_scales_in_use_are_at_least_2_to_the_minus_24():
    scales = np.float32([0, 2.0**-25, -(2.0**-25), 2.0**-24, -(2.0**-23)])
    assert_same(quantizers.positive_np(scales), np.float32([2.0**-24] * 4 + [2.0**-23]))


# Codes and the paper's sets of values.


@given(tensors, all_scales, bit_widths)
def test_codes_are_integers_within_the_levels(x, scale, bits):
    levels = quantizers.weight_levels(bits)
    codes = quantizers.quantize_codes_np(x, scale, -levels, levels)
    assert codes.dtype == np.int32
    assert np.abs(codes).max() <= levels
    assert_same(
        codes.astype(np.float32) * scale, quantizers.fake_quantize_np(x, scale, -levels, levels)
    )


@given(tensors)
def test_binary_codes_are_signs(w):
    assert_same(quantizers.binary_codes_np(w), np.where(w < 0, -1, 1))


@pytest.mark.parametrize("bits", BITS)
def test_levels_are_the_papers(bits):
    x = np.linspace(-2, 2, 4001, dtype=np.float32)
    weights = np.unique(quantizers.wrpn_weights_np(x, bits))
    activations = np.unique(quantizers.wrpn_activations_np(x, bits))
    assert len(activations) == 2**bits
    assert (activations.min(), activations.max()) == (0, 1)
    assert len(weights) == (2 if bits == 1 else 2**bits - 1)
    if bits > 1:
        assert (weights.min(), weights.max()) == (-1, 1)


def test_two_bit_weights_are_ternary():
    x = np.linspace(-2, 2, 401, dtype=np.float32)
    assert np.unique(quantizers.wrpn_weights_np(x, 2)).tolist() == [-1, 0, 1]


def test_four_bit_activations_take_sixteen_values():
    x = np.linspace(-1, 2, 3001, dtype=np.float32)
    codes = np.unique(quantizers.wrpn_activations_np(x, 4)) * 15
    assert np.rint(codes).tolist() == list(range(16))


@given(tensors)
def test_one_bit_weights_are_plus_and_minus_the_mean_magnitude(w):
    actual = quantizers.wrpn_weights_np(w, 1)
    assert len(np.unique(np.abs(actual))) == 1
    np.testing.assert_allclose(np.abs(actual), max(np.abs(w).mean(), 2.0**-24), rtol=1e-6)


@given(tensors, bit_widths)
def test_quantizing_twice_changes_nothing(x, bits):
    once = quantizers.wrpn_activations_np(x, bits)
    assert_same(quantizers.wrpn_activations_np(once, bits), once)


@pytest.mark.parametrize(
    "quantize",
    [
        quantizers.wrpn_weights,
        quantizers.wrpn_weights_np,
        quantizers.wrpn_activations,
        quantizers.wrpn_activations_np,
    ],
)
def test_32_bits_are_the_identity(quantize):
    x = np.float32([-3.25, 0.1, 7.0])
    assert_same(quantize(x, 32), x)


# Rounding.


@pytest.mark.parametrize(
    ("steps", "code"),
    [(-2.5, -2), (-1.5, -1), (-0.5, 0), (0.5, 1), (1.5, 2), (2.5, 3), (0.25, 0), (-0.75, -1)],
)
def test_half_way_cases_round_up(steps, code):
    for scale in (1.0, 0.25):
        x = np.float32([steps * scale])
        assert_same(quantizers.fake_quantize(x, tf.constant(scale), -8, 8), [code * scale])
        assert_same(quantizers.quantize_codes_np(x, scale, -8, 8), [code])


def test_rounding_is_in_float32():
    """The number before 1/2, plus 1/2, is 1 in float32."""
    before = np.nextafter(np.float32([0.5]), np.float32(0))
    for rounded in (
        quantizers.round_half_up(tf.constant(before)).numpy(),
        quantizers.round_half_up_np(before),
    ):
        assert rounded.dtype == np.float32
        assert rounded.tolist() == [1.0]
    assert quantizers.round_half_up_np(before.astype(np.float64)).tolist() == [0.0]


def test_codes_and_values_are_those_of_float32_inputs():
    x = np.float64([0.3, -0.7, 0.1 + 1e-9, 0.15])
    single = x.astype(np.float32)
    for scale in (0.1, 0.3):
        codes = quantizers.quantize_codes_np(x, scale, -7, 7)
        assert_same(codes, quantizers.quantize_codes_np(single, np.float32(scale), -7, 7))
        assert codes.dtype == np.int32
        values = quantizers.fake_quantize_np(x, scale, -7, 7)
        assert values.dtype == np.float32
        assert_same(values, codes.astype(np.float32) * np.float32(scale))
        signs = quantizers.binarize_np(x, scale)
        assert signs.dtype == np.float32
        assert_same(signs, np.float32([1, -1, 1, 1]) * np.float32(scale))
    half = np.float64(0.15) / np.float64(0.1)  # Below 3 / 2; the float32 quotient is 3 / 2.
    assert half < 1.5
    assert quantizers.quantize_codes_np(np.float64([0.15]), 0.1, -7, 7).tolist() == [2]


def test_binary_codes_and_their_twin_have_their_types():
    w = [-1.0, 0.0, 2.0]
    codes = quantizers.binary_codes_np(w)
    assert codes.dtype == np.int32
    assert codes.tolist() == [-1, 1, 1]
    mean = quantizers.mean_magnitude_np(np.float32([[-1, 3], [0, 5]]), (0,))
    assert mean.dtype == np.float32
    assert mean.tolist() == [[0.5, 4.0]]


# Bit-widths.


@pytest.mark.parametrize(
    ("quantize", "what"),
    [
        (quantizers.wrpn_weights, "weight bits"),
        (quantizers.wrpn_weights_np, "weight bits"),
        (quantizers.wrpn_activations, "activation bits"),
        (quantizers.wrpn_activations_np, "activation bits"),
        (lambda _, bits: quantizers.check_bits(bits), "bits"),
    ],
)
def test_what_has_the_wrong_bits_is_named(quantize, what):
    sentence = f"{what} must be 1 to 8, or 32 for no quantization; got 9."
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        quantize(np.zeros(3, np.float32), 9)


def test_levels_in_numbers():
    weights = [1, 1, 3, 7, 15, 31, 63, 127]
    assert [quantizers.weight_levels(bits) for bits in BITS] == weights
    activations = [1, 3, 7, 15, 31, 63, 127, 255]
    assert [quantizers.activation_levels(bits) for bits in BITS] == activations


@pytest.mark.parametrize("bits", [0, 9, 16, 31, 33, -1, True, False, 2.5, "4", None])
def test_invalid_bit_width_is_named(bits):
    for quantize in (
        quantizers.wrpn_weights,
        quantizers.wrpn_weights_np,
        quantizers.wrpn_activations,
        quantizers.wrpn_activations_np,
    ):
        with pytest.raises(ValueError, match="bits must be 1 to 8, or 32") as error:
            quantize(np.zeros(3, np.float32), bits)
        assert repr(bits) in str(error.value)


@pytest.mark.parametrize("bits", [4, np.int64(4), np.uint8(4)])
def test_integers_of_any_type_are_bit_widths(bits):
    checked = quantizers.check_bits(bits)
    assert checked == 4
    assert type(checked) is int


# Gradients.


@pytest.mark.parametrize("bits", range(2, 9))
def test_weight_gradient_is_straight_through_up_to_the_clips_edge(bits):
    w = [-1.5, -1.001, -1.0, -0.3, 0.0, 0.9, 1.0, 1.001, 3.0]
    _, gradient = gradients(lambda w: quantizers.wrpn_weights(w, bits), w)
    # 1 / (1 / levels) may be a float above `levels`, the clip of codes: then 1.0 lies outside.
    edge = float(np.float32(1) / np.float32(1 / quantizers.weight_levels(bits)))
    on_edge = float(edge <= quantizers.weight_levels(bits))
    assert_same(gradient, [0, 0, on_edge, 1, 1, 1, on_edge, 0, 0])


@pytest.mark.parametrize("scale", [0.25, 1.0])
def test_gradient_includes_both_edges_of_the_clip(scale):
    steps = np.float32([-1.25, -1, -0.5, 0, 2.75, 3, 3.25])
    _, gradient, _ = gradients(
        lambda x, s: quantizers.fake_quantize(x, s, -1, 3), steps * scale, scale
    )
    assert_same(gradient, [0, 1, 1, 1, 1, 1, 0])


def test_binary_gradient_is_straight_through_in_the_unit_range_and_sign_of_zero_is_one():
    w = [-1.5, -1.0, -0.2, -0.0, 0.0, 0.4, 1.0, 1.5]
    value, gradient = gradients(lambda w: quantizers.binarize(w, 0.5), w)
    assert_same(value, np.float32([-1, -1, -1, 1, 1, 1, 1, 1]) * 0.5)
    assert_same(gradient, [0, 1, 1, 1, 1, 1, 1, 0])


def test_binary_scale_passes_no_gradient():
    w = [[-0.5, 0.25, 0.75]]
    _, gradient = gradients(lambda w: quantizers.wrpn_weights(w, 1), w)
    assert_same(gradient, [[1, 1, 1]])


@given(tensors, all_scales, bit_widths)
def test_scale_gradient_is_that_of_lsq(x, scale, bits):
    high = quantizers.activation_levels(bits)
    low = -quantizers.weight_levels(bits)
    _, _, actual = gradients(
        lambda x, s: quantizers.fake_quantize(x, s, low, high, gradient_scale=0.5), x, scale
    )
    steps = x.astype(np.float64) / scale
    slope = np.where(steps < low, low, np.where(steps > high, high, np.floor(steps + 0.5) - steps))
    # At the clip and half-way between codes float32 may decide otherwise than float64.
    near = np.abs(steps * 2 - np.rint(steps * 2)) < 1e-4 * np.maximum(1, np.abs(steps))
    if near.any():
        return
    kept = (1,) * (x.ndim - np.ndim(scale)) + np.shape(scale)
    axes = tuple(axis for axis, size in enumerate(kept) if size == 1)
    expected = 0.5 * slope.sum(axis=axes, keepdims=True).reshape(np.shape(scale))
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-2)


def test_scale_gradient_in_numbers():
    x = [-9.0, 0.75, 0.5, 9.0]  # steps -18, 1.5, 1, 18
    _, _, gradient = gradients(lambda x, s: quantizers.fake_quantize(x, s, -1, 3), x, 0.5)
    assert gradient == -1 + (2 - 1.5) + 0 + 3


@given(tensors, scales, bit_widths)
def test_gradients_are_those_of_a_function_that_scales_with_its_arguments(x, scale, bits):
    """q(t x, t s) = t q(x, s), so x dq/dx + s dq/ds = q, inside the clip and outside."""
    high = quantizers.activation_levels(bits)
    value, to_x, to_scale = gradients(
        lambda x, s: quantizers.fake_quantize(x, s, -high, high), x, scale
    )
    np.testing.assert_allclose((x * to_x).sum() + scale * to_scale, value.sum(), atol=1e-2)


@pytest.mark.parametrize("shape", [(5, 3, 2, 16), (7, 40), (1, 16), (4, 9, 17), (0, 3, 2, 16)])
def test_scale_gradient_of_many_channels_is_the_same_sum(shape):
    random = np.random.default_rng(0)
    x = random.normal(0, 4, shape).astype(np.float32)
    upstream = random.normal(size=shape).astype(np.float32)
    _, to_x, to_scale = gradients(
        lambda x, s: quantizers.fake_quantize(x, s, 0, 15, 0.25) * upstream, x, 0.5
    )
    steps = x / 0.5
    inside = (steps >= 0) & (steps <= 15)
    slope = np.clip(np.floor(steps + 0.5), 0, 15) - inside * np.float64(steps)
    assert_same(to_x, inside * upstream)
    np.testing.assert_allclose(to_scale, 0.25 * (upstream * slope).sum(), rtol=1e-4)


@pytest.mark.parametrize(
    ("channels", "compiler", "is_dot"),
    [(16, None, True), (15, None, False), (None, None, False), (16, True, False)],
)
def test_scale_gradient_is_a_dot_product_but_in_xla_and_of_few_channels(channels, compiler, is_dot):
    traced = []

    @tf.function(jit_compile=compiler)
    def gradient(x, scale):
        with tf.GradientTape() as tape:
            tape.watch(scale)
            total = tf.reduce_sum(quantizers.fake_quantize(x, scale, 0, 3))
        slope = tape.gradient(total, scale)
        traced.extend(op.type for op in tf.compat.v1.get_default_graph().get_operations())
        return slope

    shape = tf.TensorSpec((None, 4, 4, channels)), tf.TensorSpec(())
    gradient.get_concrete_function(*shape)
    assert ("DepthwiseConv2dNativeBackpropFilter" in traced) == is_dot


@given(tensors, scales, st.integers(-128, 127))
def test_int8_equals_the_twin_of_its_codes(x, scale, zero_point):
    scale, zero_point = np.float32(scale), np.float32(zero_point)
    low, high = -128 - zero_point, 127 - zero_point
    actual = quantizers.fake_quantize_to_int8(*map(tf.constant, (x, scale, zero_point)))
    assert_same(actual, quantizers.fake_quantize_np(x, scale, low, high))


@pytest.mark.parametrize("zero_point", [-128, -3, 0, 127])
def test_int8_gradient_includes_both_edges_of_the_clip(zero_point):
    low, high = -128 - zero_point, 127 - zero_point
    steps = np.float32([low - 0.25, low - 2**-10, low, low + 0.3, high, high + 2**-10, 1e9, -1e9])
    _, gradient = gradients(
        lambda x: quantizers.fake_quantize_to_int8(x, 0.25, tf.constant(float(zero_point))),
        steps * 0.25,
    )
    assert_same(gradient, [0, 0, 1, 1, 1, 0, 0, 0])


def test_scale_gradient_outside_the_clip_is_the_finite_difference():
    x = np.float32([-5, -4, 7, 8, 9])

    def total(scale):
        return quantizers.fake_quantize_np(x, scale, -1, 3).sum()

    _, _, gradient = gradients(lambda x, s: quantizers.fake_quantize(x, s, -1, 3), x, 1.0)
    assert gradient == (total(1.125) - total(0.875)) / 0.25


def test_learned_scale_of_either_sign_gets_a_gradient():
    for sign in (1.0, -1.0):
        _, gradient = gradients(quantizers.positive, sign * 0.5)
        assert gradient == sign


def test_straight_through_is_the_value_with_the_others_gradient():
    x, value = np.float32([0.1, 0.2]), np.float32([0.3, 1e9])
    actual, gradient = gradients(lambda x: quantizers.straight_through(3 * x, value), x)
    assert_same(actual, value)
    assert_same(gradient, [3, 3])


def test_lsq_gradient_scale():
    assert lsq_gradient_scale(elements=25, levels=4) == 0.1


# Search for a scale.


@given(st_numpy.arrays(np.float32, 12, elements=reals), bit_widths)
def test_best_scale_is_positive_and_no_worse_than_covering_everything(x, bits):
    levels = quantizers.weight_levels(bits)
    best = best_scale_np(x, -levels, levels)
    assert best.dtype == np.float32
    assert best >= 2.0**-24
    covering = quantizers.positive_np(np.abs(x).max() / levels)

    def error(scale):
        return np.square(x - quantizers.fake_quantize_np(x, scale, -levels, levels)).mean()

    assert error(best) <= error(covering) * (1 + 1e-5) + 1e-12


@pytest.mark.parametrize("bits", range(2, 9))
def test_best_scale_of_values_on_a_grid_is_that_grid(bits):
    levels = quantizers.weight_levels(bits)
    x = np.arange(-levels, levels + 1, dtype=np.float32) * np.float32(0.25)
    assert best_scale_np(x, -levels, levels) == 0.25


@pytest.mark.parametrize("x", [np.zeros(4), -np.ones(4), np.zeros(0)])
def test_best_scale_without_anything_to_fit(x):
    best = best_scale_np(x, 0, 15)
    assert best == np.float32(1 / 15)
    assert best.dtype == np.float32


def test_best_scales_of_rows_without_values_are_one_for_each():
    best = best_scales_np(np.zeros((3, 0)), -7, 7)
    assert best.dtype == np.float32
    assert best.tolist() == [np.float32(1 / 7)] * 3


def best_of_clips(x, low, high, candidates):
    """The search in plain numbers: the first of the clips with the least error."""
    largest = np.float32(max(float(value) if low == 0 else abs(float(value)) for value in x))
    scales = [
        np.float32(np.float32(largest * np.float32(i)) / np.float32(candidates)) / np.float32(high)
        for i in range(1, candidates + 1)
    ]
    errors = []
    for scale in map(float, scales):
        codes = np.clip(np.floor(x.astype(np.float64) / scale + 0.5), low, high)
        errors.append(np.square(x - codes * scale).sum())
    return scales[int(np.argmin(errors))]


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (-7, 7), (-127, 127), (0, 1), (0, 15)])
def test_best_scale_is_the_best_of_64_clips(low, high):
    for seed in range(4):
        x = np.random.default_rng(seed).normal(-0.05, 0.2, 101).astype(np.float32)
        x[0] = -3.0  # Outweighs the others where magnitudes count, and is nothing to activations.
        assert best_scale_np(x, low, high) == best_of_clips(x, low, high, 64)
        for candidates in (1, 5, 65):
            expected = best_of_clips(x, low, high, candidates)
            assert best_scale_np(x, low, high, candidates) == expected
            assert best_scales_np(x[None], low, high, candidates).tolist() == [expected]


@pytest.mark.parametrize("value", [1e-12, 1e-38, 1e-45])
def test_best_scale_is_never_below_the_smallest(value):
    assert best_scale_np(np.float32([value, -value]), -127, 127) == np.float32(2.0**-24)


@pytest.mark.parametrize("size", [1, 27, 70_000])
def test_the_best_scales_of_rows_are_those_of_each_row(size: int) -> None:
    random = np.random.default_rng(size)
    rows = random.normal(size=(5, size)).astype(np.float32) * np.float32(
        [[0], [1e-3], [1], [2], [9]]
    )
    for low, high in ((-1, 1), (-127, 127), (0, 15)):
        expected = [best_scale_np(row, low, high) for row in rows]
        assert best_scales_np(rows, low, high).tolist() == expected
