"""Lowering: what was trained, all of it, and nothing of a device."""

import dataclasses

import numpy as np
import pytest
import small_networks
import tf_keras as keras
import trained_layers
from equality import assert_same
from tf_keras import layers

import export
import wrpn_tf
from export.ir.operators import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
    Multiply,
    Subtract,
    TransposeConv2D,
    Weighted,
)
from export.ir.trained import TrainedKernel
from export.ir.validation import validate
from export.kernel_sets import ideal
from export.verification import comparison

BUILDERS = {
    "network": small_networks.network,
    "gated": small_networks.gated,
    "decoder": small_networks.decoder,
    "compared": small_networks.compared,
}
CHOSEN = {"kernel", "kernel_scale", "bias", "relu", "code_multiplier", "dtype_bits"}
"""What a weighted operator has of a device."""


@pytest.fixture(name="model", scope="module", params=BUILDERS)
def model_fixture(request) -> keras.Model:
    return small_networks.quantize(BUILDERS[request.param](1), 1, weight_bits=4, activation_bits=4)


def assert_same_graph(one: export.TrainedGraph, other: export.TrainedGraph) -> None:
    for name in ("tensors", "inputs", "outputs", "metadata", "provenance"):
        assert getattr(one, name) == getattr(other, name)
    assert len(one.operators) == len(other.operators)
    for left, right in zip(one.operators, other.operators, strict=True):
        assert type(left) is type(right)
        for field in dataclasses.fields(left):
            mine, yours = getattr(left, field.name), getattr(right, field.name)
            if isinstance(mine, np.ndarray):
                assert_same(mine, yours)
            else:
                assert mine == yours


def test_nothing_is_of_a_device(model):
    graph = export.lower(model)
    assert isinstance(graph, export.TrainedGraph)
    assert not [each for each in graph.operators if isinstance(each, Weighted)]
    assert not CHOSEN & {field.name for field in dataclasses.fields(TrainedKernel)}
    assert not graph.provenance.inexact_channels
    assert not graph.provenance.split_convolutions
    validate(graph)


def test_it_is_the_same_whatever_is_chosen_later(model, request):
    """The decoder has no layer that is, or is sooner as, a dense one: none in INT4."""
    narrow = {8} if request.node.callspec.params["model"] == "decoder" else {4, 8}
    graph = export.lower(model)
    bits = [
        {operator.dtype_bits for operator in export.realize(graph, weights=weights).weighted}
        for weights in ("int8", "int4")
    ]
    assert bits == [{8}, narrow]
    assert_same_graph(graph, export.lower(model))


def test_every_tensor_has_what_it_was_trained_with(model):
    graph = export.lower(model)
    trained = graph.provenance.quantization
    assert trained.keys() == graph.tensors.keys() == graph.provenance.layers.keys()
    kinds = {view.name: view.kind for view in wrpn_tf.view(model)}
    for name, tensor in graph.tensors.items():
        low = tensor.quantization.low
        if kinds[graph.provenance.layers[name]] is wrpn_tf.Kind.RELU:
            low = max(low, 0)
        assert trained[name] == dataclasses.replace(tensor.quantization, low=low)
        assert tensor.grid is tensor.quantization


def rows(layer: keras.layers.Layer, codes: np.ndarray) -> np.ndarray:
    """Keras's kernel codes as ``[channels, taps]``, taps by row, column and input channel."""
    if isinstance(layer, layers.DepthwiseConv2D):
        height, width, depth, multiplier = codes.shape
        return np.stack(
            [codes[..., n // multiplier, n % multiplier] for n in range(depth * multiplier)]
        ).reshape(-1, height * width)
    channel = 2 if isinstance(layer, layers.Conv2DTranspose) else codes.ndim - 1
    return np.stack([each.ravel() for each in np.moveaxis(codes, channel, 0)])


def test_codes_are_those_of_the_model(model):
    graph = export.lower(model)
    layer_of = graph.provenance.layers
    kernels = {layer_of[each.output]: each for each in graph.kernels if each.has_weights}
    groups = [g for g in wrpn_tf.fusion_groups(model).groups if g.body.kernel is not None]
    assert len(groups) == len(kernels) > 2
    for group in groups:
        kernel, layer = kernels[group.end.name], group.body.layer
        assert kernel.codes.dtype == np.int8
        assert kernel.bits == group.body.kernel.bits
        assert_same(kernel.codes, rows(layer, group.body.kernel.codes).astype(np.int8))
        assert kernel.parameters["digest"].tolist() == [ideal.digest(c) for c in kernel.codes]
        if not isinstance(layer, layers.Dense):
            assert kernel.window == tuple(layer.kernel_size)
            assert kernel.strides == tuple(layer.strides)
            assert kernel.dilation == tuple(layer.dilation_rate)
            assert kernel.padding == layer.padding.upper()
    for kernel in graph.kernels:
        if not kernel.has_weights:  # Gains and changes of scale.
            assert kernel.form is DepthwiseConv2D
            assert_same(kernel.codes, np.ones((len(kernel.parameters), 1), np.int8))


@pytest.mark.parametrize(
    ("layer", "form"),
    [
        (lambda: layers.Conv2D(4, 3), Conv2D),
        (lambda: layers.Conv2D(4, 1), Conv2D),  # Never dense: that is for some kernels only.
        (lambda: layers.Conv2D(4, 3, groups=2), GroupedConv2D),
        (lambda: layers.DepthwiseConv2D(3), DepthwiseConv2D),
        (lambda: layers.Conv2DTranspose(4, 3, 2), TransposeConv2D),
        (lambda: layers.Dense(4), FullyConnected),
    ],
)
def test_forms(layer, form):
    image = keras.Input((5, 5, 4), name="image")
    x = layers.Flatten()(image) if form is FullyConnected else image
    model = small_networks.quantize(keras.Model(image, layer()(x)), 0, weight_bits=4)
    (kernel,) = export.lower(model).kernels
    assert kernel.form is form


def tiny(seed: int, weight_bits: int, activation_bits: int) -> keras.Model:
    """Dense channels over one input each of 256 codes: gains of either sign and zero, a ReLU."""
    image = keras.Input((1, 1, 1), name="image")
    x = layers.Conv2D(6, 1, name="conv")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    model = keras.Model(image, layers.Conv2D(2, 1, name="last")(x))
    small_networks.randomize(model, seed)
    rules = [
        wrpn_tf.Rule(name="conv", weight_bits=weight_bits),
        wrpn_tf.Rule(name="relu", activation_bits=activation_bits),
    ]
    return small_networks.quantize(model, seed, rules=rules)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(1, 2), (2, 4), (4, 3)])
def test_thresholds_are_those_of_exact_arithmetic_and_of_keras(seed, weight_bits, activation_bits):
    model = tiny(seed, weight_bits, activation_bits)
    graph = export.lower(model)
    kernel = graph.kernels[0]
    assert kernel.output == "relu"
    source, output = (graph.tensors[name].grid for name in ("image", "relu"))
    levels = np.arange(output.low + 1, output.high + 1)
    found = ideal.thresholds(kernel.parameters, source.scale, output.scale, levels)
    assert found.shape == (2**activation_bits - 1, 6)
    first, last = -3000, 3000
    for channel, record in enumerate(kernel.parameters):
        sign = -1 if record["gain"] < 0 else 1

        def code(accumulator: int, record=record, sign=sign) -> int:
            scales, ends = (source.scale, output.scale), (output.low, output.high)
            return trained_layers.exact_code(record, *scales, *ends, sign * accumulator)

        # Codes do not fall from one accumulator to the next: both sides of a threshold tell all.
        for level, threshold in zip(range(1, output.high + 1), found[:, channel], strict=True):
            place = int(np.clip(threshold, first, last + 1))
            assert place == first or code(place - 1) < level
            assert place > last or code(place) >= level

    images = np.arange(-128, 128, dtype=np.int8).reshape(-1, 1, 1, 1)
    relu = model.get_layer(graph.provenance.layers["relu"]).output
    reals = keras.Model(model.input, relu)(small_networks.reals(images), training=False).numpy()
    of_keras = np.rint(reals[:, 0, 0] / np.float32(output.scale))
    steps = images.reshape(-1, 1).astype(np.int64) - source.zero_point
    sums = steps * (kernel.codes * ideal.signs(kernel.parameters)).T.astype(np.int64)
    assert_same(of_keras.astype(np.int64), (found[:, None] <= sums).sum(axis=0))
    assert len(np.unique(of_keras)) > 2


@pytest.mark.parametrize("option", [{"weights": "int4"}, {"split_groups": False}])
def test_options_of_earlier_versions_are_refused_in_a_sentence(option, model):
    (name,) = option
    with pytest.raises(TypeError, match=rf"takes no '{name}'.*export\.realize\(trained, weights="):
        export.lower(model, **option)


def test_metadata_is_the_users_and_the_inputs():
    model = small_networks.quantize(small_networks.network(0), 0)
    graph = export.lower(model, {"labels": ["one", "two"], "name": "mine"})
    assert graph.metadata["labels"] == ["one", "two"]
    assert graph.metadata["name"] == "mine"
    grid = graph.tensors["image"].grid
    assert graph.metadata["normalization"] == {
        "image": {"mean": [grid.zero_point + 128.0], "std": [1 / grid.scale]}
    }
    assert export.realize(graph).metadata == graph.metadata
    numbered = export.lower(model, {"labels": np.arange(2), "description": 7})
    assert numbered.metadata["labels"] == ["0", "1"]
    assert numbered.metadata["description"] == "7"
    with pytest.raises(TypeError, match="not JSON serializable"):
        export.lower(model, {"mean": np.zeros(3)})


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("what", ["kernel", "scale", "range"])
def test_layers_with_weights_that_are_no_numbers_are_named(what, wrong):
    model = small_networks.quantize(small_networks.network(1), 1)
    if what == "range":
        name, (_, variables) = next(iter(wrpn_tf.named_output_quantizers(model).items()))
        variable = variables["maximum"]
    else:
        name, (_, kernel, variables) = next(iter(wrpn_tf.named_kernel_quantizers(model).items()))
        variable = kernel if what == "kernel" else variables["scale"]
    variable.assign(np.full_like(variable, wrong))
    with pytest.raises(export.LoweringError, match=rf"NaN or infinite: {name}\."):
        export.lower(model)


@pytest.mark.parametrize("identity", [None, layers.Dropout(0.5), layers.Activation("linear")])
def test_one_tensor_is_two_outputs(identity):
    """A file has an output once: the other is a copy."""
    image = keras.Input((4, 4, 2), name="image")
    x = layers.Dense(3, name="logits")(layers.Flatten()(image))
    outputs = [x, x if identity is None else identity(x), layers.ReLU(name="relu")(x)]
    model = small_networks.quantize(keras.Model(image, outputs), 0)
    graph = export.lower(model)
    assert len(set(graph.outputs)) == 3
    images = np.random.default_rng(0).uniform(0, 1, (8, 4, 4, 2)).astype(np.float32)
    export.settle(model)
    found = export.verify(model, export.to_tflite(model), images)
    assert found.verified and [row.different for row in found.outputs] == [0, 0, 0]


def test_an_input_is_an_output():
    image = keras.Input((4, 4, 2), name="image")
    model = keras.Model(image, [layers.Conv2D(3, 1)(image), layers.Dropout(0.5)(image)])
    model = small_networks.quantize(model, 0)
    images = np.random.default_rng(0).uniform(0, 1, (8, 4, 4, 2)).astype(np.float32)
    found = export.verify(model, export.to_tflite(model), images)
    assert found.outputs[1].different == 0 and found.different == 0


def joined(beside: layers.Layer, **options) -> keras.Model:
    """A ReLU with a maximum, pooled, beside what is larger."""
    image = keras.Input((4, 4, 2), name="image")
    branches = [
        layers.MaxPooling2D()(layer(layers.Conv2D(3, 3, padding="same")(image)))
        for layer in (layers.ReLU(0.25, name="bounded"), beside)
    ]
    model = keras.Model(image, layers.Concatenate(name="join")(branches))
    small_networks.randomize(model, 0)
    return small_networks.quantize(model, 0, **options)


@pytest.mark.parametrize("beside", [layers.Dropout(0.1), layers.ReLU(), layers.ReLU(6.0)])
def test_a_relu_clips_at_its_maximum_whatever_reads_it(beside):
    model = joined(beside)
    export.settle(model)
    graph = export.lower(model)
    codes = small_networks.codes(model, 8, 1)
    (output,) = graph.outputs
    (reals,) = wrpn_tf.infer(model, [small_networks.reals(codes)])
    found = export.execute(graph, {"image": codes})[output]
    assert_same(found, comparison.quantize(reals, graph.tensors[output]))
    assert reals[..., :3].max() <= 0.25 + graph.tensors[output].quantization.scale / 2
    assert reals[..., 3:].max() > 0.5


def test_a_relu_that_nothing_clips_at_its_maximum_is_named():
    model = joined(layers.Dropout(0.1), rules=[wrpn_tf.Rule(name="*bounded", activation_bits=32)])
    with pytest.raises(
        export.LoweringError, match=r"bounded' has the maximum 0\.25 and no quantizer .* up to "
    ):
        export.lower(model)


def test_an_average_of_reals_is_refused():
    """On the grid of the concatenation behind it the file would round what Keras does not."""
    image = keras.Input((6, 6, 2), name="image")
    real = layers.ReLU(name="real")(layers.Conv2D(3, 3)(image))
    other = layers.MaxPooling2D()(layers.Conv2D(3, 3)(image))
    joined = layers.Concatenate()([layers.AveragePooling2D(name="average")(real), other])
    rules = [wrpn_tf.Rule(name="real", activation_bits=32)]
    model = small_networks.quantize(keras.Model(image, joined), 0, rules=rules)
    with pytest.raises(export.FloatError, match="output of 'average' is in float"):
        export.lower(model)


NORMALIZED = layers.BatchNormalization(name="bn")


@pytest.mark.parametrize(
    "layer",
    [layers.Dropout(0.5, name="drop"), layers.GaussianNoise(0.1, name="drop"), NORMALIZED],
)
def test_layers_that_always_train_are_named(layer):
    """A file would compute the mean of what Keras does, at best."""

    def build(**call):
        image = keras.Input((4, 4, 2), name="image")
        x = layers.Conv2D(3, 3, name="conv")(image)
        x = layer.from_config(layer.get_config())(x, **call)
        return keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))

    model = small_networks.quantize(build(training=True), 0)
    with pytest.raises(
        export.LoweringError, match=rf"called with training=True: (quant_)?{layer.name}\."
    ):
        export.lower(model)
    plain = small_networks.quantize(build(), 0)
    plain.set_weights(model.get_weights())
    assert export.lower(plain).operators


def test_a_quantized_model_in_another_is_named():
    image = keras.Input((2,))
    float_model = keras.Model(image, layers.Dense(1)(image), name="inner")
    inner = wrpn_tf.quantize_model(float_model, input_range=(0, 1))
    wrpn_tf.calibrate(inner, np.eye(2, dtype=np.float32))
    outer = keras.Model(image, inner(image), name="outer")
    sentence = "^Model 'outer' has a quantized model as its layer 'inner': export that one, "
    with pytest.raises(export.LoweringError, match=sentence):
        export.lower(outer)
    assert export.lower(outer.get_layer("inner")) is not None


def test_codes_that_are_to_be_moved_are_those_of_what_was_read():
    """Axes that stay side by side are one for the operator, before and behind it."""
    inputs = keras.Input((3, 4, 4), name="image")
    x = layers.ReLU(name="relu")(layers.Conv2D(4, 1, name="conv")(inputs))
    x = layers.Permute((1, 2, 4, 3), name="turned")(layers.Reshape((3, 4, 2, 2), name="split")(x))
    model = keras.Model(inputs, layers.Reshape((3, 4, 4), name="joined")(x))
    graph = export.lower(small_networks.quantize(model, 0))
    known = {name: layer.removeprefix("quant_") for name, layer in graph.provenance.layers.items()}
    assert known == {
        "image": "quantize_image",
        "relu": "relu",
        "turned_merged": "split",
        "turned_transposed": "turned",
        "joined": "joined",
    }


def gate(names: tuple[str, str], channels: tuple[int, int], last: layers.Layer) -> keras.Model:
    """A product of two ReLUs: a step of it is more than one of the 8 bits that it becomes."""
    image = keras.Input((4, 4, 3), name="image")
    one, two = (
        layers.ReLU(name=name)(layers.Conv2D(count, 1, kernel_initializer="ones")(image))
        for name, count in zip(names, channels, strict=True)
    )
    x = last(layers.Multiply(name="gate")([one, two]))
    model = keras.Model(image, layers.Dense(2, name="logits")(layers.Flatten(name="flat")(x)))
    return small_networks.quantize(model, 0, weight_bits=2, activation_bits=4)


@pytest.mark.parametrize("last", [layers.Dropout(0.1), layers.ReLU(name="relu")])
def test_a_finer_factor_is_the_smaller_one_and_of_the_layer_that_it_was(last):
    """Whatever other layers are called."""
    graph = export.lower(gate(("other", "gate_factor"), (1, 4), last))
    (product,) = (each for each in graph.operators if isinstance(each, Multiply))
    wide, fine = (graph.tensors[name] for name in product.inputs)
    assert (wide.shape, fine.shape) == ((1, 4, 4, 4), (1, 4, 4, 1))
    assert (wide.quantization.high, fine.quantization.high) == (15, 240)
    known = {name: layer.removeprefix("quant_") for name, layer in graph.provenance.layers.items()}
    end = product.output
    assert known == {
        "image": "quantize_image",
        "gate_factor": "gate_factor",
        "other": "other",
        product.inputs[1]: "other",
        end: end,
        "flat": "flat",
        "logits": "logits",
    }


def test_what_is_on_the_wanted_grid_already_is_computed_once():
    """Of the method 'paper' all k-bit tensors are on one grid."""
    image = keras.Input((4, 4, 2), name="image")
    one, two = (layers.ReLU()(layers.Conv2D(3, 1, name=name)(image)) for name in "ab")
    joined = layers.Concatenate()([one, two])
    outputs = [layers.Conv2D(2, 1, name=name)(x) for name, x in (("c", one), ("d", joined))]
    model = small_networks.quantize(keras.Model(image, outputs), 0, method="paper")
    graph = export.lower(model)
    assert {each.grid for each in wrpn_tf.view(model) if each.kind is wrpn_tf.Kind.RELU} != {None}
    assert [type(operator) for operator in graph.operators].count(TrainedKernel) == 4


def test_a_relu_of_a_sum_or_product_clips_on_a_grid_with_codes_below_0():
    """That of a concatenation with something linear."""
    image = keras.Input((4, 4, 2), name="image")
    one, two, line = (layers.Conv2D(3, 1, name=name)(image) for name in ("a", "b", "line"))
    x = [merge()([one, two]) for merge in (layers.Add, layers.Subtract, layers.Multiply)]
    x = layers.Concatenate(name="join")([*(layers.ReLU()(each) for each in x), line])
    model = keras.Model(image, layers.Conv2D(2, 1, name="last")(x))
    small_networks.randomize(model, 0)
    graph = export.lower(small_networks.quantize(model, 0))
    merged = [each for each in graph.operators if isinstance(each, Add | Subtract | Multiply)]
    assert len(merged) == 3
    for operator in merged:
        assert operator.relu
        assert graph.tensors[operator.output].quantization.low < 0
        assert graph.provenance.quantization[operator.output].low == 0
