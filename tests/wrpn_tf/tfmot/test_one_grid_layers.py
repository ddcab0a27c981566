"""Average pooling and bilinear upsampling on a grid against integer arithmetic."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from equality import assert_same

from wrpn_tf import ActivationQuantizer, RangeQuantizer
from wrpn_tf.tfmot.one_grid_layers import QuantizedAveragePooling2D, QuantizedUpSampling2D


def pool_codes(codes, zero_point, window, strides, padding):
    """TFLite's AVERAGE_POOL_2D on int8: the mean of what is not padding, halves from zero."""
    codes = codes.astype(np.int64) + zero_point
    _, height, width, _ = codes.shape
    starts = []
    for size, kernel, stride in zip((height, width), window, strides, strict=True):
        if padding == "valid":
            starts.append(range(0, size - kernel + 1, stride))
        else:
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            starts.append(range(-(total // 2), size - total // 2, stride))
            starts[-1] = starts[-1][: -(-size // stride)]
    rows = []
    for top in starts[0]:
        row = []
        for left in starts[1]:
            patch = codes[:, max(top, 0) : top + window[0], max(left, 0) : left + window[1]]
            count = patch.shape[1] * patch.shape[2]
            total = patch.sum(axis=(1, 2))
            row.append(np.sign(total) * ((2 * np.abs(total) + count) // (2 * count)))
        rows.append(np.stack(row, axis=1))
    return np.stack(rows, axis=1) - zero_point


def check(quantizer, assign, shape, window, strides, padding):
    layer = QuantizedAveragePooling2D(quantizer, window, strides, padding)
    layer.build((None, *shape[1:]))
    for name, value in assign.items():
        layer.quantizer_vars[name].assign(value)
    grid = layer.grid()
    random = np.random.default_rng(0)
    codes = random.integers(grid.low, grid.high + 1, shape)
    x = codes.astype(np.float32) * np.float32(grid.scale)
    expected = pool_codes(codes, grid.zero_point, window, strides, padding)
    for call in (layer, tf.function(layer)):
        actual = call(tf.constant(x)).numpy()
        assert_same(np.rint(actual / np.float32(grid.scale)).astype(int), expected)
        assert_same(actual, expected.astype(np.float32) * np.float32(grid.scale))
    assert layer.compute_output_shape(shape) == actual.shape


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("window", "strides"), [((2, 2), (2, 2)), ((3, 3), (1, 1)), ((3, 2), (2, 1))]
)
@pytest.mark.parametrize("bits", range(1, 9))
def test_activations_pool_like_the_integer_kernel(bits, window, strides, padding):
    check(ActivationQuantizer(bits), {"scale": 0.1}, (2, 7, 6, 3), window, strides, padding)


@pytest.mark.parametrize("minimum", [-1.0, -0.3, 0.0])
@pytest.mark.parametrize("window", [(2, 2), (3, 3)])
def test_ranges_pool_like_the_integer_kernel(minimum, window):
    bounds = {"minimum": minimum, "maximum": 1.3}
    check(RangeQuantizer(), bounds, (2, 6, 6, 3), window, window, "same")


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("size", [16, 32])
def test_global_windows_pool_like_the_integer_kernel(bits, size):
    window = (size, size)
    check(ActivationQuantizer(bits), {"scale": 0.037}, (4, size, size, 32), window, window, "valid")


@pytest.mark.parametrize(
    ("bits", "window"),
    [
        (4, (65, 65)),  # A mean may be 1 / 8450 away from a tie.
        (4, (66, 64)),  # Or on it.
        (8, (512, 512)),  # float32 loses more than a code in sums of so many.
    ],
)
def test_means_of_thousands_of_codes_beside_a_tie(bits, window):
    count, scale = window[0] * window[1], np.float32(0.1)
    low, high = 2**bits - 2, 2**bits - 1
    ones = count // 2 + np.arange(-1, 3)  # So many codes of a window are `high`, the others `low`.
    codes = np.where(np.arange(count)[:, None] < ones, high, low).reshape(1, *window, ones.size)
    layer = QuantizedAveragePooling2D(ActivationQuantizer(bits), window, window)
    layer.build((None, *codes.shape[1:]))
    layer.quantizer_vars["scale"].assign(scale)
    x = codes.astype(np.float32) * scale
    expected = pool_codes(codes, 127 - high, window, window, "valid")
    assert set(expected.ravel()) == {low, high}
    for call in (layer, tf.function(layer)):
        assert_same(call(tf.constant(x)).numpy(), expected.astype(np.float32) * scale)


def test_inputs_are_put_on_the_grid_first():
    layer = QuantizedAveragePooling2D(ActivationQuantizer(2), (1, 1), (1, 1))
    layer.build((None, 1, 1, 4))
    layer.quantizer_vars["scale"].assign(1.0)
    x = np.float32([-1, 0.5, 1.4, 9]).reshape(1, 1, 1, 4)
    assert_same(layer(x).numpy().ravel(), [0, 1, 1, 3])


def test_gradient_is_that_of_float_pooling_inside_the_clip():
    layer = QuantizedAveragePooling2D(ActivationQuantizer(4), (2, 2), (2, 2))
    x = tf.random.stateless_uniform((1, 4, 4, 2), (0, 1))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        total = tf.reduce_sum(layer(x))
        float_total = tf.reduce_sum(tf.nn.avg_pool2d(x, 2, 2, "VALID"))
    assert_same(tape.gradient(total, x), tape.gradient(float_total, x))
    assert tape.gradient(total, layer.trainable_variables)[0] is not None


def test_observed_values_pass_unquantized():
    seen = []
    layer = QuantizedAveragePooling2D(ActivationQuantizer(1), (2, 2), (2, 2))
    x = tf.random.stateless_uniform((1, 4, 4, 2), (0, 1))
    layer.build(x.shape)
    layer.quantizer.observer = seen.append
    assert_same(layer(x), tf.nn.avg_pool2d(x, 2, 2, "VALID"))
    assert_same(seen[0], x)


def test_a_range_that_saw_no_data_pools_in_float():
    layer = QuantizedAveragePooling2D(RangeQuantizer(), (2, 2), (2, 2))
    x = tf.random.stateless_uniform((1, 4, 4, 2), (0, 1), minval=-1)
    np.testing.assert_allclose(layer(x), tf.nn.avg_pool2d(x, 2, 2, "VALID"), atol=1e-6)
    assert layer.grid() is None


def test_configuration_round_trip():
    layer = QuantizedAveragePooling2D(ActivationQuantizer(3, "paper"), (2, 3), (1, 2), "same")
    copy = QuantizedAveragePooling2D.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert isinstance(copy, keras.layers.Layer)


def interpolate(codes, axis, factor):
    """Along one axis, in units of ``1 / (2 * factor)``; pixel centers, edges repeated."""
    rows = []
    for index in range(codes.shape[axis] * factor):
        before, share = divmod(2 * index + 1 - factor, 2 * factor)
        one, other = (
            codes.take(min(max(place, 0), codes.shape[axis] - 1), axis)
            for place in (before, before + 1)
        )
        rows.append(one * (2 * factor - share) + other * share)
    return np.stack(rows, axis)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 4), (8, 2), (64, 64)])
@pytest.mark.parametrize(
    ("quantizer", "assign"),
    [
        (ActivationQuantizer(1), {"scale": 0.3}),
        (ActivationQuantizer(4), {"scale": 0.1}),
        (ActivationQuantizer(8), {"scale": 0.037}),
        (RangeQuantizer(), {"minimum": -0.3, "maximum": 1.3}),
    ],
)
def test_upsampling_interpolates_like_the_integer_kernel(quantizer, assign, size):
    layer = QuantizedUpSampling2D(quantizer, size)
    shape = (2, 5, 4, 3)
    layer.build((None, *shape[1:]))
    for name, value in assign.items():
        layer.quantizer_vars[name].assign(value)
    grid = layer.grid()
    codes = np.random.default_rng(0).integers(grid.low, grid.high + 1, shape)
    divisor = 4 * size[0] * size[1]
    total = interpolate(interpolate(codes, 1, size[0]), 2, size[1])
    expected = (2 * total + divisor) // (2 * divisor)
    x = tf.constant(codes.astype(np.float32) * np.float32(grid.scale))
    for call in (layer, tf.function(layer)):
        actual = call(x).numpy()
        assert_same(actual, expected.astype(np.float32) * np.float32(grid.scale))
    assert layer.compute_output_shape(shape) == actual.shape
    copy = QuantizedUpSampling2D.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()


def test_gradient_is_that_of_float_upsampling_inside_the_clip():
    layer = QuantizedUpSampling2D(ActivationQuantizer(4), (2, 2))
    x = tf.random.stateless_uniform((1, 3, 3, 2), (0, 1))
    weight = tf.random.stateless_uniform((1, 6, 6, 2), (0, 2))
    plain = keras.layers.UpSampling2D(2, interpolation="bilinear")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        total, float_total = (tf.reduce_sum(each(x) * weight) for each in (layer, plain))
    assert_same(tape.gradient(total, x), tape.gradient(float_total, x))
    assert tape.gradient(total, layer.trainable_variables)[0] is not None
