"""Keras model to TFLite integers, for every bit-width and structure."""

import numpy as np
import pytest
import small_networks
import tf_keras as keras
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from tf_keras import layers

import export
import wrpn_tf
from export.flatbuffer import reader, writer
from export.ir.operators import DepthwiseConv2D, GroupedConv2D, Subtract, Weighted
from export.ir.saving import load, save
from export.ir.validation import validate
from export.kernel_sets.rules import KERNEL_SETS, TARGETS, effective_kernel_set
from export.realization import grouped_convolutions
from export.runtime import runner
from export.verification import checks

BITS = st.integers(1, 8)
HARD_SIGMOIDS = ("hard", "tf.nn.relu6")


def int8_file(model):
    return export.to_tflite(model)


def deploy(seed, build=small_networks.network, **options):
    model = small_networks.quantize(build(seed), seed, **options)
    graph = export.realize(export.lower(model))
    validate(graph)
    return (
        model,
        graph,
        int8_file(model),
        small_networks.codes(model, 8, seed + 1),
    )


def bias_steps(graph, operator):
    """The largest step of an operator's bias, in output codes."""
    if not isinstance(operator, Weighted):
        return 0.0
    source, target = (
        graph.tensors[name].quantization for name in (operator.inputs[0], operator.output)
    )
    return float(operator.kernel_scale.max()) * source.scale / target.scale


def low_bit_layers(graph):
    """Outputs of the operators with weights and outputs of 1 to 3 bits."""
    return [
        operator.output
        for operator in graph.operators
        if isinstance(operator, Weighted)
        and operator.bits <= 3
        and graph.tensors[operator.output].quantization.bits <= 3
    ]


# Every example builds and traces networks: shrinking one that fails takes longer than reading it.
@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    build=st.sampled_from(
        [
            small_networks.network,
            small_networks.gated,
            small_networks.decoder,
            small_networks.compared,
        ]
    ),
    seed=st.integers(0, 1000),
    weight_bits=BITS,
    activation_bits=BITS,
    method=st.sampled_from(["learned", "calibrated", "paper"]),
)
def test_every_integer_of_every_tensor(build, seed, weight_bits, activation_bits, method):
    try:
        model, graph, file, images = deploy(
            seed, build, weight_bits=weight_bits, activation_bits=activation_bits, method=method
        )
    except ValueError as error:  # Scales that no kernel computes with, as random weights may have.
        assume("output steps; the built-in kernels" not in str(error))
        raise
    assert checks.wrong_kernels(model, graph, file) == []
    assert reader.float_tensors(file) == []
    for kernel_set in KERNEL_SETS:
        differences, seen = checks.compare_with_executor(graph, file, images, kernel_set)
        assert [row for row in differences.values() if row.different] == []
        assert checks.too_many_codes(graph, seen) == []
    # In exact arithmetic the channels that realization calls exact are those that are proven.
    proven = {row.name: row.different for row in export.prove(graph).operators}
    inexact = graph.provenance.inexact_channels
    for name, parts in grouped_convolutions.kernels_by_layer(graph).items():
        used = effective_kernel_set(graph, parts[0], "xnnpack")
        assert sum(proven[part.output][used] for part in parts) == inexact[name][used], name
    # Keras computes in float32, which may take the other side of a tie: at most a code, and rarely.
    # The hard sigmoids are 1/2 at input 0, which is a tie of every k-bit grid on [0, 1]; a
    # difference may be nearer to one than the 20 bits of its kernels resolve. Where a bias is not
    # exact it is off by less than one step of its own grid.
    ties = {op.output for op in graph.operators if isinstance(op, Subtract)}
    bias_step = {op.output: bias_steps(graph, op) for op in graph.operators}
    for row in checks.compare_with_keras(model, graph, file, images).values():
        if any(inexact.get(row.name, {}).values()):
            assert row.largest <= max(1, np.ceil(bias_step[row.name])), row
            continue
        assert row.largest <= 1, row
        if row.name not in ties and not row.name.startswith(HARD_SIGMOIDS):
            assert row.different <= 0.01 * row.total, row


@pytest.mark.parametrize(
    "options",
    [
        {"weight_bits": 2, "per_channel": False},
        {"weight_bits": 2, "weight_method": "dynamic"},
        {"weight_bits": 1, "weight_method": "xnor"},
        {"weight_bits": 2, "weight_method": "dorefa"},
        {"weight_bits": 1, "weight_method": "dorefa"},
        {"weight_bits": 7, "weight_method": "dorefa"},
        {"weight_bits": 2, "activation_method": "pact"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_every_method_is_deployed_and_proven(options):
    keras.utils.set_random_seed(0)  # Calibration drops out.
    model, graph, file, images = deploy(1, activation_bits=2, **options)
    assert checks.wrong_kernels(model, graph, file) == []
    for kernel_set in KERNEL_SETS:
        differences, _ = checks.compare_with_executor(graph, file, images, kernel_set)
        assert [row for row in differences.values() if row.different] == []
    proof = {row.name: row for row in export.prove(graph).operators}
    low = low_bit_layers(graph)
    assert low or options["weight_bits"] == 7
    assert [name for name in low if not proof[name].proven()] == []
    differences = checks.compare_with_keras(model, graph, file, images)
    assert [differences[name] for name in low if differences[name].largest > 1] == []
    export.settle(model)
    graph = export.realize(export.lower(model))
    proven, total = export.prove(graph).share(("xnnpack",), range(1, 8))
    assert proven == total > 0
    differences = checks.compare_with_keras(model, graph, int8_file(model), images)
    assert [row for row in differences.values() if row.different] == []


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_low_bit_layers_are_exact_in_every_channel(bits):
    _, graph, _, _ = deploy(bits, weight_bits=bits, activation_bits=bits)
    low = low_bit_layers(graph)
    assert len(low) >= 4
    none = dict.fromkeys(TARGETS, 0)
    assert {name: graph.provenance.inexact_channels[name] for name in low} == dict.fromkeys(
        low, none
    )


def test_negative_gains_negate_codes_and_zero_gains_clear_them():
    model, graph, _, _ = deploy(3, weight_bits=4, activation_bits=4)
    views = {view.name: view for view in wrpn_tf.view(model)}
    gamma = views["bn1"].layer.gamma.numpy()
    trained = np.moveaxis(views["quant_conv1"].kernel.codes, -1, 0)
    operator = next(op for op in graph.operators if op.output == "relu1")
    assert (gamma < 0).any() and (gamma > 0).any() and (gamma == 0).any()
    for channel, gain in enumerate(gamma):
        expected = np.sign(gain) * trained[channel] * operator.code_multiplier
        assert np.array_equal(operator.kernel[channel], expected), channel


def unsettled(seed, *, weight_bits=7, activation_bits=6):
    """A quantized network whose ranges, and so scales, are a hair off the calibrated ones."""
    model = small_networks.network(seed)
    for layer in model.layers:  # Gains of 30 put offsets where float32 is coarser than a bias.
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(np.ones(layer.moving_variance.shape))
    model = small_networks.quantize(
        model, seed, weight_bits=weight_bits, activation_bits=activation_bits
    )
    random = np.random.default_rng(seed)
    for layer in model.layers:
        for variable in layer.weights:
            if variable.name.split("/")[-1].split(":")[0] in ("minimum", "maximum"):
                variable.assign(variable * (1 + random.uniform(-1e-6, 1e-6)))
    return model


def inexact(graph, target="xnnpack"):
    return sum(counts[target] for counts in graph.provenance.inexact_channels.values())


@pytest.mark.parametrize("seed", range(3))
def test_settling_makes_keras_and_device_compute_the_same(seed):
    model = unsettled(seed)
    graph, file = export.realize(export.lower(model)), int8_file(model)
    images = small_networks.codes(model, 8, 1)

    def different(graph, file):
        rows = checks.compare_with_keras(model, graph, file, images).values()
        return sum(row.different for row in rows)

    assert inexact(graph) > 0
    assert different(graph, file) > 0
    before = model.predict(small_networks.reals(images), verbose=0)
    export.settle(model)
    graph = export.realize(export.lower(model))
    assert inexact(graph) == 0
    assert different(graph, int8_file(model)) == 0
    after = model.predict(small_networks.reals(images), verbose=0)
    step = graph.tensors["logits"].quantization.scale
    assert np.abs(after - before).max() <= 4 * step


@pytest.mark.parametrize(("seed", "weight_bits"), [(20, 2), (21, 4), (22, 6), (23, 8)])
def test_settling_leaves_no_channel_inexact(seed, weight_bits):
    model = unsettled(seed, weight_bits=weight_bits, activation_bits=4)
    export.settle(model)
    settled = export.realize(export.lower(model))
    assert inexact(settled) == 0, settled.provenance.inexact_channels


@pytest.mark.parametrize("seed", range(3))
def test_gains_beyond_those_of_kernels_are_steps(seed):
    image = keras.Input((4, 4, 3), name="image")
    x = layers.Conv2D(8, 1, use_bias=False, name="conv", activation="relu")(image)
    x = layers.Conv2D(8, 3, use_bias=False, name="steep")(x)
    x = layers.BatchNormalization(name="bn")(x)
    model = keras.Model(image, layers.Dense(4, name="logits")(layers.Flatten()(x)))
    small_networks.randomize(model, seed)
    model = small_networks.quantize(model, seed, weight_bits=2, activation_bits=2)
    views = {view.name: view for view in wrpn_tf.view(model)}
    bn = views["quant_bn"].layer
    bn.moving_mean.assign(np.zeros(8))
    bn.gamma.assign(5e3 * np.array([1, -2, 1, 2, -1, 2, 1, 1e-3]))
    bn.beta.assign(views["quant_bn"].grid.scale * np.array([3, -7, 20, -50, 0, 90, -1, 5.3]))
    export.settle(model)
    graph = export.realize(export.lower(model))
    assert max(graph.provenance.inexact_channels["bn"].values()) == 0
    images = small_networks.codes(model, 64, 1)
    images[:32] = -128  # All the outputs of a constant layer are what its offsets are.
    differences = checks.compare_with_keras(model, graph, int8_file(model), images)
    assert differences["bn"].different <= differences["bn"].total // 100  # Keras sums in float32.


def test_a_relu_beside_a_linear_branch_still_clips():
    image = keras.Input((4, 4, 3), name="image")
    branches = [
        layers.Conv2D(4, 1, activation=activation)(image) for activation in (None, "relu", "relu6")
    ]
    x = layers.Conv2D(4, 1)(layers.Concatenate(name="both")(branches))
    model = keras.Model(image, x)
    random = np.random.default_rng(0)
    model.set_weights([random.normal(0, 3, weight.shape) for weight in model.get_weights()])
    model = small_networks.quantize(model, 0)
    graph = export.realize(export.lower(model))
    images = small_networks.codes(model, 32, 1)
    assert export.execute(graph, {"image": images})["both"].min() == -128
    for row in checks.compare_with_keras(model, graph, int8_file(model), images).values():
        assert row.different <= row.total * 0.01 and row.largest <= 1, row


def test_softmax_becomes_an_operator():
    model = small_networks.quantize(small_networks.network(0, softmax=True), 0)
    graph = export.realize(export.lower(model))
    images = small_networks.codes(model, 8, 1)
    for kernel_set in KERNEL_SETS:
        differences, _ = checks.compare_with_executor(graph, int8_file(model), images, kernel_set)
        assert [row for row in differences.values() if row.different] == []
    output = graph.tensors[graph.outputs[0]].quantization
    assert (output.scale, output.zero_point) == (1 / 256, -128)


def test_the_file_says_how_to_use_it():
    _, _, file, images = deploy(0, weight_bits=2, activation_bits=4)
    interpreter = runner.load(file)
    assert interpreter.get_signature_list()["serving_default"]["inputs"] == ["image"]
    assert interpreter.get_input_details()[0]["dtype"] == np.int8
    assert interpreter.get_output_details()[0]["dtype"] == np.int8
    scale, zero_point = interpreter.get_input_details()[0]["quantization"]
    assert np.array_equal(
        small_networks.reals(images), (images - np.float32(zero_point)) * np.float32(scale)
    )


def test_the_graph_survives_saving(tmp_path):
    _, graph, _, images = deploy(0, weight_bits=2, activation_bits=4)
    save(graph, tmp_path / "graph.npz")
    loaded = load(tmp_path / "graph.npz")
    before = export.execute(graph, {"image": images})
    after = export.execute(loaded, {"image": images})
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert loaded.metadata == graph.metadata
    assert loaded.provenance == graph.provenance


def test_a_planted_wrong_code_is_found():
    model, graph, file, _ = deploy(0, weight_bits=2, activation_bits=4)
    kernel_set = reader.kernels(file)
    content = kernel_set["relu1"].tobytes()
    at = file.index(content)
    planted = file[:at] + bytes([content[0] ^ 1]) + file[at + 1 :]
    assert checks.wrong_kernels(model, graph, planted) == ["relu1 (other codes)"]


def test_groups_run_as_one_operator_too():
    model = small_networks.quantize(small_networks.gated(1), 1, weight_bits=2)
    graph = export.realize(export.lower(model), split_groups=False)
    assert [op.output for op in graph.operators if isinstance(op, GroupedConv2D)] == ["bn"]
    file, images = writer.to_flatbuffer(graph), small_networks.codes(model, 8, 2)
    assert checks.wrong_kernels(model, graph, file) == []
    for kernel_set in KERNEL_SETS:
        differences, _ = checks.compare_with_executor(graph, file, images, kernel_set)
        assert [row for row in differences.values() if row.different] == []
    export.settle(model)
    split = export.realize(export.lower(model)).provenance.split_convolutions
    assert split and all(isinstance(name, str) for name in split)


def test_a_factor_before_a_kernel_costs_nothing():
    image = keras.Input((4, 4, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="conv")(layers.Rescaling(1 / 255)(image))
    model = small_networks.quantize(keras.Model(image, x), 0)
    graph = export.realize(export.lower(model))
    images = small_networks.codes(model, 8, 1)
    assert [op.output for op in graph.operators] == ["conv"]
    for row in checks.compare_with_keras(model, graph, int8_file(model), images).values():
        assert row.different <= row.total * 0.01 and row.largest <= 1, row


def test_image_codes_do_not_fall_half_way_between_rescaled_codes():
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(2, 1, name="conv")(layers.Rescaling(1 / 127.5, -1.0, name="scaled")(image))
    model = wrpn_tf.quantize_model(keras.Model(image, x), input_range=(0.0, 255.0))
    wrpn_tf.calibrate(model, [np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("f")])
    graph = export.realize(export.lower(model))
    images = small_networks.codes(model, 8, 1)
    rows = checks.compare_with_keras(model, graph, int8_file(model), images)
    # A code or two in 256 are nearer to a tie than the bias resolves; with 255 steps, all were.
    assert rows["scaled"].different <= rows["scaled"].total * 0.01


def test_unseen_ranges_and_float_layers_are_named():
    model = wrpn_tf.quantize_model(small_networks.network(0))
    with pytest.raises(export.LoweringError, match="seen no data: quantize_image, quant_bn2"):
        export.lower(model)
    model = wrpn_tf.quantize_model(small_networks.network(0), first_last="paper")
    with pytest.raises(export.FloatError, match="in float: conv1, logits"):
        export.lower(model)


def test_batch_normalization_behind_a_sum_is_a_depthwise_convolution():
    _, graph, _, _ = deploy(0, weight_bits=4, activation_bits=4)
    operator = next(op for op in graph.operators if op.output == "relu2")
    assert isinstance(operator, DepthwiseConv2D)
    assert operator.kernel.shape[1:3] == (1, 1)


def rows():
    """Tensors of rank 3: a normalization, a sum, a product and ReLUs over the last axis."""
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(image)
    x = line = layers.BatchNormalization(name="bn")(layers.Reshape((36, 4), name="rows")(x))
    x = layers.ReLU(name="relu")(layers.Rescaling([0.5, -2.0, 1.0, 0.0], 0.25, name="line")(x))
    x = layers.ReLU(6.0, name="sum_relu")(layers.Add(name="sum")([x, line]))
    x = layers.BatchNormalization(name="bn_after_sum")(x)
    x = layers.Concatenate(name="join")([x, layers.ReLU(name="beside")(line)])
    outputs = layers.Dense(3, name="logits")(layers.Flatten(name="flat")(x))
    model = keras.Model(image, outputs)
    small_networks.randomize(model, 0)
    return model


def test_normalization_of_rows_is_that_of_an_image_one_pixel_wide():
    model = small_networks.quantize(rows(), 0)
    export.settle(model)
    graph, file = export.realize(export.lower(model)), int8_file(model)
    validate(graph)
    images = small_networks.codes(model, 8, 1)
    for kernel_set in KERNEL_SETS:
        differences, _ = checks.compare_with_executor(graph, file, images, kernel_set)
        assert {name: entry.different for name, entry in differences.items()} == dict.fromkeys(
            graph.tensors, 0
        )
    assert checks.wrong_kernels(model, graph, file) == []
    differences = checks.compare_with_keras(model, graph, file, images)
    assert {name: entry.different for name, entry in differences.items()} == dict.fromkeys(
        differences, 0
    )
    assert graph.tensors["bn_moved"].shape == (1, 36, 1, 4)
    assert graph.tensors["bn"].shape == (1, 36, 4)


def test_a_factor_behind_a_kernel_is_the_kernels():
    """It would also be a factor for the kernel that follows; one of them has to have it."""
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(4, 3, name="one")(image)
    x = layers.Rescaling(0.5, name="half")(x)
    model = keras.Model(image, layers.Conv2D(4, 3, name="two")(x))
    small_networks.randomize(model, 0)
    _, graph, file, images = deploy(0, lambda seed: model)
    assert [operator.output for operator in graph.operators] == ["half", "two"]
    differences, _ = checks.compare_with_executor(graph, file, images, "xnnpack")
    assert all(entry.different == 0 for entry in differences.values())
