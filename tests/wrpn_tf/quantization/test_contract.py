"""What a user's model says is kept by `quantize_model`, or refused by name.

A table of cases: a model, and what is expected of its quantized copy. Builders take a Keras: both
are held to the same table. docs/contract.md lists them.
"""

import dataclasses
import functools
import importlib
import warnings
from collections.abc import Callable

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from small_models import randomize

import export
import wrpn_tf

IMAGES = np.random.default_rng(0).uniform(0, 1, (16, 6, 6, 2)).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A model, and what is expected of its quantized copy.

    Attributes:
      build: makes the model of a Keras.
      expect: called with the model and the copy, calibrated; asserts.
      refused: what the error must match; then there is no copy.
      keras3: what Keras 3 itself raises when such a model is built, where it does.
      of_keras3: what is expected in Keras 3, where it differs.
    """

    build: Callable
    expect: Callable | None = None
    refused: str | None = None
    keras3: type[Exception] | None = None
    of_keras3: Callable | None = None


CASES: dict[str, Case] = {}


def case(name, build, expect=None, refused=None, **others):
    assert name not in CASES and (expect is None) != (refused is None)
    CASES[name] = Case(build=build, expect=expect, refused=refused, **others)


BOTH = pytest.mark.parametrize("keras", [tf_keras, keras3], ids=["tf_keras", "keras3"])


@BOTH
@pytest.mark.parametrize("name", CASES)
def test_contract(keras, name):
    chosen = CASES[name]
    if keras is keras3 and chosen.keras3 is not None:
        with pytest.raises(chosen.keras3):
            chosen.build(keras)
        return
    model = chosen.build(keras)
    expect = (keras is keras3 and chosen.of_keras3) or chosen.expect
    if expect is None:
        with pytest.raises(ValueError, match=chosen.refused):
            wrpn_tf.quantize_model(model, 8, 8)
        return
    randomize(model)
    quantized = wrpn_tf.quantize_model(model, 8, 8)
    wrpn_tf.calibrate(quantized, [inputs(model)])
    expect(model, quantized)


def image(keras, dtype="float32"):
    return keras.Input((6, 6, 2), name="image", dtype=dtype)


def inputs(model):
    """Images as the model takes them."""
    is_uint8 = tf.as_dtype(model.inputs[0].dtype) == tf.uint8
    return (255 * IMAGES).astype(np.uint8) if is_uint8 else IMAGES


def keras_of(model):
    """The Keras of a model."""
    return tf_keras if isinstance(model, tf_keras.Model) else keras3


def fitted(model, loss="mse", epochs=1):
    """Trains on random targets; returns what each epoch says of its losses."""
    random = np.random.default_rng(1)
    targets = [random.normal(size=(16, *output.shape[1:])) for output in model.outputs]
    targets = targets if len(targets) > 1 else targets[0]
    model.compile("sgd", loss)
    return model.fit(IMAGES, targets, epochs=epochs, shuffle=False, verbose=0).history


def name_of(weight):
    """Layer and name, with TF-MOT's prefix for what a wrapper adds: Keras 3 has no prefix."""
    if not isinstance(weight, keras3.Variable):
        return weight.name.removesuffix(":0")
    layer, *_, name = weight.path.split("/")
    wrapped = name.startswith(("output_", "kernel_scale")) and not layer.startswith("quantize_")
    return f"quant_{layer}/{name}" if wrapped else f"{layer}/{name}"


def names(weights):
    """In the order of tf_keras; Keras 3 has a wrapper's own variables first."""
    found = [name_of(weight) for weight in weights]
    return found if not isinstance(weights[0], keras3.Variable) else Unordered(found)


class Unordered(list):
    """Equal to a list of the same in any order."""

    def __eq__(self, other):
        return sorted(self) == sorted(other)

    __hash__ = None


# Trainable or frozen.


def backbone(keras, freeze=None, freeze_late=None, **call):
    """A nested model under a head; `freeze` is given the nested model before it is called."""
    layers, inner = keras.layers, keras.Input((6, 6, 2))
    x = layers.Conv2D(3, 3, use_bias=False, name="conv")(inner)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU(name="relu")(x)
    base = keras.Model(inner, layers.SeparableConv2D(2, 2, activation="relu", name="sep")(x))
    if freeze:
        freeze(base)
    source = image(keras)
    x = layers.GlobalAveragePooling2D(name="pool")(base(source, **call))
    model = keras.Model(source, layers.Dense(2, name="head")(x))
    if freeze_late:
        freeze_late(base)
    return model


def freeze_all(model):
    model.trainable = False


def freeze(name):
    def freeze_one(model):
        model.get_layer(name).trainable = False

    return freeze_one


def freeze_around_one(base):
    """An inner layer says that it trains, and does in Keras 3; the model around it does not."""
    base.trainable = False
    base.get_layer("conv").trainable = True


def trainable(*expected, statistics=()):
    """Only these train; the rest stays, also what frozen layers saw of their inputs."""

    def expect(model, quantized):
        own = [name for name in expected if not name.startswith("quant_")]
        assert names(model.trainable_weights) == own
        assert names(quantized.trainable_weights) == list(expected)
        values = [weight.numpy() for weight in quantized.weights]
        fitted(quantized)
        moved = {
            name_of(weight)
            for weight, old in zip(quantized.weights, values, strict=True)
            if not np.array_equal(weight.numpy(), old)
        }
        observed = {"quantize_image/output_minimum", "quantize_image/output_maximum"}
        observed |= {"quant_head/output_minimum", "quant_head/output_maximum"}
        assert moved - observed == {*expected, *statistics}

    return expect


HEAD = ("head/kernel", "head/bias", "quant_head/kernel_scale")

case("nested model frozen", lambda k: backbone(k, freeze_all), trainable(*HEAD))
case("nested model frozen late", lambda k: backbone(k, None, freeze_all), trainable(*HEAD))
case(
    "frozen around a layer",
    lambda k: backbone(k, freeze_around_one),
    trainable(*HEAD),
    of_keras3=trainable("conv/kernel", "quant_conv/kernel_scale", *HEAD),
)


def one_frozen(layer):
    """All weights but this layer's train."""

    def expect(model, quantized):
        free = wrpn_tf.quantize_model(backbone(keras_of(model)), 8, 8)
        assert names(quantized.trainable_weights) == [
            name for name in names(free.trainable_weights) if layer not in name
        ]
        # Saved weights have one order, frozen or not.
        for frozen, other in zip(quantized.layers, free.layers, strict=True):
            assert [*map(name_of, frozen.weights)] == [*map(name_of, other.weights)]

    return expect


for frozen in ("conv", "bn", "relu"):
    case(f"{frozen} frozen", lambda k, n=frozen: backbone(k, freeze(n)), one_frozen(frozen))
case(
    "separable convolution frozen",  # And the scale of its activation, which pooling keeps.
    lambda k: backbone(k, freeze("sep")),
    trainable(
        *("conv/kernel", "quant_conv/kernel_scale", "bn/gamma", "bn/beta"),
        *("quant_relu/output_scale", *HEAD),
        statistics=("bn/moving_mean", "bn/moving_variance"),
    ),
)


@pytest.mark.parametrize(
    ("keras", "suffix"), [(tf_keras, ""), (tf_keras, ".h5"), (keras3, ".keras")]
)
def test_layers_freeze_after_quantizing_and_when_loaded(keras, suffix, tmp_path):
    quantized = wrpn_tf.quantize_model(randomize(backbone(keras)), 8, 8)
    wrpn_tf.calibrate(quantized, [IMAGES])
    everything = names(quantized.weights)
    for layer in quantized.layers[:-1]:
        layer.trainable = False
    assert names(quantized.trainable_weights) == list(HEAD)
    quantized.save(tmp_path / f"model{suffix}")
    loaded = wrpn_tf.load_model(tmp_path / f"model{suffix}")
    np.testing.assert_array_equal(loaded(IMAGES), quantized(IMAGES))
    for model in (quantized, loaded):
        shorts = [name.split("/")[-1] for name in map(name_of, model.trainable_weights)]
        assert sorted(shorts) == ["bias", "kernel", "kernel_scale"]
        model.trainable = False
        assert not model.trainable_weights
        model.trainable = True
        assert len(model.weights) == len(everything)
    assert names(quantized.weights) == everything


# Arguments of calls.


def in_inference(model, quantized):
    """Batch normalization keeps its statistics, and gains and offsets train.

    In Keras 3.15 `fit` overrules the arguments of calls in a model: its copy does as the model.
    """
    moved = []
    for copy in (model, quantized):
        before = {name_of(weight): weight.numpy() for weight in copy.weights}
        fitted(copy)
        after = {name_of(weight): weight.numpy() for weight in copy.weights}
        moved.append(
            {name for name in before if "bn/" in name and (after[name] != before[name]).any()}
        )
    assert moved[0] == moved[1]
    assert {"bn/gamma", "bn/beta"} <= moved[1]
    if keras_of(model) is tf_keras:
        assert moved[1] == {"bn/gamma", "bn/beta"}


def random_in_inference(model, quantized):
    """As the model does: in Keras 3.15 `predict` and the outer call overrule arguments of calls."""
    for run in ("predict", "__call__"):
        found = []
        for copy in (model, quantized):
            one, other = (np.asarray(getattr(copy, run)(IMAGES)) for _ in range(2))
            found.append((one != other).any())
        assert found[0] == found[1]
        assert found[1] or keras_of(model) is keras3


def dropout(keras, inner, outer=None):
    layers, entrance, source = keras.layers, keras.Input((72,)), image(keras)
    x = layers.Dropout(0.5, name="dropout")(**inner, inputs=entrance)
    nested = keras.Model(entrance, x)
    x = nested(layers.Flatten()(source), **(outer or {}))
    return keras.Model(source, layers.Dense(2, name="head")(x))


def masked(keras):
    source = image(keras)
    x = keras.layers.Softmax(name="choice")(source, mask=np.ones((1, 6, 6, 2), bool))
    return keras.Model(source, x)


def switched(keras):
    source, switch = image(keras), keras.Input((), dtype="bool")
    x = keras.layers.Dropout(0.5, name="dropout")(source, training=switch)
    return keras.Model([source, switch], x)


case("nested model in inference", lambda k: backbone(k, training=False), in_inference)
case("dropout in inference", lambda k: dropout(k, {"training": True}), random_in_inference)
case("dropout in a nested model", lambda k: dropout(k, {}, {"training": 1}), random_in_inference)
case(
    "the innermost call decides",
    lambda k: dropout(k, {"training": True}, {"training": False}),
    random_in_inference,
)
case("mask", masked, refused=r"choice \(Softmax: call argument 'mask'\)")
case(
    "training is a tensor",
    switched,
    refused="dropout .*'training' must be True or False",
)


# Inputs and outputs.


def two_heads(keras, returns, takes=lambda source: source):
    """Two heads, the second with an activation of its own; `returns` is given them by name."""
    layers, source = keras.layers, image(keras)
    x = layers.Flatten(name="flat")(layers.Conv2D(2, 3, activation="relu", name="conv")(source))
    heads = {
        "kind": layers.Dense(4, activation="softmax", name="kind")(x),
        "age": layers.Dense(1, name="age")(x),
    }
    return keras.Model(takes(source), returns(heads))


TARGETS = {"age": np.ones((16, 1), np.float32), "kind": np.arange(16) % 4}
LOSSES = {"age": "mse", "kind": "sparse_categorical_crossentropy"}


def same_interface(model, quantized):
    """Names and nesting, also once saved; losses by name."""
    known = wrpn_tf.custom_objects() if keras_of(model) is tf_keras else None
    saved = type(quantized).from_config(quantized.get_config(), custom_objects=known)
    for copy in (quantized, saved):
        assert copy.output_names == model.output_names
        assert [i.name for i in copy.inputs] == [i.name for i in model.inputs]
        tf.nest.assert_same_structure(copy(IMAGES), model(IMAGES))
        assert [tensor.shape for tensor in copy.outputs] == [t.shape for t in model.outputs]
    histories = []
    for trained in (model, saved, quantized):
        trained.compile("sgd", LOSSES)
        histories.append(trained.fit(IMAGES, TARGETS, verbose=0).history.keys())
    assert histories[0] == histories[1] == histories[2]


def nested_interface(model, quantized):
    for copy in (model, quantized):
        prediction = copy.predict({"picture": IMAGES}, verbose=0)
        assert prediction["heads"][0].shape == (16, 4) and prediction["heads"][1].shape == (16, 1)
    assert quantized.output_names == model.output_names == ["kind", "age"]


def one_output_twice(keras):
    source = image(keras)
    x = keras.layers.Dense(3, name="head")(keras.layers.Flatten()(source))
    return keras.Model(source, [x, x])


def both(model, quantized):
    one, other = quantized.predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(one, other)
    assert quantized.output_names == model.output_names
    second = "head_1" if keras_of(model) is tf_keras else "head"
    assert model.output_names == ["head", second]


def loss_by_name(model, quantized):
    by_name = keras_of(model) is tf_keras  # Keras 3 takes the targets of one output as an array.
    for copy in (model, quantized):
        copy.compile("sgd", {"head": "mse"})
        copy.fit(IMAGES, {"head": np.ones((16, 2))} if by_name else np.ones((16, 2)), verbose=0)


case("outputs in a list", lambda k: two_heads(k, lambda h: list(h.values())), same_interface)
case("outputs in a dictionary", lambda k: two_heads(k, dict), same_interface)
case(
    "nested inputs and outputs",
    lambda k: two_heads(k, lambda h: {"heads": tuple(h.values())}, lambda x: {"picture": x}),
    nested_interface,
)
case("one output twice", one_output_twice, both)
case("the loss of one output by name", backbone, loss_by_name)


@BOTH
@pytest.mark.parametrize("nest", [list, tuple, dict])
def test_outputs_in_a_nest_are_exported(keras, nest):
    def returns(heads):
        return heads if nest is dict else nest(heads.values())

    quantized = wrpn_tf.quantize_model(randomize(two_heads(keras, returns)), 8, 8)
    wrpn_tf.calibrate(quantized, [IMAGES])
    graph = export.lower(quantized)
    shapes = [graph.tensors[name].shape for name in graph.outputs]
    assert shapes == [tuple(1 if s is None else s for s in t.shape) for t in quantized.outputs]


# Functions.


def activated(keras, activation):
    source = image(keras)
    x = keras.layers.Conv2D(2, 3, name="conv")(source)
    return keras.Model(source, keras.layers.Conv2D(2, 1, name="last")(activation(x)))


def hard_sigmoid(x):
    return tf.nn.relu6(x + 3.0) / 6.0


@functools.wraps(tf_keras.activations.relu)
def relu(x):
    return tf.nn.relu(x) ** 2


def same_values(model, quantized):
    expected = model.predict(inputs(model), verbose=0)
    error = np.abs(quantized.predict(inputs(model), verbose=0) - expected)
    assert error.max() < 0.1 * expected.std()


for name, function in (
    ("of a known name", hard_sigmoid),
    ("that wraps a known one", relu),
    ("that TensorFlow compiles", tf.function(hard_sigmoid)),
):
    case(
        f"a function {name}",
        lambda k, f=function: activated(k, k.layers.Activation(f, name="own")),
        refused=r"own \(Activation: activation .*(test_contract|polymorphic)",
    )
case(
    "a layer's own activation",
    lambda k: activated(k, k.layers.Conv2D(2, 1, activation=hard_sigmoid, name="own")),
    refused=r"own \(Conv2D: activation .*hard_sigmoid",
)
case(
    "a layer with weights as an activation",
    lambda k: activated(k, k.layers.Activation(k.layers.PReLU(shared_axes=[1, 2]), name="own")),
    refused=r"own \(Activation: activation 'PReLU'; call it as a layer",
)
case(
    "a layer with weights as a convolution's activation",
    lambda k: activated(k, k.layers.Conv2D(2, 1, activation=k.layers.PReLU(), name="own")),
    refused=r"own \(Conv2D: activation 'PReLU'; call it as a layer",
)
case("leaky_relu", lambda k: activated(k, k.layers.Activation("leaky_relu")), same_values)
case(
    "TensorFlow's leaky_relu",
    lambda k: activated(k, k.layers.Conv2D(2, 1, activation=tf.nn.leaky_relu)),
    same_values,
)
for name in ("relu", "relu6", "sigmoid", "silu"):
    case(
        f"TensorFlow's {name}",
        lambda k, n=name: activated(k, k.layers.Activation(getattr(tf.nn, n))),
        same_values,
    )
case("hard_sigmoid", lambda k: activated(k, k.layers.Activation("hard_sigmoid")), same_values)


def beside_a_hard_sigmoid(keras, activation, join):
    """Values of up to 20, or to the activation's maximum, beside values of up to 1."""
    source = image(keras)
    x = keras.layers.Conv2D(2, 3, name="conv")(source)
    large = keras.layers.Activation(activation)(keras.layers.Rescaling(20.0)(x))
    x = join([keras.layers.Activation("hard_sigmoid")(x), large])
    return keras.Model(source, keras.layers.Conv2D(2, 1, name="last")(x))


def near_values(model, quantized):
    expected = model.predict(inputs(model), verbose=0)
    error = np.abs(quantized.predict(inputs(model), verbose=0) - expected)
    assert error.max() < 0.2 * np.abs(expected).max()


for name, activation, join in (
    ("a hard sigmoid", "relu", "Concatenate"),
    ("a hard sigmoid, with a maximum", "relu6", "Concatenate"),
    ("a hard sigmoid: the larger", "relu", "Maximum"),
):
    case(
        f"a ReLU beside {name}",
        lambda k, a=activation, j=join: beside_a_hard_sigmoid(k, a, getattr(k.layers, j)()),
        near_values,
    )
case(
    "argument of an operation",
    lambda k: activated(k, lambda x: tf.nn.silu(x, beta=2.0)),
    refused="operation 'nn.silu' with beta",
    keras3=ValueError,  # TensorFlow takes no KerasTensor.
)
case(
    "constant of an operation",
    lambda k: activated(k, lambda x: tf.roll(x, 1, 2)),
    refused="operation 'roll' with argument 2, argument 3",
    keras3=ValueError,  # TensorFlow takes no KerasTensor.
)
case(
    "arguments of an operation",
    lambda k: activated(k, lambda x: tf.reduce_max(x, axis=1, keepdims=True)),
    refused="operation 'math.reduce_max' with axis, keepdims",
    keras3=ValueError,  # TensorFlow takes no KerasTensor.
)


def softened(keras):
    """A function of Keras 3's operations that no layer stands for."""
    source = image(keras)
    x = keras.layers.Conv2D(2, 3, name="conv")(source)
    return keras.Model(source, keras.ops.roll(x, 1, axis=2))


def test_operations_of_keras3_are_refused_by_name():
    with pytest.raises(ValueError, match=r"operation 'numpy\.Roll'"):
        wrpn_tf.quantize_model(softened(keras3), 8, 8)


# Regularizers and constraints.


def regularized(keras, *layers):
    source = x = image(keras)
    for layer in layers:
        x = layer(x)
    return keras.Model(source, x)


def same_losses(model, quantized):
    """Those of weights are equal; those of activities see quantized values."""
    floats = wrpn_tf.quantize_model(model, 32, 32, first_last="paper")
    found = []
    for copy in (model, floats, quantized):
        copy(IMAGES)
        found.append(sorted(float(loss) for loss in copy.losses))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    np.testing.assert_allclose(found[2], found[0], rtol=0.02)
    assert min(found[0]) > 1e-3
    fitted(quantized)
    quantized.evaluate(IMAGES, quantized.predict(IMAGES, verbose=0), verbose=0)


def constrained(model, quantized):
    """Each constraint limits the sums over the same axes of its weight."""
    found = [
        {
            weight.name.split("/")[-1]: (type(weight.constraint).__name__, weight)
            for weight in copy.trainable_weights
            if weight.constraint is not None
        }
        for copy in (model, quantized)
    ]
    assert found[0].keys() == found[1].keys() and found[0]
    for name, (constraint, weight) in found[0].items():
        other, copied = found[1][name]
        assert other == constraint
        np.testing.assert_array_equal(
            np.reshape(copied.constraint(copied), weight.shape), weight.constraint(weight)
        )


def largest(keras):
    class Largest(keras.regularizers.Regularizer):
        def __call__(self, x):
            return tf.reduce_max(tf.abs(x))

    return Largest()


def l1_l2(keras):
    return keras.regularizers.L1L2(0.01, 0.02)


case(
    "activity behind a fused activation",
    lambda k: regularized(
        k, k.layers.Conv2D(2, 3, activation="relu", activity_regularizer=l1_l2(k))
    ),
    same_losses,
)
case(
    "activity of a fused swish",
    lambda k: regularized(
        k, k.layers.Conv2D(2, 3, activation="swish", activity_regularizer=k.regularizers.L1(0.01))
    ),
    same_losses,
)
case(
    "activity of layers that become several",
    lambda k: regularized(
        k,
        k.layers.Conv2D(2, 3),
        k.layers.LeakyReLU(activity_regularizer=l1_l2(k)),
        k.layers.PReLU(shared_axes=[1, 2], activity_regularizer=l1_l2(k)),
        k.layers.Activation("swish", activity_regularizer=l1_l2(k)),
        k.layers.Activation("sigmoid", activity_regularizer=l1_l2(k)),
        k.layers.UpSampling2D(interpolation="bilinear", activity_regularizer=l1_l2(k)),
        k.layers.GlobalAveragePooling2D(activity_regularizer=l1_l2(k)),
    ),
    same_losses,
)
case(
    "activity before batch normalization",
    lambda k: regularized(
        k,
        k.layers.Conv2D(2, 3, activity_regularizer=l1_l2(k)),
        k.layers.BatchNormalization(),
        k.layers.ReLU(),
        k.layers.ActivityRegularization(0.01, 0.02),
    ),
    same_losses,
)
case(
    "weights and activity",
    lambda k: regularized(
        k,
        k.layers.Conv2D(2, 3, kernel_regularizer=l1_l2(k), bias_regularizer=l1_l2(k)),
        k.layers.SeparableConv2D(
            2,
            2,
            depthwise_regularizer=l1_l2(k),
            pointwise_regularizer=l1_l2(k),
            bias_regularizer=l1_l2(k),
            activity_regularizer=l1_l2(k),
        ),
        k.layers.BatchNormalization(gamma_regularizer=l1_l2(k), beta_regularizer=l1_l2(k)),
        k.layers.Flatten(),
        k.layers.Dense(2, kernel_regularizer=l1_l2(k)),
    ),
    same_losses,
)


def penalties_of_dense(keras):
    """All the regularizers of a dense layer."""
    return {f"{part}_regularizer": l1_l2(keras) for part in ("kernel", "bias", "activity")}


case(
    "separable over sequences",
    lambda k: regularized(
        k,
        k.layers.Reshape((36, 2)),
        k.layers.SeparableConv1D(
            *(2, 3),
            depthwise_regularizer=l1_l2(k),
            pointwise_regularizer=l1_l2(k),
            bias_regularizer=l1_l2(k),
            activity_regularizer=l1_l2(k),
        ),
        k.layers.Conv1DTranspose(2, 3, activation="relu", kernel_regularizer=l1_l2(k)),
    ),
    same_losses,
)
case(
    "dense over images and sequences",
    lambda k: regularized(
        k,
        k.layers.Dense(4, activation="relu", **penalties_of_dense(k)),
        k.layers.Reshape((36, 4)),
        k.layers.Dense(2, **penalties_of_dense(k)),
    ),
    same_losses,
)
case(
    "activity over sequences",
    lambda k: regularized(
        k,
        k.layers.Reshape((36, 2)),
        k.layers.Conv1D(
            2, 3, activation="relu", kernel_regularizer=l1_l2(k), activity_regularizer=l1_l2(k)
        ),
        k.layers.Conv1D(2, 3, activity_regularizer=l1_l2(k)),
    ),
    same_losses,
)


def penalized_sum(keras):
    """A factor behind a ReLU, one behind that, and a sum of three."""
    layers, source = keras.layers, image(keras)
    x = layers.ReLU()(layers.Conv2D(2, 1)(source))
    x = layers.Rescaling(2.0, activity_regularizer=l1_l2(keras), name="line")(x)
    total = layers.Add(activity_regularizer=l1_l2(keras), name="total")
    return keras.Model(source, total([layers.Rescaling(3.0)(x), source, source]))


case(
    "activity of a factor and of a sum",
    penalized_sum,
    refused="'(line|total)' .* has an activity_regularizer that Keras does not copy",
    of_keras3=same_losses,
)
case(
    "activity of pooling over sequences",
    lambda k: regularized(
        k,
        k.layers.Reshape((36, 2)),
        k.layers.Conv1D(2, 3),
        k.layers.MaxPooling1D(activity_regularizer=l1_l2(k), name="pool"),
    ),
    refused="'pool' .* has an activity_regularizer that Keras does not copy",
    of_keras3=same_losses,
)
case(
    "constraints",
    lambda k: regularized(
        k,
        k.layers.Conv2D(
            2,
            3,
            kernel_constraint=k.constraints.MaxNorm(0.1, axis=[0, 1, 2]),
            bias_constraint="non_neg",
        ),
        k.layers.Reshape((16, 2)),
        k.layers.Conv1D(2, 3, name="a", kernel_constraint=k.constraints.MaxNorm(0.1, axis=[0, 1])),
    ),
    constrained,
)
case(
    "constraints over sequences",
    lambda k: regularized(
        k,
        k.layers.Reshape((36, 2)),
        k.layers.DepthwiseConv1D(3, depthwise_constraint=k.constraints.MaxNorm(0.1, axis=[0])),
    ),
    constrained,
)
case(
    "constraint of a dense layer over images",
    lambda k: regularized(
        k,
        k.layers.Dense(3, kernel_constraint=k.constraints.MaxNorm(0.1, axis=0)),
    ),
    constrained,
)


def saved_activity(model, quantized):
    """Keras 3 saves what tf_keras does not."""
    found = []
    for copy in (model, quantized):
        copy(IMAGES)
        found.append([float(loss) for loss in copy.losses])
    np.testing.assert_allclose(*found, rtol=0.02)
    assert len(found[0]) == 1


case(
    "activity of a class that does not save it",
    lambda k: regularized(k, k.layers.ReLU(activity_regularizer=l1_l2(k), name="act")),
    refused="'act' .ReLU. has an activity_regularizer",
    of_keras3=saved_activity,
)
case(
    "another regularizer behind a fused activation",
    lambda k: regularized(
        k,
        k.layers.Flatten(),
        k.layers.Dense(
            2,
            activation="relu",
            activity_regularizer=largest(k),
            name="act",
        ),
    ),
    refused="act .Dense: activity_regularizer Largest",
)
case(
    "another regularizer of a layer that becomes several",
    lambda k: regularized(
        k,
        k.layers.Flatten(),
        k.layers.LeakyReLU(
            activity_regularizer=k.regularizers.OrthogonalRegularizer(mode="columns"), name="act"
        ),
    ),
    refused="act .LeakyReLU: activity_regularizer OrthogonalRegularizer; .* L1L2 are kept",
)


# Types and sizes.


def pixels(model, quantized):
    assert tf.as_dtype(quantized.inputs[0].dtype) == tf.uint8
    same_values(model, quantized)
    quantized.compile("sgd", "mse")
    quantized.fit(inputs(model), model.predict(inputs(model), verbose=0), verbose=0)
    (normalization,) = export.lower(quantized).metadata["normalization"].values()
    assert normalization == {"mean": [0.0], "std": [pytest.approx(1.0, rel=0.01)]}


def of_pixels(keras):
    layers, source = keras.layers, image(keras, "uint8")
    x = layers.Conv2D(2, 3, activation="relu")(layers.Rescaling(1 / 255)(source))
    return keras.Model(source, layers.Dense(2)(layers.Flatten()(x)))


def of_nested_floats(keras):
    inner, source = keras.Input((6, 6, 2)), image(keras, "uint8")
    base = keras.Model(inner, keras.layers.Conv2D(2, 3, activation="relu")(inner))
    return keras.Model(source, keras.layers.Conv2D(2, 3)(base(source)))


def cast_at_the_border(model, quantized):
    same_values(model, quantized)
    for copy in (wrpn_tf.to_float(quantized), wrpn_tf.widen(model, 1)):
        np.testing.assert_allclose(copy(inputs(model)), model(inputs(model)), rtol=1e-4, atol=1e-3)


def of_any_size(keras):
    source = keras.Input((None, None, 3), name="photo")
    return keras.Model(source, keras.layers.Conv2D(2, 3)(source))


def of_policy(name):
    def build(keras):
        source = image(keras)
        return keras.Model(source, keras.layers.Conv2D(2, 3, dtype=name, name="conv")(source))

    return build


def of_arithmetic_on_pixels(keras):
    source = image(keras, "uint8")
    x = keras.layers.Rescaling(1 / 128, name="real")(source - 128)
    return keras.Model(source, keras.layers.Conv2D(2, 3, name="head")(x))


def of_sums_of_pixels(keras):
    source = image(keras, "uint8")
    x = keras.layers.Rescaling(1 / 128)(keras.layers.Add(name="sum")([source, source]))
    return keras.Model(source, keras.layers.Conv2D(2, 3, name="head")(x))


case("uint8 images", of_pixels, pixels)
case("arithmetic of uint8", of_arithmetic_on_pixels, refused="subtract.* computes in uint8")
case("a sum of uint8", of_sums_of_pixels, refused="'sum' computes in uint8")
case("uint8 images of a nested model of floats", of_nested_floats, cast_at_the_border)
case("images of any size", of_any_size, refused="input 'photo' has the shape .None, None, None, 3.")
case(
    "policy of a layer",
    of_policy("mixed_float16"),
    refused="policies: conv .'mixed_float16'.; build",
)


@BOTH
def test_global_policy_is_named(keras):
    model = backbone(keras)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        with pytest.raises(ValueError, match="the global policy is 'mixed_bfloat16'"):
            wrpn_tf.quantize_model(model)
    finally:
        keras.mixed_precision.set_global_policy("float32")


# What a model adds to Keras's.


def with_own_step(keras):
    class Adversarial(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    model = backbone(keras)
    return Adversarial(model.inputs, model.outputs, name="robust")


def with_loss(keras, loss):
    model = backbone(keras)
    model.add_loss(loss(model))
    return model


def mean(keras, x):
    return keras.ops.mean(x) if keras is keras3 else tf.reduce_mean(x)


def with_metric(keras):
    model = backbone(keras)
    model.add_metric(mean(keras, model.output), name="mean_output")
    return model


def used_twice(keras):
    layers, source = keras.layers, image(keras)
    conv = layers.Conv2D(2, 3, padding="same", name="twice")
    bn = layers.BatchNormalization(name="bn")
    x = layers.Flatten()(layers.Add()([bn(conv(bn(conv(source)))), source]))
    return keras.Model(source, layers.Dense(2, name="head")(x))


def one_layer(model, quantized):
    """One kernel with one scale, trained by both uses; quantizers of the outputs of their own."""
    assert names(quantized.trainable_weights) == [
        *("twice/kernel", "twice/bias", "quant_twice/kernel_scale", "bn/gamma", "bn/beta", *HEAD),
    ]
    ranges = {
        view.name.removeprefix("quant_"): view.grid
        for view in wrpn_tf.view(quantized)
        if view.kind is wrpn_tf.Kind.USE
    }
    assert ranges.keys() == {"bn_use", "bn_2_use"}
    assert len(set(ranges.values())) == 2
    export.settle(quantized)
    verified = export.verify(quantized, export.to_tflite(quantized), IMAGES)
    assert not verified.failures and verified.different == 0
    floats = wrpn_tf.quantize_model(model, 32, 32, first_last="paper")
    histories = []
    for copy in (model, floats):
        before = dict(zip(names(copy.weights), copy.get_weights(), strict=True))
        fitted(copy, epochs=2)
        after = dict(zip(names(copy.weights), copy.get_weights(), strict=True))
        histories.append({n: after[n] - before[n] for n in names(model.weights)})
    for name, moved in histories[0].items():
        np.testing.assert_allclose(histories[1][name], moved, rtol=1e-3, atol=1e-6)


def towers(keras):
    """Two nested models whose layers have equal names."""
    layers, source = keras.layers, image(keras)

    def tower(name):
        inner = keras.Input((6, 6, 2))
        x = layers.BatchNormalization(name="bn")(layers.Conv2D(2, 3, name="conv")(inner))
        return keras.Model(inner, x, name=name)(source)

    x = layers.Add()([tower("color"), tower("depth")])
    return keras.Model(source, layers.Dense(2, name="head")(layers.Flatten()(x)))


def nested_by_name(keras):
    """A nested model called on a dictionary, of more tensors than it takes."""
    layers, source = keras.layers, image(keras)
    first, second = (keras.Input((6, 6, 2), name=name) for name in "ba")
    base = keras.Model([first, second], layers.Subtract()([first, second]))
    doubled = layers.Rescaling(2.0)(source)
    x = base({"a": source, "b": doubled, "c": source})
    return keras.Model(source, layers.Dense(2, name="head")(layers.Flatten()(x)))


def two_layers(model, quantized):
    kernels = {name for name in names(quantized.trainable_weights) if "conv" in name}
    assert kernels == {
        *("conv/kernel", "conv/bias", "quant_conv/kernel_scale"),
        *("conv_2/kernel", "conv_2/bias", "quant_conv_2/kernel_scale"),
    }
    floats = wrpn_tf.quantize_model(model, 32, 32, first_last="paper")
    expected = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(floats.predict(IMAGES, verbose=0), expected, rtol=1e-5, atol=1e-6)


case("own train_step", with_own_step, refused="Adversarial 'robust' has its own train_step")
case(
    "add_loss of a tensor",
    lambda k: with_loss(k, lambda model: mean(k, model.output)),
    refused="add_loss",
    keras3=NotImplementedError,
)
case(
    "add_loss of a function",
    lambda k: with_loss(k, lambda model: lambda: tf.reduce_sum(model.weights[0])),
    refused="has losses from add_loss",
    keras3=NotImplementedError,
)


def with_loss_of_a_layer(keras):
    model = backbone(keras)
    conv = model.layers[1].get_layer("conv")
    conv.add_loss(lambda: tf.reduce_sum(conv.kernel))
    return model


case(
    "add_loss of a layer",
    with_loss_of_a_layer,
    refused="layer 'conv' has losses from add_loss",
    keras3=ValueError,
)
case("add_metric", with_metric, refused="add_metric", keras3=NotImplementedError)
case("a layer with weights used twice", used_twice, one_layer)
case("towers with equal names", towers, two_layers)
case("a nested model of a dictionary", nested_by_name, same_values)
case(
    "a quantized model",
    lambda k: wrpn_tf.quantize_model(backbone(k)),
    refused="it is quantized already",
)


def with_own_weight(keras):
    model = backbone(keras)
    if keras is keras3:
        model.extra = keras3.layers.Dense(2, name="extra")
        model.extra.build((None, 3))
        return model
    model.extra = tf.Variable([1.0], name="extra")
    return model


def with_another_call(keras):
    model = backbone(keras)
    conv = model.layers[1].get_layer("conv")
    original = conv.call
    conv.call = lambda x: 2 * original(x)
    return model


def with_another_step(keras):
    model = backbone(keras)
    original = model.train_step
    model.train_step = lambda data: original(data)
    return model


def with_another(method):
    """A model whose class has its own `method`."""

    def build(keras):
        model = backbone(keras)
        original = getattr(keras.Model, method)
        own = type("Own", (keras.Model,), {method: original})
        return own(model.inputs, model.outputs, name="own")

    return build


def with_added_weight(keras):
    """A layer with a weight that its configuration knows nothing of."""
    source = image(keras)
    layer = keras.layers.Dense(2, name="head")
    layer.extra = layer.add_weight(name="extra", shape=(2,))
    return keras.Model(source, layer(keras.layers.Flatten()(source)))


def with_metric_of_a_layer(keras):
    source = image(keras)
    layer = keras.layers.Conv2D(2, 3, name="conv")
    layer.seen = keras.metrics.Mean(name="seen")
    return keras.Model(source, layer(source))


def with_metric_of_the_model(keras):
    model = backbone(keras)
    model.seen = keras.metrics.Mean(name="seen")
    return model


def without_layers(keras):
    source = image(keras)
    return keras.Model(source, source, name="empty")


def with_its_input(keras):
    source = image(keras)
    return keras.Model(source, [source, keras.layers.Conv2D(2, 3, name="conv")(source)])


def merged(keras, merge):
    source = image(keras)
    x = merge(keras.layers)([keras.layers.Conv2D(2, 1)(source) for _ in range(2)])
    return keras.Model(source, x)


def with_activity_of_a_nested_model(keras):
    model = backbone(keras)
    set_activity(keras, model.layers[1])
    return model


def set_activity(keras, model):
    attribute = "activity_regularizer" if keras is keras3 else "_activity_regularizer"
    setattr(model, attribute, l1_l2(keras))


def regularized_late(keras):
    """Keras adds losses of weights as it builds a layer: what is set later, the model ignores."""
    source = image(keras)
    conv = keras.layers.Conv2D(2, 3, name="conv")
    model = keras.Model(source, conv(source))
    conv.kernel_regularizer = l1_l2(keras)
    return model


def regularizer_taken_away(keras):
    source = image(keras)
    conv = keras.layers.Conv2D(2, 3, kernel_regularizer=l1_l2(keras), name="conv")
    model = keras.Model(source, conv(source))
    conv.kernel_regularizer = None
    return model


def one_loss_more(model, quantized):
    model(IMAGES)
    quantized(IMAGES)
    assert (len(model.losses), len(quantized.losses)) == (0, 1)


def nested_twice(keras):
    """A nested model called twice, the second time in inference."""
    layers, inner, source = keras.layers, keras.Input((6, 6, 2)), image(keras)
    x = layers.Conv2D(2, 3, padding="same", name="conv")(inner)
    base = keras.Model(inner, layers.BatchNormalization(name="bn")(x))
    x = layers.Flatten()(base(base(source), training=False))
    return keras.Model(source, layers.Dense(2, name="head")(x))


def same_statistics(model, quantized):
    """As many updates, of the same batches: one, where the second call does not count."""
    statistics = []
    for copy in (model, wrpn_tf.quantize_model(model, 32, 32, first_last="paper"), quantized):
        before = {name_of(weight): weight.numpy() for weight in copy.weights}
        fitted(copy)
        moved = {name_of(w): w.numpy() - before[name_of(w)] for w in copy.weights}
        statistics.append(np.stack([moved["bn/moving_mean"], moved["bn/moving_variance"]]))
    assert np.abs(statistics[0]).min() > 1e-3
    np.testing.assert_allclose(statistics[1], statistics[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(statistics[2], statistics[0], rtol=0.05, atol=1e-3)


def random_in_training(model, quantized):
    """Noise in training and none in inference, as of the float model; nor in an integer graph."""
    assert not any(view.always_trains for view in wrpn_tf.view(quantized))
    for copy in (model, quantized):
        for training in (False, True):
            one, other = (np.asarray(copy(IMAGES, training=training)) for _ in range(2))
            assert (one != other).any() == training


def dropped_channels(model, quantized):
    """Whole channels in training, none in inference."""
    random_in_training(model, quantized)
    dropped = (np.asarray(quantized(IMAGES, training=True)) == 0).mean(axis=1)
    assert (dropped == 1).any() and (dropped < 0.5).any()


def with_an_unread_input(keras):
    source = image(keras)
    return keras.Model([source, keras.Input((3,), name="other")], keras.layers.ReLU()(source))


def with_an_unread_output(keras):
    """Of a nested model's two outputs one is read; the other has a use of a layer with weights."""
    layers, inner = keras.layers, keras.Input((6, 6, 2))
    shared = layers.Conv2D(4, 1, name="shared")
    x = layers.Conv2D(4, 3, name="conv")(inner)
    unread = layers.Flatten(name="flat")(shared(layers.MaxPooling2D(name="pool")(x)))
    read = shared(layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x)))
    source = image(keras)
    _, x = keras.Model(inner, [unread, read])(source)
    return keras.Model(source, layers.Conv2D(2, 1, name="last")(x))


def beside_the_output(layer, **arguments):
    """A layer of a nested model whose output nothing reads."""

    def build(keras):
        inner, source = keras.Input((6, 6, 2)), image(keras)
        x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inner)
        given = {name: make(keras) for name, make in arguments.items()}
        unread = getattr(keras.layers, layer)(name="unread", **given)(x)
        _, x = keras.Model(inner, [unread, x])(source)
        return keras.Model(source, keras.layers.Conv2D(2, 1, name="last")(x))

    return build


def only_what_is_read(model, quantized):
    """One operator of convolution, normalization and ReLU, and one use of a shared layer."""
    views = wrpn_tf.view(quantized)
    assert [view.layer.name for view in views[2:]] == ["conv", "bn", "relu", "shared_2", "last"]
    assert [view.grid is None for view in views[2:]] == [True, True, False, False, False]
    export.lower(quantized)


def noisy(layer, *arguments):
    def build(keras):
        source = image(keras)
        x = getattr(keras.layers, layer)(*arguments)(source)
        return keras.Model(source, keras.layers.Conv2D(2, 3, name="conv")(x))

    return build


def with_a_frozen_weight(keras):
    model = backbone(keras)
    model.get_layer("head").kernel.trainable = False
    return model


def unknown_to_keras(keras, part):
    """A part of a layer of a class that is not registered."""

    class Own(getattr(keras, f"{part}s").__dict__[part.capitalize()]):
        def __call__(self, x, *_, **__):
            return np.zeros(x, np.float32) if part == "initializer" else x

    source = image(keras)
    return keras.Model(
        source, keras.layers.Conv2D(2, 3, name="conv", **{f"kernel_{part}": Own()})(source)
    )


def on_a_constant(merge):
    def build(keras):
        convert = keras.ops.convert_to_tensor if keras is keras3 else tf.constant
        source = image(keras)
        x = keras.layers.Conv2D(2, 1)(source)
        constant = convert(np.full((16, 6, 6, 2), 3, np.float32))
        return keras.Model(
            source, getattr(keras.layers, merge)(name="merge")([x, source, constant])
        )

    return build


def of_inputs(form):
    def build(keras):
        source = keras.Input((4,), name="bag", **{form: True})
        return keras.Model(source, keras.layers.Dense(2)(source))

    return build


@keras3.saving.register_keras_serializable("contract")
class Halved(keras3.constraints.Constraint):
    def __call__(self, weight):
        return weight / 2


@tf_keras.utils.register_keras_serializable("contract")
class HalvedOfTfKeras(tf_keras.constraints.Constraint):
    def __call__(self, weight):
        return weight / 2


def registered_constraint(keras):
    chosen = Halved() if keras is keras3 else HalvedOfTfKeras()
    source = image(keras)
    return keras.Model(source, keras.layers.Conv2D(2, 3, kernel_constraint=chosen)(source))


def dropped_out(keras):
    layers, source = keras.layers, image(keras)
    x = layers.SpatialDropout2D(0.5, name="drop")(layers.Conv2D(2, 3, name="conv")(inputs=source))
    return keras.Model(source, layers.Dense(2, name="head")(layers.Flatten()(x)))


def scaled_residual(keras):
    """The layer is one that `keras.applications` has for itself."""
    layers, source = keras.layers, image(keras)
    module = importlib.import_module(f"{keras.__name__}.src.applications.inception_resnet_v2")
    x = layers.Conv2D(2, 3, padding="same", name="conv")(source)
    x = layers.ReLU(name="relu")(module.CustomScaleLayer(0.25, name="sum")([source, x]))
    return keras.Model(source, layers.Conv2D(2, 3, name="head")(x))


case("weights of no layer", with_own_weight, refused="weights of no layer of its graph .*extra")
case("another call of a layer", with_another_call, refused="layer 'conv' was given another call")
case("another train_step", with_another_step, refused="has its own train_step")
case(
    "a layer with the name of a part",
    lambda k: regularized(
        k,
        k.layers.Conv2D(2, 3, activation="relu", name="stem"),
        k.layers.MaxPooling2D(name="stem_relu"),
    ),
    refused="part of layer 'stem' would have the name of layer 'stem_relu', 'stem_relu': rename",
)
case(
    "a layer with the name of an input's quantizer",
    lambda k: regularized(k, k.layers.Conv2D(2, 3, name="quantize_image")),
    refused="part of layer 'image' would have the name of layer 'quantize_image'",
)
case(
    "a layer with the name of what flattens a pixel",
    lambda k: regularized(
        k, k.layers.GlobalAveragePooling2D(name="pool"), k.layers.Flatten(name="pool_flatten")
    ),
    refused="part of layer 'pool' would have the name of layer 'pool_flatten'",
)
case("a registered constraint", registered_constraint, constrained)
case("dropout of channels", dropped_out, same_values)
case("a residual of InceptionResNetV2", scaled_residual, same_values)
for layer, of_channels in {
    "Dropout": lambda k: k.layers.Dropout(0.5, noise_shape=(None, 1, 4)),
    "SpatialDropout1D": lambda k: k.layers.SpatialDropout1D(0.5),
}.items():
    case(
        f"dropout of channels of sequences, {layer}",
        lambda k, made=of_channels: regularized(
            k,
            k.layers.Reshape((36, 2)),
            k.layers.Conv1D(4, 3),
            k.layers.PReLU(shared_axes=[1, 2]),
            made(k),
        ),
        dropped_channels,
    )
case("an output of a nested model that nothing reads", with_an_unread_output, only_what_is_read)
case(
    "the penalty of an output that nothing reads",
    beside_the_output("DepthwiseConv2D", kernel_size=lambda _: 1, activity_regularizer=l1_l2),
    refused="activity_regularizer that no output needs: unread. Build",
)
case(
    "a layer that is not known and that nothing reads",
    beside_the_output("LayerNormalization"),
    refused="unread .LayerNormalization: class",
)
for layer, *arguments in (
    ("GaussianNoise", 0.5),
    ("GaussianDropout", 0.3),
    ("RandomFlip",),
    ("RandomTranslation", 0.3, 0.3),
    ("RandomRotation", 0.3),
    ("RandomZoom", 0.3),
    ("RandomContrast", 0.5),
    ("RandomBrightness", 0.5, (-2.0, 2.0)),
):
    case(f"{layer} in training", noisy(layer, *arguments), random_in_training)
case(
    "AlphaDropout is refused",
    lambda k: regularized(k, k.layers.AlphaDropout(0.5)),
    refused="AlphaDropout: class",
)
for method in ("predict", "metrics", "compile", "train_on_batch"):
    case(f"own {method}", with_another(method), refused=f"Own 'own' has its own {method};")
case("a weight added to a layer", with_added_weight, refused="'head' .Dense. has 3 weights")
case("a metric of a layer", with_metric_of_a_layer, refused="'conv' has metrics .* .seen.;")
case("a metric of a model", with_metric_of_the_model, refused=" has metrics .* .seen.;")
case(
    "an input that nothing reads",
    with_an_unread_input,
    refused="Inputs that nothing reads: other. Build",
)
case(
    "an input among the outputs",
    with_its_input,
    refused="Inputs that the model returns as they are: image.*Identity",
)
case(
    "concatenation of images",
    lambda k: merged(k, lambda layers: layers.Concatenate(axis=0, name="batches")),
    refused=r"batches \(Concatenate: concatenation must not be over axis 0",
)
case(
    "a factor for each pixel",
    lambda k: regularized(
        k, k.layers.Conv2D(2, 1), k.layers.Rescaling(np.ones((6, 6, 1)).tolist(), name="pixels")
    ),
    refused=r"pixels \(Rescaling: scale and offset must be one number, or a list of one for each",
)
case("no layers", without_layers, refused="'empty' has no layers")
case(
    "activity of a nested model",
    with_activity_of_a_nested_model,
    refused="has an activity_regularizer; put .*ActivityRegularization",
)
case("a regularizer set later", regularized_late, one_loss_more)
case(
    "a regularizer taken away",
    regularizer_taken_away,
    refused="layer 'conv' has weights with a regularizer or constraint that is not the layer's",
)
case("a nested model called twice", nested_twice, same_statistics)
for part in ("regularizer", "constraint", "initializer"):
    case(
        f"a {part} of an unknown class",
        lambda k, p=part: unknown_to_keras(k, p),
        refused=rf"conv .Conv2D: kernel_{part} Own.; .*register_keras_serializable",
    )
for merge in ("Add", "Multiply", "Concatenate"):
    case(
        f"a constant in {merge}",
        on_a_constant(merge),
        refused=rf"layer 'merge' .{merge}. is called on a constant",
    )
for form in ("sparse", "ragged"):
    case(f"{form} inputs", of_inputs(form), refused=f"input 'bag' is {form}")


def test_optional_inputs_are_named():
    with pytest.raises(ValueError, match="input 'bag' is optional"):
        wrpn_tf.quantize_model(of_inputs("optional")(keras3), 8, 8)


@pytest.mark.parametrize("argument", ["antialias", "pad_to_aspect_ratio"])
def test_other_ways_of_resizing_are_named(argument):
    resizing = keras3.layers.Resizing(2, 3, name="small", **{argument: True})
    with pytest.raises(ValueError, match=rf"small \(Resizing: {argument} must be False"):
        wrpn_tf.quantize_model(regularized(keras3, resizing), 8, 8)


@BOTH
def test_annotated_layers_are_refused_as_others_are(keras):
    source, mark = keras.Input((6, 6)), wrpn_tf.quantize_annotate
    pooling = keras.layers.MaxPooling1D(2, data_format="channels_first", name="pool")
    with pytest.raises(ValueError, match=r"pool \(MaxPooling1D: data_format must be"):
        wrpn_tf.quantize_apply(keras.Model(source, mark(pooling)(source)))
    x = mark(keras.layers.Conv1D(6, 3, padding="same"))(source)
    normalization = keras.layers.BatchNormalization(axis=1, name="norm")
    with pytest.raises(ValueError, match=r"norm \(BatchNormalization: .* the last axis"):
        wrpn_tf.quantize_apply(keras.Model(source, mark(normalization)(x)))


@BOTH
def test_a_dense_layer_of_features_and_of_more_is_named(keras):
    image, head = keras.Input((6, 6, 2)), keras.layers.Dense(2, name="head")
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    for order in (1, -1):
        first, second = (image, pooled)[::order]
        model = keras.Model(image, [head(first), head(second)])
        with pytest.raises(ValueError, match=r"\(Dense: .* features and on more axes"):
            wrpn_tf.quantize_model(model, 8, 8)
    source = keras.Input((2, 3, 4, 5))
    with pytest.raises(ValueError, match=r"head5 \(Dense: Dense needs features, a sequence"):
        wrpn_tf.quantize_model(keras.Model(source, keras.layers.Dense(2, name="head5")(source)))


@pytest.mark.parametrize(
    ("part", "value"),
    [("regularizer", keras3.regularizers.L2()), ("constraint", keras3.constraints.NonNeg())],
)
def test_parts_of_weights_that_are_not_the_layers_are_named(part, value):
    model = backbone(keras3)
    setattr(model.get_layer("head").kernel, part, value)
    with pytest.raises(ValueError, match="layer 'head' has weights with a regularizer or constr"):
        wrpn_tf.quantize_model(model, 8, 8)


def test_operations_of_a_frozen_model_are_frozen():
    layers, ops, inner = keras3.layers, keras3.ops, keras3.Input((6, 6, 2))
    x = ops.relu(ops.add(layers.Conv2D(2, 1, name="conv")(inner), inner))
    base = keras3.Model(inner, x)
    source = image(keras3)
    model = keras3.Model(source, ops.relu6(layers.Conv2D(2, 3, name="head")(base(source))))
    for frozen in (False, True):
        base.trainable = not frozen
        quantized = wrpn_tf.quantize_model(model, 8, 8)
        found = {name for name in names(quantized.trainable_weights) if "output_scale" in name}
        assert len(found) == 2 - frozen
        assert frozen == ("conv/kernel" not in names(quantized.trainable_weights))


@BOTH
@pytest.mark.parametrize("nested", [False, True])
def test_masks_of_annotated_layers_are_named(keras, nested):
    layers, words = keras.layers, keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, 4, mask_zero=True)(words)
    pooling = wrpn_tf.quantize_annotate(layers.GlobalAveragePooling1D(name="mean"))
    inner = keras.Input((6, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras 3: the mark does not support masks.
        x = keras.Model(inner, pooling(inner), name="mean")(x) if nested else pooling(x)
    with pytest.raises(ValueError, match=r"mean' reads values with a mask, as Embedding"):
        wrpn_tf.quantize_apply(keras.Model(words, x))


@BOTH
def test_masks_of_float_layers_stay_or_are_named(keras):
    layers, words = keras.layers, keras.Input((6,), dtype="int32")
    x = layers.LSTM(3, name="steps")(layers.Embedding(10, 4, mask_zero=True)(words))
    head = wrpn_tf.quantize_annotate(layers.Dense(2, name="head"), activation_bits=32)
    model = randomize(keras.Model(words, head(x)))
    if keras is keras3:
        with pytest.raises(ValueError, match="'steps' cannot be copied: call argument 'mask'"):
            wrpn_tf.quantize_apply(model)
        return
    sentence = np.array([[1, 2, 0, 0, 0, 0]])
    expected = np.asarray(model(sentence))
    np.testing.assert_allclose(wrpn_tf.quantize_apply(model)(sentence), expected, atol=0.2)


def test_layers_with_a_weight_in_common_are_named():
    layers, image = tf_keras.layers, tf_keras.Input((4,))
    one, other = (layers.Dense(4, use_bias=False, name=name) for name in "ab")
    x = one(image)
    other.build(x.shape)
    other.kernel = one.kernel
    with pytest.raises(ValueError, match="layers 'a' and 'b' share weights; call one layer twice"):
        wrpn_tf.quantize_model(tf_keras.Model(image, other(x)))


def test_weights_frozen_by_themselves_are_named():
    with pytest.raises(ValueError, match=r"frozen by themselves \(head/kernel\)"):
        wrpn_tf.quantize_model(with_a_frozen_weight(keras3), 8, 8)


@BOTH
def test_compiled_state_is_dropped(keras):
    model = backbone(keras)
    model.compile("adam", "mse")
    assert getattr(wrpn_tf.quantize_model(model), "optimizer", None) is None
