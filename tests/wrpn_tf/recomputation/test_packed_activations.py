"""Training with packed activations is training: the same bits everywhere, and less kept."""

import os
import subprocess
import sys

import both_keras
import keras as keras3
import numpy as np
import pytest
import small_models
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

import export
import wrpn_tf
from benchmarks.training_memory import stored_bytes
from wrpn_tf.recomputation.segments import Grid

keras.backend.experimental.enable_tf_random_generator()  # Seeded by `keras.utils.set_random_seed`.

FRONTS = ("tf_keras", "keras")


def layer_types() -> keras.Model:
    """Every supported layer; no output is read more than twice.

    A sum of three gradients depends on the order in which they are added.
    """
    image = keras.Input((8, 8, 2), name="image")
    other = keras.Input((8, 8, 2), name="other")
    x = layers.Add(name="sum_inputs")([image, other])
    x = layers.ZeroPadding2D(1, name="pad")(x)
    x = layers.Conv2D(4, 3, activation="relu", name="fused")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="multiplied")(x)
    x = layers.BatchNormalization(name="bn_after_conv")(x)
    x = layers.Activation("relu6", name="relu6")(x)
    x = layers.SeparableConv2D(6, 3, padding="same", activation="relu", name="separable")(x)
    x = layers.BatchNormalization(name="bn_after_relu")(x)
    inner_in = keras.Input((8, 8, 6))
    inner = layers.Conv2D(6, 1, use_bias=False, name="inner_conv")(inner_in)
    inner = layers.ReLU(max_value=1.5, name="inner_relu")(inner)
    x = keras.Model(inner_in, inner, name="nested")(x)
    x = layers.Activation("swish", name="swish")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(6, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Multiply(name="gated")([x, gate])
    x = layers.UpSampling2D(name="up")(layers.Rescaling(2.0, 0.5, name="rescaled")(x))
    x = layers.Cropping2D(((3, 5), (4, 4)), name="crop")(x)
    x = layers.UpSampling2D(interpolation="bilinear", name="smooth")(x)
    x = layers.MaxPooling2D(4, name="max")(x)
    x = layers.Conv2DTranspose(6, 2, padding="same", name="transposed")(x)
    shortcut = layers.Conv2D(6, 1, groups=2, name="shortcut")(x)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="body")(x)
    x = layers.SpatialDropout2D(0.25, name="spatial_dropout")(x)
    x = layers.Add(name="add")([x, shortcut])
    x = layers.Maximum(name="most")([layers.Subtract(name="difference")([x, shortcut]), x])
    x = layers.LeakyReLU(0.1, name="leaky")(x)
    x = layers.BatchNormalization(name="preactivation")(layers.Conv2D(4, 1, name="before")(x))
    x = layers.Activation("relu", name="activation")(x)
    one = layers.AveragePooling2D(2, padding="valid", name="average_valid")(x)
    two = layers.AveragePooling2D(3, strides=2, padding="same", name="average_same")(x)
    x = layers.Concatenate(name="concatenate")([one, two])
    x = layers.BatchNormalization(name="standalone")(x)
    x = layers.Activation("linear", name="linear")(x)
    y = layers.Reshape((8,), name="reshape")(layers.GlobalMaxPooling2D(name="global_max")(x))
    y = layers.Activation("softmax", name="probabilities")(layers.Dense(3, name="head_one")(y))
    z = layers.Dropout(0.5, name="dropout")(layers.Flatten(name="flatten")(x))
    z = layers.Dense(5, activation="relu", name="hidden")(z)
    z = layers.Softmax(name="softmax")(layers.Dense(3, name="head_two")(z))
    return small_models.randomize(keras.Model([image, other], [y, z], name="layer_types"))


def sequences() -> keras.Model:
    """Convolutions and pooling over sequences, and what is not repeated: noise and a penalty."""
    steps = keras.Input((24, 3), name="steps")
    x = layers.Conv1D(6, 5, padding="causal", dilation_rate=2, use_bias=False, name="conv1")(steps)
    x = layers.ReLU(name="relu1")(layers.BatchNormalization(name="bn1")(x))
    x = layers.GaussianNoise(0.1, name="noise")(layers.MaxPooling1D(2, name="pool")(x))
    y = layers.Conv1D(6, 3, padding="same", activation="relu", name="conv2")(x)
    x = layers.Add(name="add")([x, y])
    x = layers.Conv1D(8, 3, activation="relu", activity_regularizer="l2", name="conv3")(x)
    x = layers.Conv1D(8, 3, strides=2, groups=2, name="conv4", kernel_regularizer="l2")(x)
    x = layers.GlobalAveragePooling1D(name="average")(x)
    return small_models.randomize(keras.Model(steps, layers.Dense(4, name="logits")(x)))


def many_channels() -> keras.Model:
    """So many that the gradients of scales are dot products."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="conv1")(image)
    y = layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv2")(x)
    y = layers.ReLU(name="relu2")(layers.BatchNormalization(name="bn2")(y))
    y = layers.SeparableConv2D(16, 3, padding="same", name="conv3")(y)
    x = layers.ReLU(name="relu3")(layers.Add(name="add")([x, y]))
    x = layers.Dense(24, activation="relu", name="hidden")(layers.Flatten(name="flatten")(x))
    x = layers.Dense(4, name="logits")(x)
    return small_models.randomize(keras.Model(image, x, name="many_channels"))


NETWORKS = {
    "layer types": layer_types,
    "sequences": sequences,
    "many channels": many_channels,
}


def builder(build, front):
    """`build`, or what builds its network in Keras 3."""
    return both_keras.of_keras3(build) if front == "keras" else build


def quantized(
    build, *, pack=False, weight_bits=4, activation_bits=4, front="tf_keras", **arguments
):
    both_keras.KERAS[front].utils.set_random_seed(1)
    model = builder(build, front)()
    model = wrpn_tf.quantize_model(model, weight_bits, activation_bits, **arguments)
    wrpn_tf.calibrate(model, [small_models.images(model, 8)])
    if pack:
        wrpn_tf.pack_activations(model)
    both_keras.KERAS[front].utils.set_random_seed(2)
    return model


def trained(model, *, compiled=True, steps=2):
    """What a step gives: outputs, gradients, and weights after some steps."""
    inputs = tf.nest.map_structure(tf.constant, small_models.images(model, 8))
    random = np.random.default_rng(3)
    targets = [random.normal(size=(8, *y.shape[1:])).astype(np.float32) for y in model.outputs]
    is_keras3 = isinstance(model, keras3.Model)
    optimizer = (keras3 if is_keras3 else keras).optimizers.SGD(0.01)
    optimizer.build(model.trainable_variables)

    def step():
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(model(inputs, training=True))
            losses = [tf.reduce_sum((y - t) ** 2) for y, t in zip(outputs, targets, strict=True)]
            loss = tf.add_n([*losses, *model.losses])
        variables = [getattr(v, "value", v) if is_keras3 else v for v in model.trainable_variables]
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return outputs, gradients

    step = tf.function(step) if compiled else step
    for _ in range(steps):
        outputs, gradients = step()
    return outputs, gradients, model.get_weights()


def assert_trains_alike(ordinary, packed, **how):
    names = [variable.name for variable in ordinary.trainable_variables]
    outputs, gradients, weights = trained(ordinary, **how)
    found_outputs, found_gradients, found_weights = trained(packed, **how)
    for one, other in zip(outputs, found_outputs, strict=True):
        assert np.array_equal(one, other)
    different = [
        name
        for name, one, other in zip(names, gradients, found_gradients, strict=True)
        if not np.array_equal(one, other)
    ]
    assert not different
    assert any(np.any(gradient) for gradient in gradients)
    for variable, one, other in zip(ordinary.weights, weights, found_weights, strict=True):
        assert np.array_equal(one, other), variable.name


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_trains_bit_for_bit_alike(name, front):
    ordinary, packed = (quantized(NETWORKS[name], pack=pack, front=front) for pack in (False, True))
    assert_trains_alike(ordinary, packed)


@pytest.fixture
def no_remapping():
    """TensorFlow fuses a swish where only the product reads the sigmoid, and rounds otherwise."""
    tf.config.optimizer.set_experimental_options({"remapping": False})
    yield
    tf.config.optimizer.set_experimental_options({"remapping": True})


@pytest.mark.parametrize("name", NETWORKS)
def test_with_float_in_between_too(name, no_remapping):
    ordinary, packed = (
        quantized(NETWORKS[name], pack=pack, first_last="paper") for pack in (False, True)
    )
    assert_trains_alike(ordinary, packed)


@pytest.mark.parametrize("front", FRONTS)
def test_without_compilation_too(front):
    ordinary, packed = (quantized(layer_types, pack=pack, front=front) for pack in (False, True))
    assert_trains_alike(ordinary, packed, compiled=False, steps=1)


def test_a_dropout_of_everything():
    """Keras 3 takes a rate of 1; tf_keras does not train with it."""

    def build():
        inputs = keras.Input((4,), name="vector")
        x = layers.Dense(6, activation="relu", name="hidden")(inputs)
        x = layers.Dense(3, name="logits")(layers.Dropout(1.0, name="all")(x))
        return small_models.randomize(keras.Model(inputs, x, name="dropped"))

    models = [quantized(build, pack=pack, front="keras") for pack in (False, True)]
    ordinary, packed = (np.asarray(x(small_models.images(x, 8), training=True)) for x in models)
    assert np.array_equal(ordinary, packed)


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
@pytest.mark.parametrize("method", ["learned", "calibrated", "paper", "pact"])
def test_every_method_and_width(method, bits):
    arguments = {"activation_bits": bits, "activation_method": method}
    ordinary, packed = (
        quantized(small_models.convnet, pack=pack, **arguments) for pack in (False, True)
    )
    assert_trains_alike(ordinary, packed, steps=1)


@pytest.mark.parametrize("front", FRONTS)
def test_a_range_that_moved_meanwhile_is_that_of_its_pass(front):
    """Two passes, and then the gradients of both: each repeats its own ranges."""

    def gradients(model):
        inputs = small_models.images(model, 8)
        with tf.GradientTape() as tape:
            first, second = (model(tf.constant(k * inputs), training=True) for k in (1.0, 9.0))
            loss = tf.reduce_sum(first**2) + tf.reduce_sum(second**2)
        return tape.gradient(loss, model.trainable_variables)

    ordinary, packed = (
        quantized(small_models.convnet, pack=pack, front=front) for pack in (False, True)
    )
    for one, other in zip(gradients(ordinary), gradients(packed), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("front", FRONTS)
def test_frozen_layers_and_ranges_that_saw_nothing(front):
    both_keras.KERAS[front].utils.set_random_seed(1)
    weights = builder(small_models.convnet, front)().get_weights()

    def frozen(pack):
        model = builder(small_models.convnet, front)()
        model.set_weights(weights)
        model.get_layer("conv3").trainable = False
        model.get_layer("relu2").trainable = False
        model = wrpn_tf.quantize_model(model, 4, 4)  # Not calibrated.
        model.get_layer("conv3" if front == "keras" else "quant_conv3").trainable = False
        if pack:
            wrpn_tf.pack_activations(model)
        return model

    assert_trains_alike(frozen(False), frozen(True), steps=1)


def residual() -> keras.Model:
    image = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.Add()([layers.BatchNormalization()(y), x]))
    return keras.Model(image, layers.Conv2D(16, 3, padding="same", use_bias=False)(x))


@pytest.mark.parametrize("front", FRONTS)
def test_what_is_kept_is_codes(front):
    """Per image: pixels and what the last layer reads in 8 bits, one output in 4 or 2."""

    def network(*, pack, bits):
        model = wrpn_tf.quantize_model(builder(residual, front)(), 4, bits)
        if pack:
            wrpn_tf.pack_activations(model)
        return model

    for bits in (4, 2):
        model = network(pack=True, bits=bits)
        assert stored_bytes(model) == 256 + 512 + 512 * bits / 8
        assert wrpn_tf.measure_cost(model).memory.packed == 256 + 512 + 512 * bits / 8
    # Of each block a convolution's output, its quantizer's steps and codes, and their product.
    assert stored_bytes(network(pack=False, bits=4)) > 4 * 4 * 2 * 512


@pytest.mark.parametrize("front", FRONTS)
def test_a_packed_model_is_saved_and_lowered_as_it_is(front, tmp_path):
    model = quantized(small_models.tiny, front=front)
    images = small_models.images(model, 8)
    file = export.to_tflite(model)
    config = model.get_config()
    wrpn_tf.pack_activations(model)
    assert export.to_tflite(model) == file
    assert model.get_config() == config
    for name in ("model.keras", *(("model.h5", "model") if front == "tf_keras" else ())):
        model.save(tmp_path / name)
        loaded = wrpn_tf.load_model(tmp_path / name)
        assert np.array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))
        wrpn_tf.pack_activations(loaded)


def test_calibration_looks_through_a_packed_model():
    ordinary, packed = (quantized(small_models.convnet, pack=pack) for pack in (False, True))
    images = 3 * small_models.images(ordinary, 8)
    for model in (ordinary, packed):
        wrpn_tf.calibrate(model, [images])
    for one, other in zip(ordinary.get_weights(), packed.get_weights(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("front", FRONTS)
def test_a_step_that_was_traced_before_is_traced_anew(front):
    model = quantized(small_models.tiny, front=front)
    images, targets = small_models.images(model, 8), np.zeros((8, 3), np.float32)
    model.compile("sgd", "mse")
    model.fit(images, targets, verbose=0)
    before = model.train_function
    wrpn_tf.pack_activations(model)
    model.fit(images, targets, verbose=0)
    assert model.train_function is not before


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("nest", [list, lambda outputs: outputs[:1], lambda outputs: outputs[0]])
def test_outputs_are_nested_as_ever(front, nest):
    keras = both_keras.KERAS[front]
    image = keras.Input((4, 4, 2), name="image")
    x = keras.layers.ReLU(name="relu")(image)
    ends = [keras.layers.Conv2D(2, 1, name=name)(x) for name in ("one", "two")]
    model = wrpn_tf.quantize_model(keras.Model({"image": image}, nest(ends)), 4, 4)
    images = {"image": tf.ones((3, 4, 4, 2))}
    ordinary = model(images, training=True)
    wrpn_tf.pack_activations(model)
    packed = model(images, training=True)
    assert isinstance(packed, list) == isinstance(ordinary, list)
    tf.nest.assert_same_structure(packed, ordinary)


@pytest.mark.parametrize("front", FRONTS)
def test_what_cannot_be_packed_is_refused_by_name(front):
    with pytest.raises(ValueError, match="'tiny' has no quantized outputs"):
        wrpn_tf.pack_activations(builder(small_models.tiny, front)())
    model = quantized(small_models.tiny, pack=True, front=front)
    with pytest.raises(ValueError, match="'tiny' are packed already"):
        wrpn_tf.pack_activations(model)
    layers, image = both_keras.KERAS[front].layers, both_keras.KERAS[front].Input((None, None, 2))
    x = layers.Conv2D(2, 3)(layers.Dropout(0.5, name="drop")(layers.ReLU()(image)))
    model = both_keras.KERAS[front].Model(image, layers.Conv2D(2, 3)(x))
    with pytest.raises(ValueError, match="'drop' drops values of images whose size is not known"):
        wrpn_tf.pack_activations(wrpn_tf.quantize_model(model, first_last="paper"))


REPLICAS = """
import numpy as np, small_models, tensorflow as tf, tf_keras as keras, wrpn_tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
found = []
for pack in (False, True):
    with strategy.scope():
        model = wrpn_tf.quantize_model(small_models.convnet(), 4, 4)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized, layer.fused = True, False
        if pack:
            wrpn_tf.pack_activations(model)
        model.compile("sgd", "mse")
    model.fit(small_models.images(model, 16), np.ones((16, 3)), 8, shuffle=False, verbose=0)
    found.append(model.get_weights())
assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))
"""


def test_replicas_train_bit_for_bit_alike():
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", REPLICAS], check=True, env=environment)


@pytest.mark.parametrize(("front", "tolerance"), [("tf_keras", 1e-5), ("keras", 2e-3)])
def test_xla_compiles_whole_steps_packed_or_not(front, tolerance):
    """XLA rounds otherwise, so that in Keras 3 a code has another value: packed, the same code."""
    losses = []
    for jit_compile, pack in ((False, False), (True, False), (True, True)):
        model = quantized(small_models.tiny, pack=pack, weight_bits=2, front=front)
        images = small_models.images(model, 16)
        optimizer = both_keras.KERAS[front].optimizers.SGD(0.05)
        model.compile(optimizer, "mse", jit_compile=jit_compile)
        losses.append([float(model.train_on_batch(images, np.ones((16, 3)))) for _ in range(3)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=tolerance)
    np.testing.assert_allclose(losses[2], losses[1], rtol=1e-5)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("low", [0.0, tf.constant(-100.0)])
@pytest.mark.parametrize("compiler", [None, True])
def test_every_code_is_found_from_its_value(bits, low, compiler):
    codes = np.arange(2**bits, dtype=np.uint8)

    @tf.function(jit_compile=compiler)
    def there_and_back(scale):
        grid = Grid(bits, scale, low)
        values = grid.values(tf.constant(codes))
        return values, grid.codes(values)

    for scale in np.float32(np.logspace(-60, 60, 99, base=2)):
        values, found = there_and_back(tf.constant(scale))
        assert np.array_equal(values, (codes + np.float32(low)) * scale)
        assert np.array_equal(found, codes)
