"""Networks: published sizes, widening, names, and what is said about wrong arguments."""

import numpy as np
import pytest
import tf_keras as keras

from wrpn_tf import models
from wrpn_tf.models.layers import widen_filters

SHAPES = {"digits_cnn": (8, 8, 1)}


def build(arch: str, width: float = 1.0) -> keras.Model:
    return models.build(
        arch, width=width, num_classes=10, input_shape=SHAPES.get(arch, (32, 32, 3))
    )


# He et al. 2015, table 6, in millions. Their shortcuts have no parameters, so ours are not counted.
@pytest.mark.parametrize(("arch", "millions"), [("resnet20", 0.27), ("resnet32", 0.46)])
def test_parameter_counts_are_the_published_ones(arch: str, millions: float) -> None:
    model = build(arch)
    shortcuts = sum(layer.count_params() for layer in model.layers if "shortcut" in layer.name)
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert round((trainable - shortcuts) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("arch", "parameters"),
    [("digits_cnn", 10_730), ("resnet8", 78_714), ("resnet14", 176_378), ("resnet20", 274_042)],
)
def test_parameter_counts_are_those_of_the_docstrings(arch: str, parameters: int) -> None:
    assert build(arch).count_params() == parameters
    assert f"{parameters:,} parameters" in (models.ARCHITECTURES[arch].__doc__ or "")


@pytest.mark.parametrize("arch", models.ARCHITECTURES)
def test_depth_logits_and_layer_names(arch: str) -> None:
    model = build(arch, width=0.25)
    again = build(arch, width=0.25)
    assert [layer.name for layer in model.layers] == [layer.name for layer in again.layers]
    assert model.output_shape == (None, 10)
    assert model.layers[-1].activation is keras.activations.linear
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            assert not layer.use_bias
            assert layer.name.startswith(("conv", "stage")), layer.name
    if arch.startswith("resnet"):
        weighted = [
            layer
            for layer in model.layers
            if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))
            and "shortcut" not in layer.name
        ]
        assert len(weighted) == int(arch.removeprefix("resnet"))


def test_width_scales_every_convolution() -> None:
    narrow, wide = build("resnet20"), build("resnet20", width=2)
    for layer in narrow.layers:
        if isinstance(layer, keras.layers.Conv2D):
            assert wide.get_layer(layer.name).filters == 2 * layer.filters


@pytest.mark.parametrize(
    ("filters", "width", "expected"), [(16, 1.3, 21), (16, 0.25, 4), (1, 0.25, 1), (10, 0.25, 3)]
)
def test_filters_round_to_the_nearest(filters: int, width: float, expected: int) -> None:
    assert widen_filters(filters, width) == expected


@pytest.mark.parametrize("width", [0.2, 0, -1, float("nan"), float("inf")])
def test_width_out_of_range(width: float) -> None:
    with pytest.raises(ValueError, match=r"width must be a number of at least 0\.25"):
        build("resnet8", width=width)


def test_an_unknown_arch_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown arch 'vgg'; known: digits_cnn, resnet8"):
        build("vgg")


def test_depth_must_fit() -> None:
    from wrpn_tf.models.resnet_cifar import resnet_cifar

    with pytest.raises(ValueError, match="6n"):
        resnet_cifar(18)
