"""Random small models through everything: quantize, train, save, load, settle, export, verify.

    python -m benchmarks.random_models --models=200
    python -m benchmarks.random_models --models=200 --keras=3 --more

A model is of random structure, attributes, arguments of calls, dtypes and names. Each goes through
`quantize_model`, `calibrate`, two steps of training, saving and loading in each form that its Keras
has, `settle`, `to_tflite` and `verify`; it is widened, and taken to the other Keras. It has to come
through equal, and cost what was planned, or be refused by one sentence that names something of it.
Prints how many of which, and exits with status 1 if anything else happens: another exception, a
copy that computes something else, a file that does.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import functools
import pathlib
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags, logging

import export
import wrpn_tf
from wrpn_tf import command_line, fronts
from wrpn_tf.models.namespaces import keras_named

_MODELS = flags.DEFINE_integer("models", 200, "How many models to try.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first of them.")
_KERAS = flags.DEFINE_enum("keras", "2", ["2", "3"], "2: models of tf_keras; 3: of Keras 3.")
_MORE = flags.DEFINE_boolean("more", False, "Of more kinds of layers, and more of them.")
_SHOW = flags.DEFINE_boolean("show", False, "Print what happens to each model.")

Pick = Callable[[Sequence[Any]], Any]
"""Chooses one of a sequence."""

_IMAGES = 16
_NAMES = ("x", "Stage.1", "a-b", "in>out", "0", "relu", "x_1", "UPPER", "quant_x", "training")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A model, and what is done with it.

    Attributes:
      model: a float model.
      images: what it takes: an array, or a list of them.
      weight_bits: see `quantize_model`.
      activation_bits: see `quantize_model`.
      options: of `quantize_model`.
      parts: what it is made of, for messages.
    """

    model: Any
    images: Any
    weight_bits: int
    activation_bits: int
    options: dict[str, Any]
    parts: tuple[str, ...]


class Refused(Exception):
    """A step was refused, by a sentence."""


class Wrong(Exception):
    """Something is not as it should be."""


# What models are made of.


@functools.cache
def doubled(keras: Any) -> Any:
    """A class of layers of the user's own, in a Keras."""

    @keras.saving.register_keras_serializable("random_models")
    class Doubled(keras.layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    return Doubled


def shuffled(x: Any, reshape: Callable, transpose: Callable) -> Any:
    """The channels of two groups in turns."""
    size = tuple(x.shape[1:-1])
    x = transpose(reshape(x, (-1, *size, 2, x.shape[-1] // 2)), (0, 1, 2, 4, 3))
    return reshape(x, (-1, *size, x.shape[3] * 2))


def operations(keras: Any) -> dict[str, Callable[[Any], Any]]:
    """Operations on one tensor that a model of a Keras may call."""
    arithmetic: dict[str, Callable[[Any], Any]] = {
        "x * 2": lambda x: x * 2.0,
        "x + 0.5": lambda x: x + 0.5,
        "1 - x": lambda x: 1.0 - x,
        "-x": lambda x: -x,
        "x / 3": lambda x: x / 3.0,
        "x * x": lambda x: x * x,
    }
    parts: dict[str, Callable[[Any], Any]] = {
        "channels": lambda x: x * tf.constant(np.arange(1, x.shape[-1] + 1, dtype=np.float32)),
        "slice": lambda x: x[:, 1:],
        "reverse": lambda x: x[..., ::-1],
    }
    if keras.__name__ == "keras":
        ops = keras.ops
        functions = {
            "ops.relu": ops.relu,
            "ops.relu6": ops.relu6,
            "ops.silu": ops.silu,
            "ops.hard_silu": ops.hard_silu,
            "ops.sigmoid": ops.sigmoid,
            "ops.abs": ops.abs,
            "ops.clip": lambda x: ops.clip(x, -0.5, 1.0),
            "ops.maximum": lambda x: ops.maximum(x, 0.25),
        }
        mean = {"ops.mean": lambda x: ops.mean(x, axis=-1, keepdims=True)}
    else:
        functions = {
            "tf.nn.relu": tf.nn.relu,
            "tf.nn.relu6": tf.nn.relu6,
            "tf.nn.silu": tf.nn.silu,
            "tf.nn.silu, beta": lambda x: tf.nn.silu(x, beta=2.0),
            "tf.sigmoid": tf.sigmoid,
            "tf.abs": tf.abs,
            "tf.clip_by_value": lambda x: tf.clip_by_value(x, -0.5, 1.0),
            "tf.maximum": lambda x: tf.maximum(x, 0.25),
        }
        mean = {"tf.reduce_mean": lambda x: tf.reduce_mean(x, axis=-1, keepdims=True)}
    return arithmetic | functions | parts | mean


def more_operations(keras: Any) -> dict[str, Callable[[Any], Any]]:
    """More of them."""
    parts: dict[str, Callable[[Any], Any]] = {
        "every other": lambda x: x[:, ::2, 1::2],
        "channel": lambda x: x[..., :1],
    }
    if keras.__name__ == "keras":
        ops = keras.ops
        return parts | {
            "ops.depth_to_space": lambda x: ops.depth_to_space(x, 2),
            "ops.space_to_depth": lambda x: ops.space_to_depth(x, 2),
            "ops.flip": lambda x: ops.flip(x, 1),
            "ops, shuffle": lambda x: shuffled(x, ops.reshape, ops.transpose),
        }
    return parts | {
        "tf.nn.depth_to_space": lambda x: tf.nn.depth_to_space(x, 2),
        "tf.nn.space_to_depth": lambda x: tf.nn.space_to_depth(x, 2),
        "tf.reverse": lambda x: tf.reverse(x, [1]),
        "tf, shuffle": lambda x: shuffled(x, tf.reshape, tf.transpose),
    }


class _Builder:
    """A model in the making.

    Args:
      pick: chooses.
      keras: that of the model.
      more: whether from all kinds of layers and operations.
    """

    def __init__(self, pick: Pick, keras: Any, more: bool) -> None:
        self.pick = pick
        self.keras = keras
        self.layers = keras.layers
        self.more = more
        self.operations = operations(keras) | (more_operations(keras) if more else {})
        self.relu6 = keras.ops.relu6 if keras.__name__ == "keras" else tf.nn.relu6
        self.parts: list[str] = []
        self._names = {"image", "other"}
        self.seen: list[Any] = []

    def one_in(self, count: int) -> bool:
        """True once in `count` times."""
        return self.pick(range(count)) == 0

    def named(self) -> dict[str, Any]:
        """A name, seldom."""
        if not self.one_in(3):
            return {}
        name = self.pick(_NAMES)
        if name in self._names:
            return {}
        self._names.add(name)
        return {"name": name}

    def apply(self, what: str, make: Callable[[], Any], inputs: Any) -> Any:
        """What `make` makes of the inputs; these where Keras does not take them."""
        try:
            outputs = make()
        except (ValueError, TypeError, tf.errors.InvalidArgumentError):
            return inputs
        sizes = [size for size in tuple(outputs.shape)[1:] if size is not None]
        if not sizes or min(sizes) < 1 or np.prod(sizes) > 4096:
            return inputs
        self.parts.append(what)
        self.seen.append(outputs)
        return outputs

    def layer(self, inputs: Any, layer: Any, **call: Any) -> Any:
        """The layer's output, called with arguments now and then."""
        if self.one_in(12):
            layer.trainable = False
        said = ", ".join(f"{key}={value}" for key, value in call.items())
        what = f"{type(layer).__name__}({said})" if said else type(layer).__name__
        return self.apply(what, lambda: layer(inputs, **call), inputs)

    def training(self) -> dict[str, Any]:
        """The argument of a call, seldom."""
        return {"training": self.pick([True, False])} if self.one_in(6) else {}

    def weights(self) -> dict[str, Any]:
        """Regularizers, constraints and the like of a layer with a kernel."""
        options: dict[str, Any] = {"use_bias": self.pick([True, True, False])} | self.named()
        common = (None, None, None, "relu", "relu", "relu", self.relu6, self.layers.ReLU(6.0))
        seldom = ("sigmoid", "swish", "hard_sigmoid", "tanh", "gelu")
        options["activation"] = self.pick(seldom) if self.one_in(6) else self.pick(common)
        if self.one_in(6):
            options["activity_regularizer"] = self.pick(
                ["l1", "l2", self.keras.regularizers.L1L2(1e-3)]
            )
        if self.one_in(6):
            options["bias_regularizer"] = "l2"
        return options

    def kernel(self, name: str) -> dict[str, Any]:
        """Of the kernel itself."""
        options: dict[str, Any] = {}
        if self.one_in(5):
            options[f"{name}_regularizer"] = self.pick(["l2", self.keras.regularizers.L1(1e-4)])
        if self.one_in(8):
            options[f"{name}_constraint"] = self.pick(
                ["non_neg", self.keras.constraints.MaxNorm(1.0)]
            )
        return options


def _convolution(build: _Builder, x: Any) -> Any:
    layers = build.layers
    pick = build.pick
    size, step = pick([1, 2, 3, (1, 3)]), pick([1, 1, 1, 2])
    shape = {"padding": pick(["same", "valid"]), "strides": step, **build.weights()}
    match pick(["plain", "plain", "plain", "depthwise", "separable", "transposed", "grouped"]):
        case "depthwise":
            extra = {"depth_multiplier": pick([1, 1, 2])} | build.kernel("depthwise")
            return build.layer(x, layers.DepthwiseConv2D(size, **shape, **extra))
        case "separable":
            return build.layer(x, layers.SeparableConv2D(pick([2, 4]), size, **shape))
        case "transposed":
            layer = layers.Conv2DTranspose(pick([2, 3]), size, **shape)
            return build.layer(x, layer)
        case "grouped":
            groups = pick([2, 4])
            return build.layer(x, layers.Conv2D(4, size, groups=groups, **shape))
    extra = build.kernel("kernel") | {"dilation_rate": pick([1, 1, 1, 2]) if step == 1 else 1}
    return build.layer(x, layers.Conv2D(pick([2, 3, 4, 6]), size, **shape, **extra))


def _normalization(build: _Builder, x: Any) -> Any:
    options = {"center": build.pick([True, True, False]), "scale": build.pick([True, True, False])}
    options |= {"epsilon": build.pick([1e-3, 1e-5]), **build.named()}
    return build.layer(x, build.layers.BatchNormalization(**options), **build.training())


def _activation(build: _Builder, x: Any) -> Any:
    layers = build.layers
    functions = ("relu", "relu6", "sigmoid", "swish", "tanh", "hard_sigmoid", "elu", "linear")
    choices: list[Callable[[], Any]] = [
        lambda: layers.ReLU(build.pick([None, None, 6.0, 1.5]), **build.named()),
        lambda: layers.ReLU(negative_slope=build.pick([0.0, 0.1])),
        lambda: layers.LeakyReLU(build.pick([0.1, 0.25])),
        lambda: layers.ReLU(),
        lambda: layers.Activation(build.pick(functions), **build.named()),
        lambda: layers.Softmax(),
    ]
    return build.layer(x, build.pick(choices)())


def _spatial(build: _Builder, x: Any) -> Any:
    layers = build.layers
    pick = build.pick
    pool = {"padding": pick(["same", "valid"]), "strides": pick([None, 1, 2])}
    choices: list[Callable[[], Any]] = [
        lambda: layers.MaxPooling2D(pick([2, 3]), **pool),
        lambda: layers.AveragePooling2D(pick([2, 3]), **pool),
        lambda: layers.ZeroPadding2D(pick([1, ((0, 1), (1, 0))])),
        lambda: layers.Cropping2D(pick([1, ((0, 1), (1, 0))])),
        lambda: layers.UpSampling2D(pick([2, (1, 2)]), interpolation=pick(["nearest", "bilinear"])),
        lambda: layers.Dropout(pick([0.0, 0.3])),
        lambda: layers.SpatialDropout2D(0.2),
        lambda: layers.GaussianNoise(0.1),
        lambda: layers.Permute(pick([(2, 1, 3), (1, 2, 3)])),
        lambda: layers.Rescaling(pick([0.5, -2.0, 0.25]), pick([0.0, 0.25])),
    ]
    if build.more:
        choices += [
            lambda: layers.GaussianDropout(0.2),
            lambda: layers.Dropout(0.3, noise_shape=(None, 1, 1, x.shape[-1])),
            lambda: layers.RandomFlip(),
            lambda: layers.Resizing(*pick([(4, 4), (8, 8), (2, 4)]), pick(["nearest", "bilinear"])),
            lambda: layers.CenterCrop(4, pick([3, 4])),
            lambda: layers.Activation("linear"),
        ]
    layer = pick(choices)()
    takes = isinstance(layer, layers.Dropout | layers.SpatialDropout2D | layers.GaussianNoise)
    return build.layer(x, layer, **(build.training() if takes else {}))


def _merge(build: _Builder, x: Any) -> Any:
    same = [seen for seen in build.seen if seen.shape == x.shape] or [x]
    other = build.pick(same)
    classes = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
    name = build.pick(classes)
    several = build.more and name == "Concatenate"
    axis = {"axis": build.pick([-1, -1, 1, 2])} if several else {}
    layer = getattr(build.layers, name)(**axis, **build.named())
    operands = build.pick([[x, other], [other, x], [x, other, x]])
    return build.apply(type(layer).__name__, lambda: layer(operands), x)


def _operation(build: _Builder, x: Any) -> Any:
    name = build.pick(list(build.operations))
    return build.apply(name, lambda: build.operations[name](x), x)


def _gate(build: _Builder, x: Any) -> Any:
    """A factor for each channel, or for each pixel."""
    layers = build.layers
    gate = build.pick(["sigmoid", "hard_sigmoid", "relu6", "softmax"])

    def gated() -> Any:
        if build.one_in(2):
            factor = layers.Conv2D(1, 1, activation=gate)(x)
        else:
            factor = layers.GlobalAveragePooling2D(keepdims=True)(x)
            factor = layers.Conv2D(2, 1, activation="relu")(factor)
            factor = layers.Conv2D(x.shape[-1], 1, activation=gate)(factor)
        return layers.Multiply()(build.pick([[x, factor], [factor, x]]))

    return build.apply(f"gate of {gate}", gated, x)


def _sequence(build: _Builder, x: Any) -> Any:
    """Layers over sequences: the rows of an image one behind the other."""
    layers = build.layers
    pick = build.pick
    if len(x.shape) == 4:
        x = build.layer(x, layers.Reshape((-1, x.shape[-1])))
    shape = {"padding": pick(["same", "valid"]), "strides": pick([1, 1, 2])}
    choices: list[Callable[[], Any]] = [
        lambda: layers.Conv1D(pick([2, 3]), pick([1, 3]), **shape, **build.weights()),
        lambda: layers.Conv1D(4, 2, dilation_rate=2, **build.weights()),
        lambda: layers.DepthwiseConv1D(3, depth_multiplier=pick([1, 2]), **shape),
        lambda: layers.SeparableConv1D(3, 3, **shape, **build.weights()),
        lambda: layers.Conv1DTranspose(2, 3, **shape, **build.weights()),
        lambda: layers.BatchNormalization(),
        lambda: layers.ReLU(),
        lambda: layers.MaxPooling1D(pick([2, 3]), **shape),
        lambda: layers.AveragePooling1D(pick([2, 3]), **shape),
        lambda: layers.ZeroPadding1D(pick([1, (0, 2)])),
        lambda: layers.Cropping1D(pick([1, (0, 2)])),
        lambda: layers.UpSampling1D(2),
    ]
    for _ in range(pick([1, 2, 3])):
        x = build.layer(x, pick(choices)())
    return x


def _twice(build: _Builder, x: Any) -> Any:
    """A layer that is called twice, on other tensors where there are some of the shape."""
    layers = build.layers
    if len(x.shape) != 4:
        return x
    channels = x.shape[-1]
    other = build.pick([seen for seen in build.seen if seen.shape == x.shape] or [x])
    inner = build.keras.Input(x.shape[1:])
    nested = build.keras.Model(inner, layers.ReLU()(layers.Conv2D(channels, 1)(inner)))
    layer = build.pick(
        [
            layers.Conv2D(channels, 1, **build.weights()),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Activation("sigmoid"),
            nested,
        ]
    )

    def called() -> Any:
        if build.one_in(2):
            return layer(layer(x))
        return layers.Add()([layer(x), layer(other)])

    return build.apply(f"{type(layer).__name__} twice", called, x)


def _nested(build: _Builder, x: Any) -> Any:
    """A model in the model, frozen now and then."""
    layers = build.layers
    if len(x.shape) != 4:
        return x
    inner = build.keras.Input(x.shape[1:])
    y = layers.Conv2D(build.pick([2, 3]), build.pick([1, 3]), padding="same")(inner)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    nested = build.keras.Model(inner, y, **build.named())
    nested.trainable = not build.one_in(3)
    return build.layer(x, nested, **build.training())


def _seldom(build: _Builder, x: Any) -> Any:
    layers = build.layers
    choices: list[Callable[[], Any]] = [
        doubled(build.keras),
        lambda: layers.PReLU(shared_axes=build.pick([None, [1, 2]])),
        layers.LayerNormalization,
        lambda: layers.Lambda(lambda y: y + 1),
        lambda: layers.Dense(3),
        lambda: layers.Reshape((-1, x.shape[-1])),
        lambda: layers.ActivityRegularization(l2=1e-3),
        lambda: layers.Normalization(mean=0.5, variance=2.0),
    ]
    return build.layer(x, build.pick(choices)())


_BLOCKS = (
    *(_convolution,) * 8,
    *(_normalization,) * 4,
    *(_activation,) * 4,
    *(_spatial,) * 4,
    *(_merge,) * 4,
    *(_operation,) * 2,
    *(_nested,) * 2,
    _seldom,
)
_MORE_BLOCKS = (*_BLOCKS, *(_gate,) * 2, *(_twice,) * 2, _sequence)


def draw(pick: Pick, keras: Any, more: bool = False) -> Case:
    """A random model of a Keras, `more` of it or less, and what to do with it."""
    build = _Builder(pick, keras, more)
    size, channels = pick([4, 5, 6, 8]), pick([1, 2, 3, 4])
    dtype = pick(["float32", "float32", "float32", "uint8", "float16"])
    image = keras.Input((size, size, channels), name=pick(["image", "x.0", None]), dtype=dtype)
    input_range, pixels = _preprocessing(build, image, dtype)
    x = pixels
    build.seen.append(x)
    inputs = [image]
    if dtype == "float32" and build.one_in(6):
        inputs.append(keras.Input((size, size, channels), name="other"))
        x = keras.layers.Add()([x, keras.layers.Conv2D(channels, 1)(inputs[-1])])
    for _ in range(pick([3, 5, 7, 9] if more else [1, 2, 3, 4, 5])):
        x = pick(_MORE_BLOCKS if more else _BLOCKS)(build, x)
    outputs = _head(build, x)
    model = keras.Model(inputs if len(inputs) > 1 else image, outputs)
    random = np.random.default_rng(pick(range(1000)))
    _randomize(model, random, keras)
    ends = input_range or (0.0, 1.0)
    images = [_pixels(random, (_IMAGES, size, size, channels), ends, dtype) for _ in inputs]
    _take_statistics(model, images if len(images) > 1 else images[0], keras)
    options = {"input_range": input_range, "first_last": "integer"}
    if build.one_in(6):
        options["method"] = pick(["calibrated", "paper"])
    if build.one_in(6):
        options["per_channel"] = False
    if more and build.one_in(6):
        options["rules"] = [wrpn_tf.Rule(name="*", weight_bits=pick([2, 8]), activation_bits=3)]
    bits = pick([(8, 8), (8, 8), (4, 4), (2, 4), (1, 2), (3, 8), (8, 1)])
    return Case(
        model=model,
        images=images if len(images) > 1 else images[0],
        weight_bits=bits[0],
        activation_bits=bits[1],
        options=options,
        parts=tuple(build.parts),
    )


def _preprocessing(build: _Builder, image: Any, dtype: str) -> tuple[Any, Any]:
    """The range of the images, and what the model makes of them first."""
    kinds = ["in the model"] if dtype == "uint8" else ["before the model", "in the model", "none"]
    match build.pick(kinds):
        case "before the model":
            return build.pick([(0, 1), (-1, 1), (-2.1, 2.6), (0, 255)]), image
        case "none":
            return None, image
    scale, offset = build.pick([(1 / 255, 0.0), (1 / 127.5, -1.0), (1 / 64, -2.0)])
    if dtype == "float32" and build.one_in(2):
        return (0, 255), image * scale + offset
    return (0, 255), build.layers.Rescaling(scale, offset)(image)


def _pixels(random: np.random.Generator, shape: tuple, ends: Any, dtype: str) -> np.ndarray:
    pixels = random.integers(0, 256, shape)
    reals = pixels * ((ends[1] - ends[0]) / 255) + ends[0]
    return reals.astype(dtype)


def _head(build: _Builder, x: Any) -> Any:
    """The outputs: one or several, as they are, in a list or in a dictionary."""
    layers = build.layers
    pick = build.pick
    if len(x.shape) == 4 and pick([True, True, False]):
        flat = pick([layers.Flatten, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D])
        x = flat()(x)
    elif len(x.shape) == 3:
        flat = [layers.Flatten, layers.GlobalAveragePooling1D, layers.GlobalMaxPooling1D]
        x = (pick(flat) if build.more else flat[0])()(x)
    outputs = x
    if len(x.shape) == 2:
        if build.more and build.one_in(4):
            x = layers.BatchNormalization()(layers.Dense(4, use_bias=False)(x))
            x = layers.ReLU()(x)
        activation = pick([None, None, "softmax", "sigmoid", "relu"])
        outputs = layers.Dense(pick([1, 3, 5]), activation=activation, name="logits")(x)
    kinds = ["bare", "bare", "bare", "list", "dictionary", "twice", "features"]
    match pick([*kinds, "seen"] if build.more else kinds):
        case "list":
            return [outputs]
        case "dictionary":
            return {"scores": outputs}
        case "twice":
            return [outputs, outputs]
        case "features":
            return [outputs, x]
        case "seen":
            return [outputs, pick(build.seen)]
    return outputs


def _randomize(model: Any, random: np.random.Generator, keras: Any) -> None:
    layers = keras.layers
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _randomize(layer, random, keras)
        elif isinstance(layer, layers.BatchNormalization):
            for weight in layer.weights:
                low = 0.5 if "gamma" in weight.name or "variance" in weight.name else -0.3
                weight.assign(random.uniform(low, low + 1, weight.shape))
        elif not isinstance(layer, layers.Normalization):
            for weight in layer.weights:
                weight.assign(random.normal(0, 0.5, weight.shape))


def _take_statistics(model: Any, images: Any, keras: Any) -> None:
    """Moving statistics of batch normalization are those of the images, as after a training."""
    normalization = keras.layers.BatchNormalization
    found = [each for each in model._flatten_layers() if type(each) is normalization]
    momenta = [layer.momentum for layer in found]
    for layer in found:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(found, momenta, strict=True):
        layer.momentum = momentum


# What is done with them.


def run(case: Case) -> None:
    """Takes a model through everything.

    Raises:
      Refused: a step said no, and why.
      Wrong: something else is not as it should be.
    """
    with tempfile.TemporaryDirectory() as folder:
        _run(case, pathlib.Path(folder))


def _run(case: Case, folder: pathlib.Path) -> None:
    model, images = case.model, case.images
    keras = keras_named(fronts.package_of(model))
    quantized = _step(
        "quantize_model",
        lambda: wrpn_tf.quantize_model(
            model, case.weight_bits, case.activation_bits, **case.options
        ),
    )
    _check_interface(model, quantized)
    _step("calibrate", lambda: wrpn_tf.calibrate(quantized, images))
    is_random = _is_random(quantized, images)
    if "rules" not in case.options:
        _check_cost(case, quantized)
    if not is_random:
        _check_widened(model, images)
    if "rules" not in case.options and not is_random:
        _check_function(case, quantized)
    outputs = _outputs(quantized, images)
    random = np.random.default_rng(0)
    targets = [random.normal(size=output.shape).astype(np.float32) for output in outputs]
    targets = tf.nest.pack_sequence_as(_interface(quantized)._nested_outputs, targets)
    quantized.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=False)
    quantized.fit(images, targets, batch_size=8, verbose=0)  # Two steps.
    if not is_random:
        _check_copies(quantized, images, folder, keras)
    _step("settle", lambda: export.settle(quantized))
    file = _step("to_tflite", lambda: export.to_tflite(quantized))
    found = _step("verify", lambda: export.verify(quantized, file, images))
    if found.different or found.wrong_kernels:
        raise Wrong(f"verify: {'; '.join(found.failures)}")
    for row in found.layers:
        codes = row.difference
        if codes.different and not row.unproven and codes.largest > 1:
            raise Wrong(f"verify: {codes.name} differs from Keras by {codes.largest}")
    _check_crossed(quantized, file, keras)


def _step(what: str, do: Callable[[], Any]) -> Any:
    """What a step gives; its error, if it is the user's, as `Refused`."""
    try:
        return do()
    except ValueError as error:
        sentence = str(error)
        if "\n" in sentence or not sentence or "Exception encountered" in sentence:
            raise
        raise Refused(f"{what}: {sentence}") from error


def _interface(model: Any) -> Any:
    return fronts.front_of(model).interface_of(model)


def _outputs(model: Any, images: Any) -> list[np.ndarray]:
    """What a model computes in inference, in the order of its outputs."""
    return [np.asarray(part) for part in tf.nest.flatten(model(images, training=False))]


def _check_interface(model: Any, quantized: Any) -> None:
    front = fronts.front_of(model)
    before, after = _interface(model), _interface(quantized)
    for what, old, new in (
        ("input_names", front.input_names(model), front.input_names(quantized)),
        ("output_names", before.output_names, after.output_names),
    ):
        if old != new:
            raise Wrong(f"{what}: {old}, then {new}")
    tf.nest.assert_same_structure(before._nested_outputs, after._nested_outputs)
    tf.nest.assert_same_structure(before._nested_inputs, after._nested_inputs)
    trainable, kept = (
        {getattr(weight, "path", weight.name) for weight in each.trainable_weights}
        for each in (model, quantized)
    )
    scales = ("kernel_scale", "output_scale", "output_clip")
    kept = {name for name in kept if not any(scale in name for scale in scales)}
    if len(trainable) != len(kept) and not any("PReLU" in str(type(la)) for la in model.layers):
        raise Wrong(f"trained weights: {sorted(trainable)}, then {sorted(kept)}")


def _is_random(model: Any, images: Any) -> bool:
    one, other = _outputs(model, images), _outputs(model, images)
    return not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _check_function(case: Case, quantized: Any) -> None:
    """8 bits stand for the float model, but for a little."""
    bits = case.weight_bits, case.activation_bits
    if bits != (8, 8) or case.options.get("method") == "paper":
        return
    reals, found = _outputs(case.model, case.images), _outputs(quantized, case.images)
    for name, real, other in zip(_interface(case.model).output_names, reals, found, strict=True):
        error, deviation = np.mean(np.abs(real - other)), np.std(real)
        # Of a constant output, whose deviation is 0, four codes of its range.
        little = max(0.5 * deviation, 4 / 255 * np.ptp(np.append(real, 0.0)))
        if not error <= little:
            raise Wrong(
                f"output {name!r} is off by {error:.3g} with 8 bits; it deviates by {deviation:.3g}"
            )


def _check_cost(case: Case, quantized: Any) -> None:
    """The cost that is planned for a model is that of the quantized one."""
    bits = {"weight_bits": case.weight_bits, "activation_bits": case.activation_bits}
    with contextlib.suppress(Refused):
        planned = _step("measure_cost", lambda: wrpn_tf.measure_cost(case.model, **bits))
        measured = _step("measure_cost", lambda: wrpn_tf.measure_cost(quantized))
        one, other = ({la.name: la for la in cost.layers} for cost in (planned, measured))
        # A model that returns what is pooled keeps it twice: flattened too.
        if one != other or planned.memory.training != measured.memory.training:
            raise Wrong(f"measure_cost: planned {planned}, found {measured}")


def _check_widened(model: Any, images: Any) -> None:
    """A wide network computes what the narrow one does."""
    with contextlib.suppress(Refused):
        wide = _step("widen", lambda: wrpn_tf.widen(model, 2, seed=0))
        for one, other in zip(_outputs(model, images), _outputs(wide, images), strict=True):
            if not np.abs(one - other).max() <= 1e-3 * np.abs(one).max() + 1e-5:
                raise Wrong(f"widen: off by {np.abs(one - other).max()}")


def _check_crossed(model: Any, file: bytes, keras: Any) -> None:
    """The model of the other Keras has the same file."""
    to_other = wrpn_tf.from_tf_keras if keras.__name__ == "tf_keras" else wrpn_tf.to_tf_keras
    with contextlib.suppress(Refused):
        crossed = _step("crossing", lambda: to_other(model))
        if export.to_tflite(crossed) != file:
            raise Wrong("crossing: the other Keras's file is another one")


def _check_copies(model: Any, images: Any, folder: pathlib.Path, keras: Any) -> None:
    """Every form of saving that the Keras has gives the same outputs."""
    expected = _outputs(model, images)

    def saved(name: str, **options: Any) -> Any:
        model.save(folder / name, **options)
        return wrpn_tf.load_model(folder / name)

    def from_json() -> Any:
        known, path = wrpn_tf.custom_objects(), folder / "weights.h5"
        if keras.__name__ == "keras":
            known, path = {}, folder / "a.weights.h5"
        other = keras.models.model_from_json(model.to_json(), custom_objects=known)
        model.save_weights(path)
        other.load_weights(path)
        return other

    def cloned() -> Any:
        other = keras.models.clone_model(model)
        other.set_weights(model.get_weights())
        return other

    forms: dict[str, Callable[[], Any]] = {
        ".keras": lambda: saved("a.keras"),
        "to_json": from_json,
        "clone_model": cloned,
        "deepcopy": lambda: copy.deepcopy(model),
    }
    if keras.__name__ == "tf_keras":
        forms[".h5"] = lambda: saved("a.h5")
        forms["SavedModel"] = lambda: saved("folder", save_traces=False)
    names = _interface(model).output_names
    for name, make in forms.items():
        other = make()
        found = _outputs(other, images)
        if not all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True)):
            raise Wrong(f"{name}: the loaded model computes something else")
        if name != "clone_model" and _interface(other).output_names != names:
            raise Wrong(f"{name}: outputs {names}, then {_interface(other).output_names}")


def outcome(seed: int, keras: Any, more: bool) -> tuple[str, str, Case | None]:
    """'equal', 'refused' or 'wrong' for one seed, what was said, and the model of a Keras."""
    random = np.random.default_rng(seed)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    case = None
    try:
        case = draw(lambda values: values[int(random.integers(len(values)))], keras, more)
        run(case)
    except Refused as refusal:
        return "refused", str(refusal), case
    except Wrong as wrong:
        return "wrong", str(wrong), case
    except Exception:  # Whatever it is, it is not a sentence.
        return "wrong", traceback.format_exc(), case
    return "equal", "", case


def main() -> int:
    """Runs the program; returns 1 if something is wrong."""
    counts: collections.Counter[str] = collections.Counter()
    logging.set_verbosity(logging.ERROR)  # Keras says at INFO what it saves.
    warnings.simplefilter("ignore")
    keras = keras_named("keras" if _KERAS.value == "3" else "tf_keras")
    for seed in range(_SEED.value, _SEED.value + _MODELS.value):
        what, said, case = outcome(seed, keras, _MORE.value)
        counts[what] += 1
        if _SHOW.value or what == "wrong":
            parts = ", ".join(case.parts) if case else ""
            print(f"seed {seed}: {what}; {parts}\n  {said}", flush=True)
    print(", ".join(f"{what}: {count}" for what, count in sorted(counts.items())))
    return int(counts["wrong"] > 0)


if __name__ == "__main__":
    command_line.run(main)
