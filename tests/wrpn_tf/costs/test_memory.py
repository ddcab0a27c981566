"""Footprints by hand."""

import pytest
import tf_keras as keras
from tf_keras import Sequential, layers

from wrpn_tf import measure_cost, quantize_model


@pytest.fixture(scope="module")
def model():
    return Sequential(
        [
            layers.InputLayer((8, 8, 3)),
            layers.Conv2D(4, 1, use_bias=False),  # 256 values out, 12 weights
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(2),  # 64 values
            layers.Conv2D(6, 1, use_bias=False),  # 96 values, 24 weights
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(10, use_bias=False),  # 960 weights
        ]
    )


@pytest.mark.parametrize("batch", [1, 32])
def test_float(model, batch):
    memory = measure_cost(model, batch).memory
    assert memory.activations == 4 * batch * (192 + 256 + 64 + 96 + 10)
    assert memory.gradients == 4 * batch * (256 + 192)
    assert memory.weights == memory.float_weights == 4 * (12 + 24 + 960)
    assert memory.training == memory.activations + memory.gradients + memory.weights
    assert memory.inference == 4 * batch * (192 + 256) + memory.weights
    assert memory.inference_share == pytest.approx(1 - memory.weights / memory.inference)


def test_bits(model):
    memory = measure_cost(model, weight_bits=2, activation_bits=4).memory
    assert memory.activations == 192 + 256 / 2 + 64 / 2 + 96 + 10  # The last layer reads 8 bits.
    assert memory.weights == 12 + 24 / 4 + 960
    assert memory.float_weights == 4 * (12 + 24 + 960)
    assert memory.largest_input == 192
    assert memory.largest_output == 256 / 2
    assert memory.training_share == 1 - 4 * (12 + 24 + 960) / memory.training


def test_a_kernel_that_is_used_twice_is_kept_once():
    inputs, conv = keras.Input((4, 4, 3)), layers.Conv2D(3, 1, use_bias=False)
    model = keras.Model(inputs, conv(layers.ReLU()(conv(inputs))))
    assert measure_cost(model).memory.weights == 4 * 9
    quantized = measure_cost(quantize_model(model, 2, 4))
    assert quantized.memory.weights == quantized.weights == 9


def test_a_concatenation_is_a_view():
    inputs = keras.Input((4, 4, 3))
    branches = [layers.Conv2D(2, 1)(inputs), layers.Conv2D(4, 1)(inputs)]
    memory = measure_cost(keras.Model(inputs, layers.Concatenate()(branches))).memory
    assert memory.activations == 4 * 16 * (3 + 2 + 4)


@pytest.mark.parametrize("gate_first", [False, True])
def test_a_gated_map_stays_in_its_place(gate_first):
    inputs = keras.Input((8, 8, 4))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(inputs)  # 4 values
    x = layers.Multiply()([gate, inputs] if gate_first else [inputs, gate])
    x = layers.Activation("swish")(x)
    x = layers.Conv2D(2, 1, use_bias=False)(layers.ZeroPadding2D()(x))  # 400 and 200 values
    memory = measure_cost(keras.Model(inputs, x)).memory
    assert memory.activations == 4 * (256 + 4 + 400 + 200)


def test_packed(model):
    """8-bit images, 4 bits before pooling, 8 before the last layer; of float, images alone."""
    memory = measure_cost(model, 2, weight_bits=2, activation_bits=4).memory
    assert memory.packed == 2 * (192 + 256 / 2 + 96)
    # The first segment is the convolution, the normalization and the ReLU.
    assert memory.recomputed == 4 * 2 * 3 * 256
    parts = memory.packed + memory.recomputed + memory.gradients + memory.float_weights
    assert memory.packed_training == parts
    assert measure_cost(model).memory.packed == 4 * 192


@pytest.mark.parametrize(("bits", "width"), [(1, 1), (2, 2), (3, 4), (5, 8)])
def test_packed_codes_take_the_next_power_of_2(model, bits, width):
    memory = measure_cost(model, weight_bits=2, activation_bits=bits).memory
    assert memory.packed == 192 + 256 * width / 8 + 96


def test_masks_of_dropout_are_kept_in_a_bit():
    inputs = keras.Input((4, 4, 3))
    x = layers.Dropout(0.5)(layers.ReLU()(layers.Conv2D(3, 1)(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert measure_cost(model, weight_bits=2, activation_bits=4).memory.packed == 48 + 48 + 48 / 8


def test_activations_of_32_bits_are_no_codes(model):
    uniform = measure_cost(model, weight_bits=2, policy="uniform").memory
    assert uniform.packed == 4 * 192
    assert uniform.recomputed == measure_cost(model).memory.recomputed


def test_a_pooling_that_keeps_the_size_writes_a_map():
    pooled = [layers.MaxPooling2D(3, 1, "same"), layers.AveragePooling2D(3, 1, "same")]
    for pooling in pooled:
        network = Sequential([layers.InputLayer((8, 8, 4)), layers.Conv2D(2, 1), pooling])
        assert measure_cost(network).memory.activations == 4 * (256 + 128 + 128)


def test_a_network_with_nothing_to_compute_again():
    penalized = layers.Dense(2, activity_regularizer="l2")
    memory = measure_cost(Sequential([layers.InputLayer((3,)), penalized])).memory
    assert memory.recomputed == 0
