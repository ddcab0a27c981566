"""Keras 3 models widen as those of tf_keras do: the tests beside this one have the rules."""

import keras
import numpy as np
import pytest
import tf_keras

import wrpn_tf
from wrpn_tf import WidthRule

layers, ops = keras.layers, keras.ops


def plain():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0]),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.SeparableConv2D(6, 3),
            layers.Dropout(0.3),
            layers.Conv2D(8, 1, groups=2),
            layers.Flatten(),
            layers.Dense(5),
        ]
    )


def operations():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, use_bias=False)(image)
    gate = ops.sigmoid(layers.Dense(6)(layers.GlobalAveragePooling2D(keepdims=True)(x)))
    x = ops.relu(x * gate + 0.5)
    x = ops.concatenate([x, layers.Conv2D(4, 1, activation="hard_silu")(x)], axis=-1)
    return keras.Model(image, layers.Dense(3)(layers.GlobalMaxPooling2D()(x)))


def shuffled():
    image = keras.Input((6, 6, 4))
    x = layers.Conv2D(6, 1)(image)
    x = layers.Permute((1, 2, 4, 3))(layers.Reshape((6, 6, 3, 2))(x))
    x = layers.DepthwiseConv2D(3)(layers.Reshape((6, 6, 6))(x))
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))


def shared_and_nested():
    inner = keras.Sequential([keras.Input((4, 4, 6)), layers.Conv2D(6, 3, padding="same")])
    shared = layers.Conv2D(6, 1)
    one, other = keras.Input((4, 4, 3), name="one"), keras.Input((4, 4, 3), name="other")
    total = layers.Add()([inner(shared(one)), shared(other)])
    outputs = {
        "sum": layers.Dense(2)(layers.Flatten()(total)),
        "one": layers.Dense(1)(layers.Flatten()(shared(one))),
    }
    return keras.Model({"one": one, "other": other}, outputs)


@pytest.mark.parametrize("factor", [2, 1.5])
@pytest.mark.parametrize("network", [plain, operations, shuffled, shared_and_nested])
def test_function_is_preserved(network, factor):
    if network is plain and factor == 1.5:
        factor = 3  # Groups of unequal channels cannot be widened alike.
    keras.utils.set_random_seed(1)
    model = network()
    wide = wrpn_tf.widen(model, factor, seed=0)
    random = np.random.default_rng(0)
    inputs = model.inputs[0] if network is plain else model.input
    images = keras.tree.map_structure(
        lambda tensor: random.normal(size=(2, *tensor.shape[1:])).astype(np.float32), inputs
    )
    expected, found = model.predict(images, verbose=0), wide.predict(images, verbose=0)
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(b, a, rtol=0, atol=2e-5), expected, found
    )
    assert wide.count_params() > model.count_params()
    keras.tree.assert_same_structure(inputs, wide.input)


def test_weights_are_those_of_the_other_keras():
    one, other = (
        wrpn_tf.models.build("digits_cnn", num_classes=10, input_shape=(8, 8, 1), front=front)
        for front in ("keras", "tf_keras")
    )
    one.set_weights(other.get_weights())
    wide, twin = (wrpn_tf.widen(model, 2, seed=3) for model in (one, other))
    assert isinstance(twin, tf_keras.Model) and not isinstance(wide, tf_keras.Model)
    assert [layer.name for layer in wide.layers] == [layer.name for layer in twin.layers]
    pairs = list(zip(wide.get_weights(), twin.get_weights(), strict=True))
    assert all(np.array_equal(*pair) for pair in pairs)


def test_rules_and_a_fresh_start():
    rules = [WidthRule(layer_class=layers.Dense, factor=1), WidthRule(name="second", factor=3)]
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3), layers.Activation("relu"), layers.Dense(2)]
    )
    assert [layer.units for layer in wrpn_tf.widen(model, 2, rules[:1]).layers[1::2]] == [3, 2]
    with pytest.raises(ValueError, match="second"):
        wrpn_tf.widen(model, 2, rules[1:])
    fresh = wrpn_tf.widen(model, 0.5, initialization="fresh")
    assert fresh.layers[1].units == 2  # 1.5, halves up.


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.LSTM(3), "lstm.*the class is not known"),
        (layers.Lambda(lambda x: x), "lambda.*the class is not known"),
    ],
)
def test_what_is_not_known_is_named(layer, message):
    model = keras.Sequential([keras.Input((4, 3)), layers.Dense(3), layer, layers.Dense(2)])
    with pytest.raises(ValueError, match=f"Layers that cannot be widened: {message}"):
        wrpn_tf.widen(model, 2)
    function = keras.Input((4, 3))
    operation = keras.Model(function, layers.Dense(2)(ops.cumsum(layers.Dense(3)(function), 1)))
    with pytest.raises(ValueError, match=r"keras\.ops\.numpy\.Cumsum is not known to be element"):
        wrpn_tf.widen(operation, 2)


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_a_model_of_a_class_of_its_own_is_refused(library):
    class Adversarial(library.Model):
        def train_step(self, data):
            return super().train_step(data)

    image = library.Input((4,))
    x = library.layers.Dense(2)(library.layers.Dense(3)(image))
    message = "Cannot widen model 'robust': Adversarial 'robust' has its own train_step; widen a"
    with pytest.raises(ValueError, match=message):
        wrpn_tf.widen(Adversarial(image, x, name="robust"), 2)


def test_weights_frozen_by_themselves_are_named():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="first"), layers.Dense(2)])
    model.get_layer("first").bias.trainable = False
    with pytest.raises(ValueError, match=r"Cannot widen .*frozen by themselves .*first/bias\);"):
        wrpn_tf.widen(model, 2)


@pytest.mark.parametrize("library", [keras, tf_keras])
@pytest.mark.parametrize("nest", [list, dict])
def test_outputs_keep_the_names_of_nested_heads(library, nest):
    def head(name, units):
        entrance = library.Input((6,))
        x = library.layers.Dense(units, name="logits")(entrance)
        return library.Model(entrance, x, name=name)

    image = library.Input((4,))
    x = library.layers.Dense(6)(image)
    heads = {"age": head("years", 1)(x), "kind": head("kinds", 3)(x)}
    model = library.Model(image, heads if nest is dict else list(heads.values()))
    wide = wrpn_tf.widen(model, 2)
    saved = type(wide).from_config(wide.get_config())
    for copy in (wide, saved):
        assert copy.output_names == model.output_names == ["years", "kinds"]
        keras.tree.assert_same_structure(copy.output, model.output)
    images = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    for one, two in zip(*map(keras.tree.flatten, (model(images), wide(images))), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_a_model_whose_layers_name_its_outputs_is_keras_own():
    assert type(wrpn_tf.widen(operations(), 2)) is type(operations())


_FACTOR = 3.0


def test_a_kept_lambda_has_its_function():
    kept = layers.Lambda(lambda x: _FACTOR * x, name="kept")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), kept, layers.Dense(2)])
    wide = wrpn_tf.widen(model, 2, [WidthRule(name="kept", factor=1)])
    images = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    np.testing.assert_allclose(wide(images), model(images), atol=1e-5)
    assert wide.get_layer("kept") is not kept


def test_a_quantized_model_is_refused():
    model = wrpn_tf.quantize_model(keras.Sequential([keras.Input((4,)), layers.Dense(3)]), 4, 4)
    with pytest.raises(ValueError, match="is quantized already; widen the float model"):
        wrpn_tf.widen(model, 2)


def test_weights_that_are_not_the_kernel_alone_are_named():
    adapted, rounded = (
        keras.Sequential([keras.Input((4,)), layers.Dense(3, name="first"), layers.Dense(2)])
        for _ in range(2)
    )
    adapted.get_layer("first").enable_lora(2)
    with pytest.raises(ValueError, match=r"Cannot widen .*LoRA weights \(first\); merge"):
        wrpn_tf.widen(adapted, 2)
    rounded.quantize("int8")
    with pytest.raises(ValueError, match=r"by Keras \(first, dense\w*\); widen the float model"):
        wrpn_tf.widen(rounded, 2)
