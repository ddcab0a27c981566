"""Decomposition: what each part is, where it stands and where its weights come from."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from small_models import images, randomize
from tf_keras import layers
from tf_keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from wrpn_tf.graph.decomposition import decomposed
from wrpn_tf.graph.roles import Kind
from wrpn_tf.tfmot import traversal
from wrpn_tf.tfmot.own_layers import NAMESPACE, Clip


def network_of(*stack, shape=(6, 6, 3)):
    model = randomize(keras.Sequential([layers.InputLayer(shape, name="image"), *stack]))
    return model, decomposed(traversal.read(model), layers)


def facts(network):
    return [(node.name, node.kind, node.inputs) for node in network.nodes[1:]]


@pytest.mark.parametrize(
    ("activation", "parts"),
    [
        ("relu", [("conv_relu", Kind.RELU, ("conv",))]),
        ("relu6", [("conv_relu6", Kind.RELU, ("conv",))]),
        ("softmax", [("conv_softmax", Kind.SOFTMAX, ("conv",))]),
        (
            "swish",
            [
                ("conv_swish_sigmoid", Kind.SIGMOID, ("conv",)),
                ("conv_swish", Kind.MULTIPLY, ("conv", "conv_swish_sigmoid")),
            ],
        ),
        (
            "tanh",
            [
                ("conv_tanh_twice", Kind.AFFINE, ("conv",)),
                ("conv_tanh_sigmoid", Kind.SIGMOID, ("conv_tanh_twice",)),
                ("conv_tanh", Kind.AFFINE, ("conv_tanh_sigmoid",)),
            ],
        ),
        (
            "hard_sigmoid",
            [
                ("conv_hard_sigmoid_line", Kind.AFFINE, ("conv",)),
                ("conv_hard_sigmoid", Kind.RELU, ("conv_hard_sigmoid_line",)),
            ],
        ),
    ],
)
def test_a_fused_activation_becomes_nodes(activation, parts):
    model, network = network_of(
        layers.Conv2D(4, 3, activation=activation, name="conv"), layers.MaxPooling2D(name="pool")
    )
    assert facts(network) == [
        ("conv", Kind.KERNEL, ("image",)),
        *parts,
        ("pool", Kind.PASS, (parts[-1][0],)),
    ]
    for node in network.nodes[1:-1]:
        assert node.part_of == "conv"
        assert node.shape == (None, 4, 4, 4)
        assert node.origin is model.get_layer("conv")
        assert node.weights == ((0, 1) if node.kind is Kind.KERNEL else ())
    data = images(model)
    np.testing.assert_allclose(traversal.build(network)(data), model(data), rtol=1e-5, atol=1e-6)
    assert traversal.build(network).get_layer("conv").activation is keras.activations.linear


@pytest.mark.parametrize(
    ("activation", "parts"),
    [
        (layers.ReLU(0.5), [("conv_relu", Kind.RELU, ("conv",))]),
        (layers.Activation("relu6"), [("conv_activation", Kind.RELU, ("conv",))]),
        (
            layers.LeakyReLU(0.25),
            [
                ("conv_leakyrelu_slope", Kind.AFFINE, ("conv",)),
                ("conv_leakyrelu", Kind.CONCATENATE, ("conv", "conv_leakyrelu_slope")),
            ],
        ),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_a_layer_that_is_the_activation_of_another_becomes_nodes(activation, parts, own):
    stack = [layers.Conv2D(4, 3, activation=activation, name="conv")]
    if own:
        stack = [layers.Conv2D(4, 3, name="conv"), layers.Activation(activation, name="conv_act")]
        last = parts[-1][0]
        parts = [tuple(_renamed(value, last, "conv_act") for value in part) for part in parts]
    model, network = network_of(*stack)
    assert facts(network) == [("conv", Kind.KERNEL, ("image",)), *parts]
    data = images(model)
    np.testing.assert_allclose(traversal.build(network)(data), model(data), rtol=1e-5, atol=1e-6)


def _renamed(value, old, new):
    if isinstance(value, tuple):
        return tuple(_renamed(each, old, new) for each in value)
    return value.replace(old, new) if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("layer", "parts"),
    [
        (layers.ReLU(negative_slope=0.5), ["Rescaling", "Maximum"]),
        (layers.ReLU(0.25, 0.5), ["ReLU", "Rescaling", "ReLU", "Subtract"]),
        (Clip(-0.25, 0.5), ["Rescaling", "ReLU", "Rescaling"]),
        (Clip(0.25, None), ["Rescaling", "ReLU", "Rescaling"]),
        (Clip(None, -0.25), ["Rescaling", "ReLU", "Rescaling"]),
        (layers.CenterCrop(3, 6), ["Cropping2D"]),
        (layers.Resizing(6, 6), ["Identity"]),
        (layers.Resizing(12, 24), ["UpSampling2D"]),
        (layers.Resizing(12, 18, "nearest"), ["UpSampling2D"]),
        (layers.Resizing(3, 2), ["Cropping2D", "AveragePooling2D"]),
        (layers.Resizing(6, 3), ["AveragePooling2D"]),
        (layers.Resizing(2, 6), ["Cropping2D", "MaxPooling2D"]),
        (layers.Resizing(3, 1, "nearest"), ["Cropping2D", "MaxPooling2D"]),
        (layers.Resizing(1, 1), ["Cropping2D", "AveragePooling2D"]),
        (layers.Resizing(4, 6), ["Resizing"]),
    ],
)
def test_layers_that_are_made_of_others(layer, parts):
    model, network = network_of(layer)
    assert [type(node.layer).__name__ for node in network.nodes[1:]] == parts
    assert network.results == (layer.name,)
    data = images(model)
    np.testing.assert_allclose(traversal.build(network)(data), model(data), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "axes"), [((6, 6, 3), [1, 2]), ((6, 6, 3), [1, 2, 3]), ((6, 3), [1]), ((4,), None)]
)
def test_a_prelu_is_its_slopes_and_a_choice(shape, axes):
    prelu = layers.PReLU(
        shared_axes=axes, alpha_regularizer="l2", alpha_constraint="non_neg", name="prelu"
    )
    model = randomize(keras.Sequential([layers.InputLayer(shape, name="image"), prelu]))
    network = decomposed(traversal.read(model), NAMESPACE)
    slopes = next(node for node in network.nodes if node.name == "prelu_slope")
    assert slopes.weights == (0,) and slopes.layer.shared == (axes == [1, 2, 3])
    new = traversal.build(network)
    np.testing.assert_allclose(new(images(model)), model(images(model)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new.losses, model.losses, rtol=1e-6)
    assert type(new.get_layer("prelu_slope").alpha.constraint).__name__ == "NonNeg"


def test_a_stack_is_a_concatenation():
    image = keras.Input((4, 5, 3), name="image")
    model = keras.Model(image, tf.stack([image[..., 2], image[..., 0]], axis=2))
    network = decomposed(traversal.read(model), layers)
    assert [type(node.layer).__name__ for node in network.nodes[1:]] == [
        *("Slice", "Slice", "Reshape", "Reshape", "Concatenate"),
    ]
    assert network.nodes[-2].shape == (None, 4, 1, 5)
    np.testing.assert_array_equal(traversal.build(network)(images(model)), model(images(model)))


def test_an_average_is_a_sum_and_a_factor():
    inputs = [keras.Input((4, 4, 3), name=f"image{index}") for index in range(3)]
    model = keras.Model(inputs, layers.Average(name="mean")(inputs))
    network = decomposed(traversal.read(model), layers)
    assert [(node.name, node.kind, node.inputs) for node in network.nodes[3:]] == [
        ("mean_part1", Kind.ADD, ("image0", "image1")),
        ("mean_sum", Kind.ADD, ("mean_part1", "image2")),
        ("mean", Kind.AFFINE, ("mean_sum",)),
    ]
    data = images(model)
    np.testing.assert_allclose(traversal.build(network)(data), model(data), rtol=1e-5, atol=1e-6)


def test_a_residual_of_inception_resnet_is_a_factor_and_a_sum():
    inputs = [keras.Input((4, 4, 3), name=name) for name in ("shortcut", "residual")]
    model = keras.Model(inputs, CustomScaleLayer(0.25, name="sum")(inputs))
    network = decomposed(traversal.read(model), layers)
    assert [(node.name, node.kind, node.inputs) for node in network.nodes[2:]] == [
        ("sum_scaled", Kind.AFFINE, ("residual",)),
        ("sum", Kind.ADD, ("shortcut", "sum_scaled")),
    ]
    data = images(model)
    np.testing.assert_array_equal(traversal.build(network)(data), model(data))


@pytest.mark.parametrize(
    "layer", [layers.Cropping1D((1, 2)), layers.ZeroPadding1D((2, 1)), layers.UpSampling1D(3)]
)
def test_layers_that_move_steps_of_sequences(layer):
    model, network = network_of(layer, shape=(6, 3))
    data = images(model)
    np.testing.assert_array_equal(traversal.build(network)(data), model(data))


@pytest.mark.parametrize(
    ("activation", "names"), [("silu", 2), ("leaky_relu", 2), ("hard_sigmoid", 2), ("relu", 1)]
)
def test_an_activation_layer_keeps_its_name(activation, names):
    model, network = network_of(layers.Activation(activation, name="act"))
    assert network.results == ("act",)
    assert network.nodes[-1].name == "act"
    assert len(network.nodes) == 1 + names
    assert [node.part_of for node in network.nodes] == ["image"] + names * ["act"]
    data = images(model)
    np.testing.assert_allclose(traversal.build(network)(data), model(data), rtol=1e-5, atol=1e-6)


def test_a_separable_convolution_is_two_and_shares_out_its_weights():
    separable = layers.SeparableConv2D(
        5, 3, strides=2, depth_multiplier=2, activation="relu", name="separable"
    )
    model, network = network_of(separable)
    assert facts(network) == [
        ("separable_depthwise", Kind.KERNEL, ("image",)),
        ("separable_pointwise", Kind.KERNEL, ("separable_depthwise",)),
        ("separable_relu", Kind.RELU, ("separable_pointwise",)),
    ]
    assert network.results == ("separable_relu",)
    assert [node.weights for node in network.nodes[1:]] == [(0,), (1, 2), ()]
    assert [node.shape for node in network.nodes[1:]] == [
        (None, 2, 2, 6),
        (None, 2, 2, 5),
        (None, 2, 2, 5),
    ]
    data = images(model)
    np.testing.assert_allclose(traversal.build(network)(data), model(data), rtol=1e-5, atol=1e-6)


def test_nodes_that_are_not_named_stay_whole():
    model, _ = network_of(
        layers.Conv2D(4, 3, activation="relu", name="one"),
        layers.Conv2D(4, 3, activation="relu", name="two"),
    )
    network = decomposed(traversal.read(model), layers, ["two"])
    assert facts(network) == [
        ("one", Kind.KERNEL, ("image",)),
        ("two", Kind.KERNEL, ("one",)),
        ("two_relu", Kind.RELU, ("two",)),
    ]
