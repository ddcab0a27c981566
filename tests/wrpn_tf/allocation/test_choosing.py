import math

import both_keras
import keras
import numpy as np
import pytest
import small_models

import wrpn_tf
from wrpn_tf.allocation import choosing, sensitivity
from wrpn_tf.allocation.sensitivity import measure_distortions, read_tensors


def branches():
    """Activations that meet in a concatenation and that three layers read; a separable kernel."""
    inputs = keras.Input((6, 6, 2), name="image")
    one = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="one[a]")(inputs)
    two = keras.layers.Conv2D(4, 1, activation="relu", name="two")(one)
    x = keras.layers.Concatenate(name="both")([one, two])
    x = keras.layers.SeparableConv2D(6, 3, activation="relu", name="separable")(x)
    y = keras.layers.Conv2D(6, 3, activation="relu", name="three")(one)
    x = keras.layers.Add(name="sum")([x, y])
    x = keras.layers.Conv2D(6, 1, activation="relu", name="four")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x), name="branches")


def test_tensors_that_share_a_grid_are_one_decision():
    found = read_tensors(branches())
    macs = {"one[a]": 36 * 72, "two": 36 * 16, "separable": 16 * 120, "three": 16 * 216}
    macs |= {"four": 16 * 36, "logits": 18}
    kernels = {t.layers[0]: (t.fmas, t.weights) for t in found.tensors if t.part == "weights"}
    sizes = {"one[a]": 72, "two": 16, "separable": 120, "three": 216, "four": 36, "logits": 18}
    assert kernels == {name: (macs[name], sizes[name]) for name in macs}
    activations = {t.layers: t.fmas for t in found.tensors if t.part == "activations"}
    # `one` is read by `two`, `three` and, with `two` behind the concatenation, by `separable`,
    # whose pointwise kernel reads 8 bits of the depthwise one's, as `four` reads those of a sum.
    assert activations == {
        ("one[a]", "two"): macs["two"] + macs["three"] + 16 * 72,
        ("separable",): 0,
        ("three",): 0,
        ("four",): macs["logits"],
    }
    assert found.fmas == sum(macs.values())
    assert found.fixed == 8 * (macs["one[a]"] + 16 * 48 + macs["four"])


@pytest.mark.parametrize("budget", [{"cost": 0.14}, {"flash": 150}, {"cost": 0.2, "flash": 300}])
def test_the_quantized_model_costs_what_was_predicted(budget):
    model = branches()
    network = read_tensors(model)
    random = np.random.default_rng(0)
    distortions = {t: dict(zip((2, 4, 8), random.random(3), strict=True)) for t in network.tensors}
    choice = choosing.solve(network, distortions, budget)
    cost = wrpn_tf.measure_cost(wrpn_tf.quantize_model(model, rules=choice.rules))
    assert choice.cost == cost.compute / wrpn_tf.measure_cost(model).compute
    assert choice.flash == cost.weight_bytes
    assert all(getattr(choice, name) <= most for name, most in budget.items())
    assert choice.distortion == sum(d.distortions[d.bits] for d in choice.decisions)


@pytest.mark.parametrize("front", both_keras.KERAS)
def test_sensitivities_are_those_of_the_quantized_tensor_alone(front):
    model = dict(zip(both_keras.KERAS, both_keras.twins("tiny"), strict=True))[front]
    images = small_models.images(model, 16)
    found = measure_distortions(model, [[images[:8]], [images[8:]]], [2], "mse")
    by_name = {(t.part, *t.layers): of_bits[2] for t, of_bits in found.items()}
    (expected,) = wrpn_tf.infer(model, [images])
    rules = [wrpn_tf.Rule(name="*", weight_bits=2, activation_bits=8)]
    kernels = wrpn_tf.named_kernel_quantizers(wrpn_tf.quantize_model(model, 2, 8, rules))
    for name in ("conv1", "conv2", "logits"):
        state, kernel, variables = kernels.get(name) or kernels[f"quant_{name}"]
        codes, scale = state.codes(kernel.numpy(), variables)
        layer = model.get_layer(name)
        before = layer.get_weights()
        layer.set_weights([codes * scale, *before[1:]])
        (outputs,) = wrpn_tf.infer(model, [images])
        layer.set_weights(before)
        distance = np.square(outputs - expected).mean()
        assert by_name["weights", name] == pytest.approx(distance, rel=1e-4)
    assert by_name["activations", "relu1"] > 0 < by_name["activations", "conv2"]


def test_a_layer_that_is_used_twice_has_one_kernel():
    inputs = keras.Input((4, 4, 2), name="image")
    conv = keras.layers.Conv2D(2, 1, name="conv")
    x = keras.layers.ReLU(name="relu")(conv(conv(inputs)))
    x = keras.layers.Flatten(name="flat")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))
    conv.set_weights([np.float32([[[[0.5, 0.2], [0.1, 0.4]]]]), np.zeros(2)])
    images = np.tile(np.float32([1.0, 0.0]), (2, 4, 4, 1))
    kernels = [t for t in read_tensors(model).tensors if t.part == "weights"]
    assert [(t.layers, t.fmas, t.weights) for t in kernels] == [
        (("conv",), 2 * 16 * 4, 4),
        (("logits",), 96, 96),
    ]
    found = measure_distortions(model, [[images]], [1], "mse")
    assert [of_bits[1] > 0 for t, of_bits in found.items() if t.part == "weights"] == [True, True]


def test_activations_of_one_grid_are_quantized_together():
    """As in a network in which they alone are."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 2), name="image")
    one = keras.layers.Conv2D(4, 1, activation="relu", name="one")(inputs)
    two = keras.layers.Conv2D(4, 1, activation="relu", name="two")(one)
    x = keras.layers.Concatenate(name="both")([one, two])
    x = keras.layers.Conv2D(2, 1, name="conv")(x)
    model = keras.Model(inputs, keras.layers.Flatten(name="flat")(x))
    pixels = np.random.default_rng(0).uniform(-1, 1, (8, 4, 4, 2)).astype(np.float32)
    found = measure_distortions(model, [[pixels]], [2], "mse")
    (distances,) = [found[t] for t in found if t.part == "activations"]
    rules = [wrpn_tf.Rule(name="*", weight_bits=32, activation_bits=2)]
    alone = wrpn_tf.quantize_model(model, 32, 2, rules, first_last="paper")
    wrpn_tf.calibrate(alone, [pixels])
    (expected,), (outputs,) = (wrpn_tf.infer(each, [pixels]) for each in (model, alone))
    assert distances[2] == pytest.approx(np.square(outputs - expected).mean(), rel=1e-4)


def test_outputs_that_are_no_numbers_are_named():
    inputs = keras.Input((2,))
    one, other = (keras.layers.Dense(1, name=name)(inputs) for name in ("one", "other"))
    model = keras.Model(inputs, [one, other], name="halves")
    model.get_layer("other").set_weights([np.full((2, 1), np.inf), np.zeros(1)])
    with pytest.raises(ValueError, match="the outputs of 'halves' are NaN or infinite; look at"):
        measure_distortions(model, [[np.ones((1, 2), np.float32)]], [2], "mse")


def test_kernels_of_every_class_are_rounded_as_by_quantize_model():
    inputs = keras.Input((4, 4, 3), name="image")
    x = keras.layers.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise")(inputs)
    x = keras.layers.Conv2DTranspose(2, 2, name="transposed")(x)
    x = keras.layers.Dense(4, name="dense")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x)
    quantized = wrpn_tf.quantize_model(model, 2, 8, [wrpn_tf.Rule(name="*", weight_bits=2)])
    for name, (state, kernel, variables) in wrpn_tf.named_kernel_quantizers(quantized).items():
        codes, scale = state.codes(kernel.numpy(), variables)
        layer_class = type(model.get_layer(name)).__name__
        rounded = sensitivity._rounded(kernel.numpy(), layer_class, 2)
        assert np.array_equal(rounded, codes * scale), name


def test_squared_errors_are_means_over_images_summed_over_outputs():
    expected = [[np.zeros((2, 2, 1, 2)), np.zeros((2, 3))], [np.zeros((1, 2, 1, 2)), [[0.0] * 3]]]
    outputs = [[np.full((2, 2, 1, 2), 2.0), np.ones((2, 3))], [expected[1][0], [[6.0, 0.0, 0.0]]]]
    expected, outputs = (
        [[np.array(v) for v in batch] for batch in of] for of in (expected, outputs)
    )
    # Of the images: 4 + 1, 4 + 1, 0 + 12.
    assert sensitivity._distance(expected, outputs, "mse") == 22 / 3


def test_divergence_is_that_of_the_probabilities_from_those_in_float():
    """Of (1/2, 1/2) from (1/4, 3/4): ln(4/3) / 2; the other way it is ln(27/16) / 4."""
    even, other = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    far = 1000.0  # Whose exponential is no number: logits tell differences alone.
    expected = [[np.array([even, even + far])], [np.array([other])]]
    outputs = [[np.array([other - far, even])], [np.array([other + 1])]]
    distance = sensitivity._distance(expected, outputs, "kl")
    assert distance == pytest.approx(math.log(4 / 3) / 2 / 3, rel=1e-9)
    pixels = [np.reshape([even, even + far, even, even], (1, 2, 2, 2))]
    others = [np.reshape([other, even, even, other + far], (1, 2, 2, 2))]
    distance = sensitivity._distance([pixels], [others], "kl")
    assert distance == pytest.approx(math.log(4 / 3) / 2 / 2, rel=1e-9)


def test_choose_bits_gives_more_bits_to_what_matters(capfd):
    model = both_keras.twins("tiny")[0]
    images = small_models.images(model, 16)
    choice = wrpn_tf.choose_bits(
        model, images, {"cost": 0.2}, (2, 8), distortion="kl", progress=True
    )
    assert "measure distortions of 8 bits" in capfd.readouterr().err
    assert choice.cost <= 0.2
    assert {decision.bits for decision in choice.decisions} == {2, 8}
    few = [decision for decision in choice.decisions if decision.bits == 2]
    assert all(decision.distortions[2] > decision.distortions[8] for decision in few)
    assert [rule.as_json() for rule in choice.rules][1].keys() <= {"name", "activation_bits"}


MISTAKES = [
    ({"cost": 0.03}, {}, "A budget of cost 0.03 cannot be met: the least, 2 bits, takes 0.1451."),
    ({"flash": 10}, {}, "A budget of flash 10 cannot be met: the least, 2 bits, takes 23 bytes."),
    ({"speed": 1}, {}, "A budget is the most of cost or flash, as in"),
    ({"cost": -1}, {}, "The budget of cost must be a positive number; got -1."),
    ({"cost": 30}, {}, "The budget of cost is a share of the model in float; got 30."),
    ({}, {}, "A budget is the most of cost or flash, as in {'cost': 0.3}; got {}."),
    ({"flash": True}, {}, "The budget of flash must be a positive number; got True."),
    ({"flash": 0}, {}, "The budget of flash must be a positive number; got 0."),
    ({"flash": math.inf}, {}, "The budget of flash must be a positive number; got inf."),
    ({"flash": 1}, {"bits": ()}, "There are no bits to choose from."),
    ({"cost": 1}, {"bits": (2, 32)}, "Bits to choose from are 1 to 8; got 32."),
    ({"cost": 1}, {"distortion": "max"}, "distortion must be one of mse, kl; got 'max'."),
]


@pytest.mark.parametrize(("budget", "options", "sentence"), MISTAKES)
def test_mistakes_are_told_before_images_are_read(budget, options, sentence):
    model = both_keras.twins("tiny")[0]
    with pytest.raises(ValueError) as caught:
        wrpn_tf.choose_bits(model, None, budget, **options)
    assert str(caught.value).startswith(sentence)


def test_a_model_without_kernels_has_no_bits_to_choose():
    inputs = keras.Input((4, 4, 2))
    for outputs in (keras.layers.AveragePooling2D(2)(inputs), keras.layers.ReLU()(inputs)):
        model = keras.Model(inputs, outputs, name="pool")
        with pytest.raises(ValueError, match=r"'pool' has no convolution or dense layer to choo"):
            wrpn_tf.choose_bits(model, None, {"cost": 0.2})


def test_probabilities_of_one_class_say_nothing():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs), name="score")
    with pytest.raises(ValueError, match=r"'score' has an output of one channel.*take 'mse'"):
        wrpn_tf.choose_bits(model, None, {"cost": 0.2}, distortion="kl")


def test_numbers_of_numpy_are_budgets():
    model = both_keras.twins("tiny")[0]
    images = small_models.images(model, 4)
    choices = [
        wrpn_tf.choose_bits(model, images, {"flash": kind(60)}, (2, 8)) for kind in (int, np.int64)
    ]
    assert choices[0].decisions == choices[1].decisions


class Measured(Exception):
    """What would be measured."""


def test_what_is_measured_is_what_was_given(monkeypatch):
    def measure(model, taken, bits, distortion, *, progress):
        raise Measured([len(images) for (images,) in taken], bits, distortion, progress)

    monkeypatch.setattr(choosing, "measure_distortions", measure)
    model = both_keras.twins("tiny")[0]
    images = small_models.images(model, 16)
    options = {"distortion": "kl", "steps": 2, "batch_size": 3, "progress": True}
    with pytest.raises(Measured) as caught:
        wrpn_tf.choose_bits(model, images, {"cost": 0.5}, (8, 2, 8), **options)
    assert caught.value.args == ([3, 3], [2, 8], "kl", True)
    with pytest.raises(ValueError, match="needs at least one batch of images; got none"):
        wrpn_tf.choose_bits(model, [], {"cost": 0.5})


def test_a_budget_is_met_to_the_last_unit():
    """Of 100 FMAs with 1 bit, and 300 bits of a kernel."""
    tensor = sensitivity.Tensor(part="weights", layers=("conv",), fmas=100, weights=300)
    network = sensitivity.Tensors(tensors=(tensor,), fmas=100, fixed=500)
    distortions = {tensor: {1: 2.0, 2: 1.0}}

    def bits(budget):
        return choosing.solve(network, distortions, budget).decisions[0].bits

    assert [bits({"flash": size}) for size in (37.5, 74.9, 75)] == [1, 1, 2]
    assert [bits({"cost": share}) for share in (600 / 6400, 699 / 6400, 700 / 6400)] == [1, 1, 2]
    choice = choosing.solve(network, distortions, {"flash": 37.5})
    assert (choice.cost, choice.flash) == (600 / 6400, 37.5)
    assert [(each.cost, each.flash) for each in choice.decisions] == [(100 / 6400, 37.5)]
    with pytest.raises(ValueError, match=r"flash 37.4 .* the least, 1 bits, takes 38 bytes."):
        bits({"flash": 37.4})
    with pytest.raises(ValueError, match=r"cost 0.0937 .* the least, 1 bits, takes 0.0938."):
        bits({"cost": 0.0937})
    more = sensitivity.Tensors(tensors=(tensor,), fmas=100, fixed=501)  # 601 / 6400 = 0.093906...
    with pytest.raises(ValueError, match=r"takes 0.0940."):
        choosing.solve(more, distortions, {"cost": 0.0937})


def test_a_share_that_is_not_exact_is_what_was_meant():
    """Float64's rounding may leave it below."""
    tensor = sensitivity.Tensor(part="weights", layers=("conv",), fmas=10, weights=10)
    network = sensitivity.Tensors(tensors=(tensor,), fmas=10, fixed=0)
    distortions = {tensor: {1: 2.0, 7: 1.0}}
    for share in (70 / 640, np.nextafter(70 / 640, 0)):
        choice = choosing.solve(network, distortions, {"cost": share})
        assert [each.bits for each in choice.decisions] == [7]


def test_models_that_are_quantized_are_refused():
    model = wrpn_tf.quantize_model(both_keras.twins("tiny")[0])
    with pytest.raises(ValueError, match="is quantized already; bits are chosen for a float model"):
        wrpn_tf.choose_bits(model, None, {"cost": 0.2})


def test_one_output_of_one_class_among_others_says_nothing():
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(units)(inputs) for units in (3, 1)]
    model = keras.Model(inputs, outputs, name="scores")
    with pytest.raises(ValueError, match=r"'scores' has an output of one channel.*take 'mse'"):
        wrpn_tf.choose_bits(model, None, {"cost": 0.5}, distortion="kl")
