import both_keras
import keras
import numpy as np
import pytest
import small_models

import wrpn_tf
from wrpn_tf.allocation import choosing
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
