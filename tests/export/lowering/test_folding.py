"""Folding: what a kernel's accumulator becomes, in the numbers that were trained."""

import types

import numpy as np
import pytest
import small_networks
import tf_keras as keras
from equality import assert_same
from tf_keras import layers

import export
import wrpn_tf
from export.ir.operators import (
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
    TransposeConv2D,
)
from export.kernel_sets import ideal
from export.lowering import folding

CHANNELS = 4
BIAS = np.float32([0.1, -0.2, 0.3, -0.4])
GAMMA = np.float32([1.3, -0.7, 0.0, 0.1])
BETA = np.float32([0.2, 0.1, -0.3, 0.7])
MEAN = np.float32([-0.6, 0.1, 0.3, 0.9])
VARIANCE = np.float32([0.5, 2.0, 0.0, 0.3])


def numbers(values) -> list[float]:
    """Trained float32 numbers, as they are in float64."""
    return np.asarray(values, np.float32).astype(np.float64).tolist()


def normalization(**options) -> keras.layers.Layer:
    layer = layers.BatchNormalization(**options)
    layer.build((None, 3, 3, CHANNELS))
    for name, values in (("gamma", GAMMA), ("beta", BETA)):
        if getattr(layer, name) is not None:
            getattr(layer, name).assign(values)
    layer.moving_mean.assign(MEAN)
    layer.moving_variance.assign(VARIANCE)
    return layer


def convolution(use_bias: bool = True) -> keras.layers.Layer:
    layer = layers.Conv2D(CHANNELS, 1, use_bias=use_bias)
    layer.build((None, 3, 3, 2))
    if use_bias:
        layer.bias.assign(BIAS)
    return layer


def fields(affine) -> dict[str, list[float]]:
    return {
        name: getattr(affine, name).tolist() for name in ("gain", "shift", "variance", "offset")
    }


def test_no_layer_changes_nothing():
    assert fields(folding.identity(3)) == {
        "gain": [1, 1, 1],
        "shift": [0, 0, 0],
        "variance": [1, 1, 1],
        "offset": [0, 0, 0],
    }


def test_a_bias_is_an_offset():
    plain = fields(folding.identity(CHANNELS))
    assert fields(folding.own_bias(convolution(), CHANNELS)) == plain | {"offset": numbers(BIAS)}
    assert fields(folding.own_bias(convolution(False), CHANNELS)) == plain


@pytest.mark.parametrize("before", [None, False, True], ids=["alone", "bare", "bias"])
def test_batch_normalization_is_kept_in_the_numbers_that_were_trained(before):
    """Sums of float32 numbers in float64, where they are exact; epsilon as Keras adds it."""
    kernel = None if before is None else convolution(before)
    bias = BIAS.astype(np.float64) if before else np.zeros(CHANNELS)
    assert fields(folding.affine(normalization(), CHANNELS, kernel)) == {
        "gain": numbers(GAMMA),
        "shift": (bias - MEAN.astype(np.float64)).tolist(),
        "variance": (VARIANCE.astype(np.float64) + np.float64(np.float32(1e-3))).tolist(),
        "offset": numbers(BETA),
    }


def test_batch_normalization_without_a_scale_or_a_center():
    bare = normalization(scale=False, center=False, epsilon=0.25)
    found = fields(folding.affine(bare, CHANNELS))
    assert (found["gain"], found["offset"]) == ([1] * CHANNELS, [0] * CHANNELS)
    assert found["variance"] == (VARIANCE.astype(np.float64) + 0.25).tolist()


@pytest.mark.parametrize("before", [None, False, True], ids=["alone", "bare", "bias"])
@pytest.mark.parametrize(
    ("scale", "offset"), [(0.3, -0.7), ([0.1, -0.2, 0.0, 0.4], [0.5, 0.6, 0.7, 0.8])]
)
def test_a_rescaling_multiplies_the_bias_before_it(scale, offset, before):
    kernel = None if before is None else convolution(before)
    found = folding.affine(layers.Rescaling(scale, offset), CHANNELS, kernel)
    assert fields(found) == {
        "gain": numbers(np.broadcast_to(scale, CHANNELS)),
        "shift": numbers(BIAS) if before else [0] * CHANNELS,
        "variance": [1] * CHANNELS,
        "offset": numbers(np.broadcast_to(offset, CHANNELS)),
    }


SOURCE = wrpn_tf.QuantizationParameters(scale=0.5, low=0, high=3, bits=2)


def test_parameters_are_what_follows_and_the_scale_and_digest_of_the_codes():
    codes = np.array([[1, -2], [3, 0]], np.int8)
    affine = folding.Affine(
        gain=np.array([1.5, -2]),
        shift=np.array([0.25, 3]),
        variance=np.array([4, 0.5]),
        offset=np.array([-7, 8.0]),
    )
    found = folding.parameters(codes, np.array([0.125, 0.5]), affine, SOURCE)
    for name, values in fields(affine).items():
        assert found[name].tolist() == values
    assert found["scale"].tolist() == [0.125, 0.5]
    assert found["digest"].tolist() == [ideal.digest(row) for row in codes]
    affine.variance[1] = 0
    with pytest.raises(ValueError, match="a gain or offset is not finite"):
        folding.parameters(codes, np.ones(2), affine, SOURCE)


WINDOW = {"strides": (2, 1), "padding": "SAME", "dilation": (1, 1)}
FORMS = {
    "convolution": (
        lambda: layers.Conv2D(4, (2, 3), (2, 1), padding="same"),
        *((2, 3, 5, 4), (1, 1, 1, 4), Conv2D, WINDOW),
    ),
    "dilated": (
        lambda: layers.Conv2D(4, (2, 1), dilation_rate=(1, 3)),
        *((2, 1, 5, 4), (), Conv2D),
        {"strides": (1, 1), "padding": "VALID", "dilation": (1, 3)},
    ),
    "grouped": (
        lambda: layers.Conv2D(4, (2, 3), (2, 1), padding="same", groups=2),
        *((2, 3, 1, 4), (1, 1, 1, 4), GroupedConv2D, WINDOW),
    ),
    "depthwise": (
        lambda: layers.DepthwiseConv2D((2, 3), (2, 2), padding="same", depth_multiplier=2),
        *((2, 3, 2, 2), (1, 1, 2, 2), DepthwiseConv2D, WINDOW | {"strides": (2, 2)}),
    ),
    "transposed": (
        lambda: layers.Conv2DTranspose(4, (2, 3), (2, 1), padding="same"),
        *((2, 3, 4, 5), (1, 1, 4, 1), TransposeConv2D),
        {"strides": (2, 1), "padding": "SAME"},
    ),
    "one tap": (
        lambda: layers.DepthwiseConv2D(1, depth_multiplier=2),
        *((1, 1, 2, 2), (1, 1, 2, 2), DepthwiseConv2D),
        {"strides": (1, 1), "padding": "VALID", "dilation": (1, 1)},
    ),
    "dense": (lambda: layers.Dense(4), (5, 4), (1, 4), FullyConnected, {}),
}


@pytest.mark.parametrize(("layer", "shape", "scales", "form", "window"), FORMS.values(), ids=FORMS)
def test_kernels_are_rows_of_taps_for_each_channel(layer, shape, scales, form, window):
    layer = layer()
    codes = (np.arange(np.prod(shape)) % 7 - 3).reshape(shape)
    scale = 0.5 + np.arange(np.prod(scales)).reshape(scales)
    channels_first = {
        DepthwiseConv2D: lambda: [codes[:, :, c // 2, c % 2] for c in range(4)],
        TransposeConv2D: lambda: [codes[:, :, c, :] for c in range(4)],
    }.get(form, lambda: [codes[..., c] for c in range(4)])
    rows = np.array([channel.ravel() for channel in channels_first()])
    kernel = types.SimpleNamespace(codes=codes, scale=scale, bits=3)
    affine = folding.Affine(
        gain=np.arange(1.0, 5), shift=np.zeros(4), variance=np.ones(4), offset=np.zeros(4)
    )
    view = types.SimpleNamespace(layer=layer)
    found = folding.trained_kernel(view, kernel, affine, SOURCE)
    parameters, stored = found.pop("parameters"), found.pop("codes")
    assert stored.dtype == np.int8 and stored.flags["C_CONTIGUOUS"]
    assert_same(stored, rows.astype(np.int8))
    size = (1, 1) if form is FullyConnected else shape[:2]
    assert found == {"form": form, "window": size, "bits": 3} | window
    assert parameters["scale"].tolist() == ([0.5, 1.5, 2.5, 3.5] if scales else [0.5] * 4)
    assert parameters["gain"].tolist() == [1, 2, 3, 4]
    assert parameters["digest"].tolist() == [ideal.digest(row) for row in rows]


@pytest.fixture(name="image_codes", scope="module")
def image_codes_fixture() -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, (8, 6, 6, 4)).astype(np.int8)


def folded(kernel: keras.layers.Layer, *after: keras.layers.Layer) -> keras.Model:
    """A kernel and what is folded into it, linear, on a quantized input and output."""
    image = x = keras.Input((6, 6, 4), name="image")
    for layer in (kernel, *after):
        x = layer(x)
    model = keras.Model(image, x)
    random = np.random.default_rng(1)
    kernel.set_weights([random.normal(0, 0.5, w.shape) for w in kernel.get_weights()])
    for layer in after:
        if isinstance(layer, layers.BatchNormalization):
            trained = [GAMMA, BETA, MEAN, np.maximum(VARIANCE, 0.1)]
            layer.set_weights(trained)
    rules = [wrpn_tf.Rule(layer_class=type(kernel), weight_bits=4)]  # Not the last layer's 8.
    return small_networks.quantize(model, 0, activation_bits=8, rules=rules)


def difference(model: keras.Model, codes: np.ndarray) -> np.ndarray:
    """Output codes of the graph less those of Keras."""
    graph = export.lower(model)
    found = export.execute(graph, {graph.inputs[0]: codes})[graph.outputs[0]]
    grid = graph.tensors[graph.outputs[0]].quantization
    reals = model(small_networks.reals(codes), training=False).numpy()
    expected = np.rint(reals / np.float32(grid.scale)) + grid.zero_point
    assert len(np.unique(expected)) > 100
    return found - expected


AFTER = {
    "bias": lambda: [],
    "normalization": lambda: [layers.BatchNormalization()],
    "rescaling": lambda: [layers.Rescaling(0.5, 0.25)],
    "negative rescaling": lambda: [layers.Rescaling([-0.5, 0.3, -1.5, 1.0], [0.1, 0.2, 0.3, -0.4])],
}
KERNEL_SETS = {
    "convolution": lambda: layers.Conv2D(CHANNELS, 3),
    "depthwise": lambda: layers.DepthwiseConv2D(3),
    "transposed": lambda: layers.Conv2DTranspose(CHANNELS, 3),
}


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("kernel", KERNEL_SETS)
def test_what_is_folded_is_computed(kernel, after, image_codes):
    """All codes but for a few next to a tie, of a graph with nothing but the one operator."""
    model = folded(KERNEL_SETS[kernel](), *AFTER[after]())
    graph = export.lower(model)
    assert len(graph.operators) == 1
    gaps = difference(model, image_codes)
    assert np.abs(gaps).max() <= 1
    assert np.count_nonzero(gaps) <= 0.01 * gaps.size


def test_a_gain_of_0_gives_its_offset_and_a_negative_one_negates_the_codes(image_codes):
    model = folded(layers.Conv2D(CHANNELS, 3, use_bias=False), layers.BatchNormalization())
    graph = export.realize(export.lower(model))
    (operator,) = graph.operators
    (trained,) = (view.kernel for view in wrpn_tf.view(model) if view.kernel)
    rows = np.moveaxis(trained.codes, -1, 0)
    assert operator.code_multiplier == 18  # 7 of 127.
    for channel, sign in enumerate([1, -1, 0, 1]):
        assert_same(operator.kernel[channel], sign * 18 * rows[channel])
    output = graph.tensors[graph.outputs[0]].quantization
    found = export.execute(graph, {graph.inputs[0]: image_codes})[graph.outputs[0]][..., 2]
    constant = np.floor(float(BETA[2]) / output.scale + 0.5) + output.zero_point
    assert_same(np.unique(found), [constant])


@pytest.mark.parametrize("scale", [-0.7, 0.3, 1.9])
def test_a_gain_before_a_kernel_is_in_its_scale(scale, image_codes):
    """Where a rescaling of an input has no grid, the kernel behind it computes with its codes."""
    image = keras.Input((6, 6, 4), name="image")
    x = layers.Conv2D(CHANNELS, 3, name="conv")(layers.Rescaling(scale, name="gain")(image))
    model = keras.Model(image, x)
    small_networks.randomize(model, 0)
    model = small_networks.quantize(model, 0, weight_bits=4, activation_bits=8)
    gaps = difference(model, image_codes)
    assert np.abs(gaps).max() <= 1
    assert np.count_nonzero(gaps) <= 0.01 * gaps.size


def test_a_variance_that_is_not_finite_is_named():
    model = folded(layers.Conv2D(CHANNELS, 3), layers.BatchNormalization(name="bn"))
    (view,) = (view for view in wrpn_tf.view(model) if view.name.endswith("bn"))
    view.layer.moving_variance.assign([1, np.nan, 1, 1])
    with pytest.raises(export.LoweringError, match=r"bn.*a gain or offset is not finite"):
        export.lower(model)
