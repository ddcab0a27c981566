"""Costs against sums by hand, and plans against what quantization really does."""

import pytest
import small_models
import small_networks
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

import wrpn_tf
from wrpn_tf import measure_cost, models
from wrpn_tf.models import imagenet_resnet, inception, mobilenet

EDGES = ["integer", "paper"]
# Half the time: no layer here has Python's control flow that depends on tensors.
quantize_model = tf.autograph.experimental.do_not_convert(wrpn_tf.quantize_model)


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


def test_a_transposed_convolution_over_a_sequence_uses_a_weight_for_each_step_that_it_reads():
    up = layers.Conv1DTranspose(6, 3, strides=2, padding="same")
    assert measure_cost(image_model(up, shape=(8, 4))).fmas == 8 * 3 * 4 * 6


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
    assert measure_cost(model, policy="integer") == measure_cost(model)
    assert measure_cost(model).shipped_bytes == 4 * (8 + 6 + 15) + 4 * (2 + 3 + 5)


def test_all_parts_of_the_first_layer_are_left_out():
    model = image_model(
        layers.SeparableConv2D(4, 3), layers.Conv2D(2, 1, name="middle"), layers.Dense(2)
    )
    interior = measure_cost(model, weight_bits=2, activation_bits=4, policy="interior")
    assert [layer.name for layer in interior.layers] == ["middle"]


def test_models_with_one_kind_of_quantizers_are_quantized():
    model = image_model(
        layers.Conv2D(2, 1), layers.ReLU(), layers.Conv2D(3, 1), layers.ReLU(), layers.Conv2D(5, 1)
    )
    for weight_bits, activation_bits in ((2, 32), (32, 4)):
        quantized = quantize_model(model, weight_bits, activation_bits, first_last="paper")
        middle = measure_cost(quantized).layers[1]
        assert (middle.weight_bits, middle.activation_bits) == (weight_bits, activation_bits)


class Scaled(keras.layers.Layer):
    """A user's layer with a weight for each channel."""

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=input_shape[-1:])

    def call(self, inputs):
        return inputs * self.scale


def test_vectors_of_a_users_layer_are_no_kernel():
    model = image_model(layers.Conv2D(2, 1), Scaled())
    uniform = measure_cost(model, weight_bits=2, activation_bits=4, policy="uniform")
    assert uniform.fmas == 64 * 4 * 2
    # The image, and the maps of the convolution and of the layer, which nobody knows.
    assert uniform.memory.activations == (256 + 128 + 128) / 2


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
    """The layers by name: Keras orders branches by their depth, which quantizers change."""
    return {layer.name: layer for layer in cost.layers}


@pytest.mark.parametrize("first_last", EDGES)
@pytest.mark.parametrize(
    "build",
    [
        linear_bottleneck,
        small_models.everything,
        small_models.tiny,
        lambda: small_networks.gated(0),
        lambda: small_networks.decoder(0),
        lambda: small_networks.compared(0),
    ],
    ids=["linear_bottleneck", "everything", "tiny", "gated", "decoder", "compared"],
)
def test_a_plan_costs_what_the_quantized_model_costs(build, first_last):
    model = build()
    planned = measure_cost(model, weight_bits=2, activation_bits=4, policy=first_last)
    measured = measure_cost(quantize_model(model, 2, 4, first_last=first_last))
    assert by_name(planned) == by_name(measured)
    assert planned.memory == measured.memory


def kind_of(build) -> tuple:
    """The function behind an architecture and the options that change more than its depth."""
    function, depth = getattr(build, "func", build), getattr(build, "args", (0,))[0]
    return function, depth >= 50 and function is models.resnet, str(getattr(build, "keywords", {}))


# One of each kind.
ARCHITECTURES = {kind_of(build): arch for arch, build in reversed(models.ARCHITECTURES.items())}


@pytest.fixture
def shallow(monkeypatch):
    """Every block that the architectures have, repeated as little as possible."""
    monkeypatch.setattr(imagenet_resnet, "_STAGE_FILTERS", imagenet_resnet._STAGE_FILTERS[:2])
    monkeypatch.setattr(imagenet_resnet, "_BLOCKS", {18: (2, 1), 50: (2, 1)})
    monkeypatch.setattr(mobilenet, "_V1_BLOCKS", mobilenet._V1_BLOCKS[:2])
    monkeypatch.setattr(mobilenet, "_V2_STAGES", mobilenet._V2_STAGES[:2])
    first, _, grid, *_, last = inception._MODULES
    monkeypatch.setattr(inception, "_MODULES", (first, grid, last))


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("first_last", EDGES)
@pytest.mark.parametrize("arch", ARCHITECTURES.values())
def test_a_plan_of_an_architecture_costs_what_the_quantized_model_costs(arch, first_last):
    size = 67 if arch == "alexnet" else 8 if arch == "digits_cnn" else 32
    channels = 1 if arch == "digits_cnn" else 3
    model = models.build(arch, width=0.25, input_shape=(size, size, channels), front="tf_keras")
    planned = measure_cost(model, weight_bits=2, activation_bits=4, policy=first_last)
    assert planned == measure_cost(quantize_model(model, 2, 4, first_last=first_last))


def test_hard_swish_of_operations():
    """Without the canonical form its product would be read in float: 6,783,488."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    x = x * (layers.ReLU(6.0)(x + 3.0) / 6.0)
    x = layers.Conv2D(16, 3, strides=2, padding="same")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    planned = measure_cost(model, weight_bits=2, activation_bits=4)
    assert planned.compute == 3_244_544 != 6_783_488
    assert planned == measure_cost(quantize_model(model, 2, 4))


def test_a_kernel_behind_a_gain_reads_what_the_gain_reads():
    model = image_model(
        *(layers.Conv2D(2, 1), layers.ReLU(6.0), layers.Rescaling(0.5), layers.MaxPooling2D()),
        *(layers.Rescaling(3.0, name="gain"), layers.Conv2D(3, 1, name="conv"), layers.ReLU()),
        *(layers.Flatten(), layers.Dense(2)),
    )
    planned = measure_cost(model, weight_bits=2, activation_bits=4)
    assert [layer.activation_bits for layer in planned.layers] == [8, 4, 8]
    assert planned == measure_cost(quantize_model(model, 2, 4))


def test_activity_regularizers_of_what_becomes_several_layers_are_planned_apart():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(3, 1, activation="relu", activity_regularizer="l2")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    planned = measure_cost(model, weight_bits=2, activation_bits=4)
    assert planned == measure_cost(quantize_model(model, 2, 4))
    # Kept are the image and what the penalty has seen, of 8 bits; the convolution is repeated.
    assert planned.memory.packed == 48 + 48


def test_a_network_without_values_has_a_cost():
    def build():
        inputs = keras.Input((4, 4, 3))
        x = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0])(inputs)
        return keras.Model(inputs, layers.Conv2D(2, 1, name="conv")(layers.Rescaling(2.0)(x)))

    with tf.Graph().as_default():
        skeleton = build()
    bits = {"weight_bits": 2, "activation_bits": 4}
    assert measure_cost(skeleton, **bits).layers == measure_cost(build(), **bits).layers


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
    for batch_size in (0, 1.5):
        with pytest.raises(ValueError, match="batch_size must be an integer of at least 1"):
            measure_cost(model, batch_size=batch_size)
    with pytest.raises(ValueError, match="weight_bits must be 1 to 8"):
        measure_cost(model, weight_bits=9)
    with pytest.raises(ValueError, match="is quantized and has bits of its own"):
        measure_cost(wrpn_tf.quantize_model(model, 2, 4), weight_bits=2)
    with pytest.raises(ValueError, match="leave out weight_bits, activation_bits and policy"):
        measure_cost(wrpn_tf.quantize_model(model, 2, 4), policy="integer")
    with pytest.raises(ValueError, match="no fixed size"):
        measure_cost(image_model(layers.Conv2D(2, 1, name="conv"), shape=(None, None, 3)))
    rows = layers.Conv1D(2, 3, name="rows")
    with pytest.raises(ValueError, match=r"'rows' \(Conv1D\)"):
        measure_cost(image_model(rows))
    inputs = keras.Input((3,))
    with pytest.raises(ValueError, match=r"'product' \(Dot\)"):
        measure_cost(keras.Model(inputs, layers.Dot(1, name="product")([inputs, inputs])))
    inputs = keras.Input((2, 2))
    with pytest.raises(ValueError, match=r"'tf.linalg.matmul.*' \(TFOpLambda\)"):
        measure_cost(keras.Model(inputs, tf.matmul(inputs, inputs)))
    first = layers.Conv2D(4, 3, data_format="channels_first", name="first")
    with pytest.raises(ValueError, match=r"'first' \(Conv2D\); .* with channels last"):
        measure_cost(image_model(first))
    with pytest.raises(ValueError, match="no convolution or dense layer"):
        measure_cost(image_model(layers.ReLU()))
