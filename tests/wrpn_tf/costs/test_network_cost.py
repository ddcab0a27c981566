"""Costs against sums by hand, and plans against what quantization really does."""

import dataclasses

import pytest
import small_models
import tf_keras as keras
from tf_keras import layers

import wrpn_tf
from wrpn_tf import measure_cost, models

EDGES = ["integer", "paper"]


def image_model(*stack, shape=(8, 8, 4)) -> keras.Model:
    return keras.Sequential([layers.InputLayer(shape), *stack])


@pytest.mark.parametrize(
    ("build", "fmas"),
    [
        (lambda: layers.Conv2D(6, 3, padding="same"), 8 * 8 * 9 * 4 * 6),
        (lambda: layers.Conv2D(6, 3, strides=2), 3 * 3 * 9 * 4 * 6),
        (lambda: layers.Conv2D(6, 3, dilation_rate=2), 4 * 4 * 9 * 4 * 6),
        (lambda: layers.Conv2D(6, 3, padding="same", groups=2), 8 * 8 * 9 * 2 * 6),
        (lambda: layers.DepthwiseConv2D(3, padding="same"), 8 * 8 * 9 * 4),
        (lambda: layers.DepthwiseConv2D(3, strides=2, depth_multiplier=3), 3 * 3 * 9 * 4 * 3),
        (
            lambda: layers.SeparableConv2D(6, 3, strides=2, depth_multiplier=2),
            3 * 3 * (9 * 4 * 2 + 4 * 2 * 6),
        ),
        (lambda: layers.Conv2DTranspose(6, 3, strides=2, padding="same"), 8 * 8 * 9 * 4 * 6),
        (lambda: layers.Dense(5), 8 * 8 * 4 * 5),
    ],
)
def test_multiply_adds_by_hand(build, fmas):
    assert measure_cost(image_model(build())).fmas == fmas
    assert measure_cost(image_model(build()), batch_size=3).fmas == 3 * fmas


def test_sums_and_products_of_bits():
    model = image_model(
        layers.Conv2D(2, 1), layers.ReLU(), layers.Conv2D(3, 1), layers.ReLU(), layers.Conv2D(5, 1)
    )
    cost = measure_cost(model, weight_bits=2, activation_bits=4)
    first, middle, last = 64 * 4 * 2, 64 * 2 * 3, 64 * 3 * 5
    assert cost.compute == first * (8 + 8) + middle * (4 + 2) + last * (8 + 8)
    assert cost.bit_operations == first * 8 * 8 + middle * 4 * 2 + last * 8 * 8
    assert cost.weights == 8 + 6 + 15
    assert cost.weight_bytes == (8 * 8 + 6 * 2 + 15 * 8) / 8
    assert cost.shipped_bytes == 8 + 6 + 15 + 4 * (2 + 3 + 5)
    uniform = measure_cost(model, weight_bits=2, activation_bits=4, policy="uniform")
    assert uniform.compute == (first + middle + last) * (4 + 2)
    interior = measure_cost(model, weight_bits=2, activation_bits=4, policy="interior")
    assert interior.compute == middle * (4 + 2)
    paper = measure_cost(model, weight_bits=2, activation_bits=4, policy="paper")
    assert paper.compute == (first + last) * (32 + 32) + middle * (4 + 2)
    assert measure_cost(model).compute == (first + middle + last) * (32 + 32)


def linear_bottleneck() -> keras.Model:
    """Convolutions that read a sum, a linear convolution, a pooling and a concatenation."""
    inputs = keras.Input((8, 8, 3))
    x = shortcut = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    x = layers.BatchNormalization()(layers.Conv2D(4, 1, name="linear")(x))
    x = layers.Add()([x, shortcut])
    x = layers.SeparableConv2D(4, 3, activation="relu6", name="separable")(x)
    pooled = layers.AveragePooling2D(3, strides=1, padding="same")(x)
    x = layers.Concatenate()([x, layers.MaxPooling2D(3, 1, padding="same")(pooled)])
    x = layers.Conv2D(4, 1, name="mixed")(x)
    x = layers.Conv2D(4, 1, name="reads_linear")(x)
    return keras.Model(inputs, layers.Dense(2, name="last")(layers.Flatten()(x)))


def by_name(cost: wrpn_tf.Cost) -> dict[str, wrpn_tf.LayerCost]:
    """The layers without the prefix that TF-MOT gives their names."""
    names = {layer.name: layer.name.removeprefix("quant_") for layer in cost.layers}
    return {
        names[layer.name]: dataclasses.replace(layer, name=names[layer.name])
        for layer in cost.layers
    }


@pytest.mark.parametrize("first_last", EDGES)
@pytest.mark.parametrize(
    "build",
    [
        linear_bottleneck,
        small_models.everything,
        small_models.tiny,
        lambda: models.build("digits_cnn", width=0.25),
        lambda: models.build("resnet8_pre", width=0.25, input_shape=(16, 16, 3)),
    ],
    ids=["linear_bottleneck", "everything", "tiny", "digits_cnn", "resnet8_pre"],
)
def test_a_plan_costs_what_the_quantized_model_costs(build, first_last):
    model = build()
    planned = measure_cost(model, weight_bits=2, activation_bits=4, policy=first_last)
    measured = measure_cost(wrpn_tf.quantize_model(model, 2, 4, first_last=first_last))
    assert by_name(planned) == by_name(measured)
    assert planned.memory == measured.memory


def test_a_linear_output_in_float_is_read_in_float():
    cost = measure_cost(linear_bottleneck(), weight_bits=2, activation_bits=4, policy="paper")
    bits = {layer.name: layer.activation_bits for layer in cost.layers}
    assert bits["linear"] == 4
    assert bits["separable_depthwise"] == 32
    assert bits["reads_linear"] == 32


def test_what_cannot_be_measured_is_named():
    model = small_models.tiny()
    with pytest.raises(ValueError, match="policy must be one of"):
        measure_cost(model, policy="none")
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        measure_cost(model, batch_size=0)
    with pytest.raises(ValueError, match="weight_bits must be 1 to 8"):
        measure_cost(model, weight_bits=9)
    with pytest.raises(ValueError, match="is quantized and has bits of its own"):
        measure_cost(wrpn_tf.quantize_model(model, 2, 4), weight_bits=2)
    with pytest.raises(ValueError, match="no fixed size"):
        measure_cost(image_model(layers.Conv2D(2, 1, name="conv"), shape=(None, None, 3)))
    rows = layers.Conv1D(2, 3, name="rows")
    with pytest.raises(ValueError, match=r"'rows' \(Conv1D\)"):
        measure_cost(image_model(rows))
    with pytest.raises(ValueError, match="no convolution or dense layer"):
        measure_cost(image_model(layers.ReLU()))
