"""What `export.to_tflite` says of networks whose file and training differ, in numbers, and when."""

import re
import types
import warnings

import numpy as np
import pytest
import small_networks
import tf_keras as keras
from tf_keras import layers

import export
import wrpn_tf
from export.alignment import disagreement
from export.ir.operators import Multiply
from export.ir.provenance import TRAINED
from export.verification import checks
from wrpn_tf import QuantizationParameters


def quantized(seed, *, epsilon=1e-3, bias=0.0):
    """Two convolutions with batch normalization and a dense layer, calibrated on 64 images."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="conv1")(image)
    x = layers.ReLU(name="relu1")(layers.BatchNormalization(epsilon=epsilon, name="bn1")(x))
    x = layers.Conv2D(8, 3, padding="same", name="conv2")(x)
    x = layers.ReLU(name="relu2")(layers.BatchNormalization(name="bn2")(x))
    x = layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D(name="pool")(x))
    model = wrpn_tf.quantize_model(keras.Model(image, x), 4, 4, input_range=(0.0, 1.0))
    images = np.random.default_rng(0).uniform(0, 1, (64, 8, 8, 3)).astype(np.float32)
    wrpn_tf.calibrate(model, images)
    norm = inner(model, "bn1")
    norm.moving_variance.assign(np.full(8, 0.05 if epsilon == 1e-3 else 1e-12, np.float32))
    norm.moving_mean.assign(np.full(8, bias, np.float32) + np.linspace(-0.4, 0.4, 8))
    inner(model, "conv1").bias.assign(np.full(8, bias, np.float32))
    return model


def inner(model, name):
    """A layer by its name, without its wrapper."""
    found = [getattr(layer, "layer", layer) for layer in model.layers]
    return next(layer for layer in found if layer.name == name)


def differences(model):
    """Codes of the first ReLU that differ between Keras and file, and by how much."""
    graph = export.realize(export.lower(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = export.to_tflite(model)
    images = small_networks.codes(model, 64, 0)
    row = checks.compare_with_keras(model, graph, content, images)["relu1"]
    return row.different, row.largest


def said(model):
    """The one warning, or nothing."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export.to_tflite(model)
    found = [str(each.message) for each in caught if "export.settle" in str(each.message)]
    assert len(found) <= 1
    return found[0] if found else ""


def test_channels_that_are_not_exact_are_counted_until_settled():
    model = quantized(0)
    graph = export.realize(export.lower(model))
    wrong = {n: each["xnnpack"] for n, each in graph.provenance.inexact_channels.items()}
    count = sum(wrong.values())
    assert count == 7
    text = said(model)
    assert text.startswith(f"For some inputs {count} of 26 channels give another code in the file")
    for name, each in wrong.items():
        assert (f"{name!r} {each}" in text) == bool(each)
    assert "export.settle(model)" in text and "cancel" not in text
    assert "for layers of 8-bit weights 7 leave more room" in text
    export.settle(model)
    assert said(model) == ""


def test_a_variance_of_nothing_is_told_and_mended():
    model = quantized(0, epsilon=1e-12)
    different, largest = differences(model)
    assert different > 100 and largest > 1
    number = int(re.search(r"In (\d) of 26 channels so large numbers cancel", said(model))[1])
    assert number == disagreement.cancelling(model, export.lower(model))["relu1"]
    export.settle(model)
    assert differences(model)[0] == 0


@pytest.mark.parametrize("bias", [1e6, 1e9])
def test_large_biases_that_cancel_are_told(bias):
    model = quantized(0, bias=bias)
    export.settle(model)
    assert disagreement.cancelling(model, export.lower(model)) == {"relu1": 8}
    assert said(model).startswith(
        "In 8 of 26 channels so large numbers cancel that Keras's float32"
    )
    if bias == 1e9:
        assert differences(model)[1] == 15


@pytest.mark.parametrize(("value", "jumps"), [(0.066, True), (0.5, False)])
def test_products_that_leave_16_bits_are_told(value, jumps):
    """Calibrated on .1 and minus `value`: with the first, steps are .71 of an output code."""
    one, other = keras.Input((4, 4, 16), name="one"), keras.Input((4, 4, 16), name="other")
    product = layers.Multiply(name="product")([one, other])
    model = wrpn_tf.quantize_model(keras.Model([one, other], product), 4, 4, input_range=(-0.2, 1))
    zeros = np.zeros((1, 4, 4, 16), np.float32)
    wrpn_tf.calibrate(model, [[zeros + 0.1, zeros - value]])
    failures = export.prove(export.lower(model)).failures(("optimized",))
    assert len(failures) == jumps
    assert ("leave 16 bits in 'product', where the optimized" in said(model)) == jumps


@pytest.mark.parametrize(
    ("zero_point", "step", "leaves"),
    [
        (7, 1560, False),  # 21 * 1560 + 7 is 32767.
        (7, 1561, True),
        (-7, 2184, False),  # -15 * 2184 - 7 is -32767.
        (-7, 2185, True),
        (0, 10**6, False),
    ],
)
def test_16_bits_are_left_by_the_largest_products_on_the_side_of_the_zero_point(
    zero_point, step, leaves
):
    grids = {
        "one": QuantizationParameters(scale=0.5 * step, low=-2, high=3, bits=8),
        "other": QuantizationParameters(scale=0.5, low=-5, high=7, bits=8),
        "product": QuantizationParameters.int8(scale=0.25, zero_point=zero_point),
    }
    tensors = {name: types.SimpleNamespace(quantization=grid) for name, grid in grids.items()}
    operator = Multiply(inputs=("one", "other"), output="product")
    graph = types.SimpleNamespace(tensors=tensors)
    assert disagreement._leaves_16_bits(graph, operator) == leaves


def grid(low, high):
    return QuantizationParameters(scale=1.0, low=low, high=high, bits=8)


NEAR, FAR = 2**19 - 3, 2**19 - 5  # With 9 for the sum 2^20 + 3, and 2^20 - 1: half a code is 2^20.


@pytest.mark.parametrize(
    ("count", "own", "code", "source", "target", "fields"),
    [
        (1, 0, 3, (0, 3), (0, 15), {"shift": -NEAR, "offset": NEAR}),
        (0, 0, 3, (0, 3), (0, 15), {"shift": -FAR, "offset": FAR}),
        (1, 0, 3, (-3, 1), (0, 15), {"shift": -NEAR, "offset": NEAR}),
        (1, 2 * NEAR, 3, (0, 3), (0, 15), {}),
        (0, 2 * FAR, 3, (0, 3), (0, 15), {}),
        # From 0 down to -9, where thresholds are: by a gain below 0, of 1 in magnitude.
        (1, 0, 3, (0, 3), (-10, -5), {"shift": NEAR, "offset": NEAR, "gain": -2, "variance": 4}),
        (0, 0, 3, (0, 3), (-10, -5), {"shift": -NEAR, "offset": NEAR, "gain": 2, "variance": 4}),
        (0, 0, 3, (0, 3), (0, 15), {"shift": -FAR, "offset": FAR, "gain": 2, "variance": 4}),
        (0, 0, 3, (0, 3), (0, 15), {"gain": 0, "offset": 2**22}),
        # No threshold is near -40 or 60 and more; of the codes below 0 nothing is left by a ReLU.
        (0, 0, 100, (0, 3), (0, 15), {"shift": -(2**20), "offset": 2**20 - 40}),
        (0, 0, 100, (0, 3), (0, 15), {"shift": -(2**20), "offset": 2**20 - 5}),
        (1, 0, 100, (0, 3), (-15, 15), {"shift": -(2**20), "offset": 2**20 - 5}),
    ],
)
def test_channels_with_large_numbers_and_an_accumulator_near_a_threshold(
    count, own, code, source, target, fields
):
    """Float32 may be off by half a code of 1 from sums of 2^20 on."""
    parameters = np.zeros(2, TRAINED)
    parameters["scale"] = parameters["gain"] = parameters["variance"] = 1
    for name, value in fields.items():
        parameters[name][1] = value
    kernel = types.SimpleNamespace(
        inputs=("input",),
        output="output",
        codes=np.full((2, 1), code, np.int8),
        parameters=parameters,
    )
    trained = types.SimpleNamespace(
        tensors={
            "input": types.SimpleNamespace(quantization=grid(*source)),
            "output": types.SimpleNamespace(quantization=grid(-15, 15)),
        },
        provenance=types.SimpleNamespace(quantization={"output": grid(*target)}),
    )
    assert disagreement._off(trained, kernel, np.array([0, own])) == count


def test_biases_and_means_of_all_layers_of_an_operator_count(monkeypatch):
    """But for one that only moves the output of such layers to another grid."""
    layer, norm, none = (
        types.SimpleNamespace(layer=types.SimpleNamespace(**fields))
        for fields in ({"bias": [-1, 2]}, {"moving_mean": [3, -4]}, {"bias": None})
    )
    groups = {
        "both": types.SimpleNamespace(body=layer, affine=norm),
        "one": types.SimpleNamespace(body=layer, affine=None),
        "none": types.SimpleNamespace(body=none, affine=None),
    }
    fusion = types.SimpleNamespace(group=groups.get)
    monkeypatch.setattr(wrpn_tf, "fusion_groups", lambda model: fusion)
    names = {"a": "both", "b": "both", "c": "one", "d": "none"}
    kernels = [
        types.SimpleNamespace(output=name, codes=np.zeros((2, 1)), has_weights=name != "b")
        for name in names
    ]
    trained = types.SimpleNamespace(kernels=kernels, provenance=types.SimpleNamespace(layers=names))
    monkeypatch.setattr(disagreement, "_off", lambda trained, kernel, own: own.tolist())
    found = disagreement.cancelling(None, trained)
    assert found == {"a": [4, 6], "b": [0], "c": [1, 2], "d": [0, 0]}


def test_only_the_largest_are_named():
    counts = {name: number for number, name in enumerate("abcdefg")}
    assert disagreement._named(counts) == "'g' 6, 'f' 5, 'e' 4, 'd' 3 and 3 more operators"
    assert disagreement._named({"a": 1234}) == "'a' 1,234"


@pytest.mark.parametrize(("bits", "multiplier", "inexact"), [(8, 1, 20), (7, 2, 0)])
def test_logits_of_a_wide_layer_are_exact_with_7_bits(bits, multiplier, inexact):
    """With 8, float32 rounds products of some 10^5 by more than 255 thresholds leave room for."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16,))
    x = layers.Dense(64, activation="relu", name="first")(image)
    x = layers.Dense(2048, activation="relu", name="wide")(x)
    model = keras.Model(image, layers.Dense(20, name="logits")(x))
    rules = [wrpn_tf.Rule(name="logits", weight_bits=bits)]
    model = wrpn_tf.quantize_model(model, 4, 4, input_range=(-1.0, 1.0), rules=rules)
    grids = {"quant_first_relu": [0.06], "quant_wide_relu": [7e-4], "quant_logits": [-0.13, 0.08]}
    for name, (_, variables) in wrpn_tf.named_output_quantizers(model).items():
        for variable, value in zip(variables.values(), grids.get(name, [-1.0, 1.0]), strict=True):
            variable.assign(value)
    export.settle(model, progress=False)
    graph = export.realize(export.lower(model))
    (logits,) = (operator for operator in graph.operators if operator.output == "logits")
    assert logits.code_multiplier == multiplier
    assert graph.provenance.inexact_channels["logits"]["xnnpack"] == inexact
