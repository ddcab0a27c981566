"""Networks: published sizes, widening, names, and what is said about wrong arguments."""

import functools

import numpy as np
import pytest
import tf_keras as keras

import export
import wrpn_tf
from wrpn_tf import models
from wrpn_tf.models.layers import widen_filters

SMALL = {"digits_cnn": (8, 8, 1), "alexnet": (44, 44, 3)}  # The smallest images, if not 32x32x3.


@functools.cache
def build(arch: str) -> keras.Model:
    return models.skeleton(arch)


def narrow(arch: str) -> keras.Model:
    shape = SMALL.get(arch, (32, 32, 3))
    return models.build(arch, width=0.25, num_classes=3, input_shape=shape)


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def parameters(model: keras.Model, part: str) -> int:
    """Trainable parameters of the layers with `part` in their name."""
    return sum(
        int(np.prod(variable.shape))
        for layer in model.layers
        if part in layer.name
        for variable in layer.trainable_variables
    )


def documentation(arch: str) -> str:
    builder = models.ARCHITECTURES[arch]
    return getattr(builder, "func", builder).__doc__ or ""


PUBLISHED = {
    # torchvision's table of models (docs.pytorch.org/vision/stable/models.html).
    "resnet18_post": 11_689_512,
    "resnet34_post": 21_797_672,
    "resnet50_post": 25_557_032,
    "resnet101_post": 44_549_160,
    "mobilenet_v2": 3_504_872,
    # tf_keras.applications.MobileNet: 4,253,864 parameters, 21,888 of them moving statistics.
    "mobilenet_v1": 4_253_864 - 21_888,
}


@pytest.mark.parametrize("arch", PUBLISHED)
def test_parameters_are_the_published_ones(arch):
    assert trainable(build(arch)) == PUBLISHED[arch]


def test_alexnet_differs_from_the_original_as_documented():
    original = 60_965_224  # Caffe's bvlc_alexnet, grouped, with biases.
    biases = 96 + 256 + 384 + 384 + 256 + 4096 + 4096  # The classifier keeps its own.
    larger_kernel = (12**2 - 11**2) * 3 * 96
    other_groups = 5**2 * 48 * 256 + 3**2 * 192 * 384 + 3**2 * 192 * 256
    normalization = 2 * biases
    assert trainable(build("alexnet")) == (
        original - biases + larger_kernel + other_groups + normalization
    )


def test_bn_inception_differs_from_the_published_model_by_its_biases():
    published = 11_295_240  # Cadene's pretrained-models.pytorch, converted from Caffe's.
    biases = parameters(build("bn_inception"), "_bn_") // 2
    biases += sum(parameters(build("bn_inception"), name) for name in ("bn1", "bn2")) // 2
    assert trainable(build("bn_inception")) == published - biases


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_preactivation_differs_by_its_normalizations_only(depth):
    post, pre = build(f"resnet{depth}_post"), build(f"resnet{depth}")
    normalizations = parameters(post, "bn"), parameters(pre, "bn")
    assert trainable(post) - normalizations[0] == trainable(pre) - normalizations[1]


# He et al. 2015, table 6, in millions. Their shortcuts have no parameters, so ours are not counted.
@pytest.mark.parametrize(
    ("arch", "millions"), [("resnet20", 0.27), ("resnet32", 0.46), ("resnet56", 0.85)]
)
def test_cifar_parameters_are_the_published_ones(arch, millions):
    model = build(arch)
    assert round((trainable(model) - parameters(model, "shortcut")) / 1e6, 2) == millions


@pytest.mark.parametrize("arch", models.ARCHITECTURES)
def test_the_docstring_has_the_parameters(arch):
    assert f"{trainable(build(arch)):,}" in documentation(arch)


FMAS = {
    # torchvision's table of models, GFLOPS (multiply-adds).
    "resnet18": (1.81, 1e9),
    "resnet34": (3.66, 1e9),
    "resnet50": (4.09, 1e9),
    "resnet101": (7.80, 1e9),
    "mobilenet_v2": (300, 1e6),  # Table 4 of its paper. (torchvision: 0.30 G.)
    "mobilenet_v1": (569, 1e6),  # Table 8 of its paper.
}


@pytest.mark.parametrize("arch", FMAS)
def test_multiply_adds_are_the_published_ones(arch):
    value, unit = FMAS[arch]
    digits = 2 if unit == 1e9 else 0
    fmas = wrpn_tf.measure_cost(build(arch)).fmas
    tolerance = 1 if arch == "mobilenet_v2" else 0  # 300.77 M; "300M" has one digit or three.
    assert abs(round(fmas / unit, digits) - value) <= tolerance


@pytest.mark.parametrize("arch", models.ARCHITECTURES)
def test_names_logits_and_depth(arch):
    model = build(arch)
    assert model.name == arch
    assert model.layers[-1].name == "logits"
    assert model.layers[-1].activation is keras.activations.linear
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    for layer in convolutions:
        assert not layer.use_bias
        assert "conv" in layer.name
    if arch.startswith("resnet"):
        depth = int(arch.removeprefix("resnet").split("_")[0])
        assert sum("shortcut" not in layer.name for layer in convolutions) + 1 == depth


@pytest.mark.parametrize("arch", ["resnet8", "alexnet", "vgg_small", "mobilenet_v1"])
def test_width_scales_every_layer_but_the_last(arch):
    once, twice = build(arch), models.skeleton(arch, width=2)
    assert [layer.name for layer in once.layers] == [layer.name for layer in twice.layers]
    for layer in once.layers[:-1]:
        for attribute in ("filters", "units"):
            if getattr(layer, attribute, None) and type(layer) is not keras.layers.DepthwiseConv2D:
                size = getattr(twice.get_layer(layer.name), attribute)
                assert size == 2 * getattr(layer, attribute)
    assert twice.layers[-1].units == once.layers[-1].units


def test_a_skeleton_has_no_values_and_leaves_models_that_are_there_alone():
    image = keras.Input((4, 4, 2))
    model = keras.Model(image, keras.layers.ReLU()(keras.layers.Conv2D(2, 1)(image)))
    kernel = models.skeleton("digits_cnn").get_layer("conv1").kernel
    assert kernel.shape == (3, 3, 1, 16)
    assert not kernel.is_initialized()
    assert model(np.zeros((1, 4, 4, 2), np.float32)).shape == (1, 4, 4, 2)


def test_the_first_convolution_of_an_imagenet_resnet_is_not_widened():
    filters = {
        width: models.skeleton("resnet18", width=width).get_layer("conv1").filters
        for width in (0.5, 1, 2)
    }
    assert filters == {0.5: 32, 1: 64, 2: 64}


# The deeper ResNets repeat the blocks of these.
@pytest.mark.parametrize(
    "arch",
    [
        "digits_cnn",
        "resnet8",
        "resnet8_pre",
        "vgg_small",
        "alexnet",
        "bn_inception",
        "resnet18",
        "resnet18_post",
        "resnet50",
        "resnet50_post",
        "mobilenet_v1",
        "mobilenet_v2",
    ],
)
def test_narrow_networks_quantize_and_lower(arch):
    model = narrow(arch)
    quantized = wrpn_tf.quantize_model(model, 2, 4, input_range=(-1, 1))
    images = np.random.default_rng(0).uniform(-1, 1, (2, *model.input_shape[1:]))
    wrpn_tf.calibrate(quantized, [images.astype(np.float32)])
    assert export.lower(quantized).operators


@pytest.mark.parametrize("arch", ["digits_cnn", "resnet8_pre"])
def test_networks_of_both_kerases_lower_to_the_same_operators(arch):
    shape = SMALL.get(arch, (32, 32, 3))
    found = []
    for front in ("keras", "tf_keras"):
        model = models.build(arch, width=0.25, num_classes=3, input_shape=shape, front=front)
        quantized = wrpn_tf.quantize_model(model, 2, 4, input_range=(-1, 1))
        wrpn_tf.calibrate(quantized, [np.linspace(-1, 1, 2 * np.prod(shape)).reshape(2, *shape)])
        graph = export.lower(quantized)
        found.append([(type(op).__name__, op.output) for op in graph.operators])
    assert found[0] == found[1] != []


@pytest.mark.parametrize("arch", ["digits_cnn", "alexnet", "bn_inception", "resnet8_pre"])
def test_both_kerases_build_the_same_network(arch):
    shape = SMALL.get(arch, (32, 32, 3))
    new, old = (
        models.build(arch, width=0.25, num_classes=3, input_shape=shape, front=front)
        for front in ("keras", "tf_keras")
    )
    assert isinstance(old, keras.Model) and not isinstance(new, keras.Model)
    assert [layer.name for layer in new.layers] == [layer.name for layer in old.layers]
    new.set_weights(old.get_weights())
    images = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype(np.float32)
    expected = old.predict(images, verbose=0)
    np.testing.assert_allclose(new.predict(images, verbose=0), expected, rtol=1e-4, atol=1e-5)


def test_an_unknown_front_lists_the_known_ones():
    with pytest.raises(ValueError, match="front must be one of keras, tf_keras, not 'torch'"):
        models.build("resnet8", front="torch")


@pytest.mark.parametrize(
    ("filters", "width", "expected"),
    # 56.5 in decimals, less in binary.
    [(16, 1.3, 21), (16, 0.25, 4), (1, 0.25, 1), (10, 0.25, 3), (50, 1.13, 57)],
)
def test_filters_round_to_the_nearest(filters, width, expected):
    assert widen_filters(filters, width) == expected


@pytest.mark.parametrize("width", [0.2, 0, -1, float("nan"), float("inf")])
def test_width_out_of_range(width):
    with pytest.raises(ValueError, match=r"width must be a number of at least 0\.25"):
        models.build("resnet8", width=width)


def test_an_unknown_arch_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown arch 'vgg'; known: digits_cnn, resnet8"):
        models.build("vgg")


def test_there_are_classes():
    with pytest.raises(ValueError, match="num_classes must be at least 1, not 0"):
        models.build("resnet8", num_classes=0)


def test_depth_must_fit():
    with pytest.raises(ValueError, match="6n"):
        models.resnet_cifar(18)
    with pytest.raises(ValueError, match="depth must be one of 18, 34, 50, 101, not 20"):
        models.resnet(20)


def test_alexnet_says_how_large_images_must_be():
    with pytest.raises(ValueError, match="at least 44x44 pixels, not 43x64"):
        models.build("alexnet", input_shape=(43, 64, 3))
