"""Layers that are made of others, all the way: trained, settled, lowered, proven, run, saved."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

import export
import wrpn_tf
from export.c99 import generator
from export.flatbuffer import writer
from export.kernel_sets.rules import KERNEL_SETS
from export.runtime import runner


def leaky() -> keras.Model:
    """Slopes below and above 1, behind a batch normalization, a bias and a pooling."""
    image = keras.Input((9, 9, 3), name="image")
    x = layers.Conv2D(6, 3, use_bias=False, name="conv1")(image)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.LeakyReLU(0.1, name="leaky1")(x)
    x = tf.nn.leaky_relu(layers.Conv2D(5, 3, name="conv2")(x), alpha=0.3, name="leaky2")
    x = layers.LeakyReLU(1.5, name="leaky3")(layers.MaxPooling2D(name="pool")(x))
    return keras.Model(image, layers.Dense(4, name="logits")(layers.Flatten(name="flat")(x)))


def sequences() -> keras.Model:
    """Convolutions over sequences, all paddings, with what follows them fused and not, pooled."""
    steps = keras.Input((24, 3), name="steps")
    x = layers.Conv1D(6, 5, padding="causal", dilation_rate=2, use_bias=False, name="conv1")(steps)
    x = layers.ReLU(name="relu1")(layers.BatchNormalization(name="bn1")(x))
    x = layers.MaxPooling1D(2, name="pool")(x)
    y = layers.Conv1D(6, 3, padding="same", activation="relu", name="conv2")(x)
    x = layers.Add(name="add")([x, y])
    x = layers.Conv1D(8, 3, strides=2, groups=2, activation="relu", name="conv3")(x)
    x = layers.GlobalAveragePooling1D(name="average")(x)
    return keras.Model(steps, layers.Dense(4, name="logits")(x))


def separable_sequences() -> keras.Model:
    """Depthwise, separable and transposed convolutions over sequences."""
    steps = keras.Input((25, 3), name="steps")
    x = layers.Conv1D(4, 3, activation="relu", name="conv")(steps)
    x = layers.DepthwiseConv1D(
        5, strides=2, padding="same", depth_multiplier=2, use_bias=False, name="depthwise"
    )(x)
    x = layers.Activation("leaky_relu", name="leaky")(layers.BatchNormalization(name="bn")(x))
    x = layers.SeparableConv1D(
        6, 3, padding="causal", dilation_rate=2, activation="relu", name="separable1"
    )(x)
    x = layers.Conv1DTranspose(4, 3, strides=2, padding="same", activation="relu", name="up1")(x)
    x = layers.SeparableConv1D(6, 4, strides=3, activation="relu", name="separable2")(x)
    x = layers.Conv1DTranspose(4, 2, strides=3, name="up2")(x)
    x = layers.GlobalMaxPooling1D(name="pool")(x)
    return keras.Model(steps, layers.Dense(4, name="logits")(x))


def dense() -> keras.Model:
    """Dense layers over images, over one pixel, and over sequences, one of them used twice."""
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Dense(6, use_bias=False, name="pixels")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    squeezed = layers.Reshape((1, 1, 6), name="one")(layers.GlobalAveragePooling2D(name="mean")(x))
    squeezed = layers.Dense(3, activation="relu", name="squeeze")(squeezed)
    x = x * layers.Dense(6, activation=layers.ReLU(1.0), name="excite")(squeezed)
    again = layers.Dense(6, activation="relu", name="again")
    x = again(again(layers.Reshape((36, 6), name="steps")(x)))
    x = layers.GlobalMaxPooling1D(name="pool")(x)
    return keras.Model(image, layers.Dense(4, name="logits")(x))


def shuffled(x, groups):
    """The channels of groups in turns."""
    _, height, width, channels = x.shape
    x = layers.Reshape((height, width, groups, channels // groups))(x)
    return layers.Reshape((height, width, channels))(layers.Permute((1, 2, 4, 3))(x))


def moved() -> keras.Model:
    """Values that move: between pixels and channels, groups in turns, axes, parts and flips."""
    image = keras.Input((8, 8, 3), name="image")
    x = tf.nn.space_to_depth(image[..., ::-1], 2)
    x = layers.Conv2D(8, 1, activation="relu", name="conv1")(x)
    x = layers.Conv2D(8, 1, groups=2, activation="relu", name="conv2")(shuffled(x, 2))
    x = tf.nn.depth_to_space(x, 2)
    x = layers.Conv2D(4, 3, activation="relu", name="conv3")(x[:, 1:, ::2])
    x = layers.Conv2D(4, 1, activation="relu", name="conv4")(tf.image.flip_left_right(x))
    x = layers.Flatten(name="flat")(layers.Permute((2, 1, 3), name="turned")(x))
    return keras.Model(image, layers.Dense(4, name="logits")(x))


def limited() -> keras.Model:
    """ReLUs of every form, as layers, operations and activations of other layers; limits."""
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(6, 3, activation=layers.ReLU(0.5), name="conv1")(image)
    x = layers.Conv2D(6, 1, activation=layers.LeakyReLU(0.25), name="conv2")(x)
    x = layers.ReLU(0.5, negative_slope=0.125, name="bounded")(layers.Conv2D(5, 3, name="conv3")(x))
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(6, 1, name="conv4")(x))
    x = tf.clip_by_value(x, -0.5, 0.75, name="clip")
    x = keras.backend.relu(layers.Conv2D(4, 1, name="conv5")(x), max_value=0.5)
    return keras.Model(image, layers.Dense(4, name="logits")(layers.Flatten(name="flat")(x)))


def merged() -> keras.Model:
    """Averages of tensors, before kernels and not; gates for each pixel, column and feature."""
    image = keras.Input((6, 6, 3), name="image")
    one = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv1")(image)
    two = layers.Conv2D(6, 3, padding="same", name="conv2")(one)
    x = layers.Average(name="mean")([one, two])
    x = layers.Conv2D(6, 1, activation="relu", name="conv3")(x)
    x = layers.ReLU(name="relu")(layers.Average(name="mean3")([x, one, two]))
    x = x * layers.Conv2D(1, 3, padding="same", activation="relu", name="gate")(x)
    x = x * layers.Conv2D(1, (6, 1), activation=layers.ReLU(1.0), name="column")(x)
    x = layers.GlobalMaxPooling2D(name="pool")(x)
    x = layers.Multiply(name="scaled")([x, layers.Dense(1, name="feature")(x)])
    return keras.Model(image, layers.Dense(4, name="logits")(x))


def resized() -> keras.Model:
    """Images of other sizes, by whole factors."""
    image = keras.Input((14, 14, 3), name="image")
    x = layers.CenterCrop(12, 12, name="center")(image)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv1")(x)
    x = layers.Resizing(3, 4, name="smaller")(x)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv2")(x)
    x = layers.Resizing(9, 8, "nearest", name="larger")(x)
    x = layers.Conv2D(4, 1, activation="relu", name="conv3")(x)
    x = tf.image.resize(tf.image.resize(x, (3, 2), "nearest"), (6, 8))
    x = tf.reduce_max(layers.Conv2D(4, 3, activation="relu", name="conv4")(x), [1, 2])
    return keras.Model(image, layers.Dense(4, name="logits")(x))


def shared() -> keras.Model:
    """A head over features of two sizes, a convolution of itself, towers with equal names."""
    image = keras.Input((8, 8, 3), name="image")

    def tower(name):
        inner = keras.Input((8, 8, 3))
        x = layers.Conv2D(4, 3, activation="relu", padding="same", name="conv")(inner)
        return keras.Model(inner, x, name=name)(image)

    x = layers.Add(name="sum")([tower("one"), tower("two")])
    again = layers.Conv2D(4, 3, padding="same", activation="relu", name="again")
    x = again(again(x))
    head = layers.Conv2D(4, 3, padding="same", name="head")
    heads = [layers.GlobalMaxPooling2D()(head(y)) for y in (x, layers.MaxPooling2D(name="half")(x))]
    return keras.Model(image, layers.Dense(4, name="logits")(layers.Concatenate()(heads)))


def learned() -> keras.Model:
    """Slopes that train, for each channel and for all, of images, sequences and features; means."""
    image = keras.Input((8, 8, 3), name="image")
    x = keras.applications.resnet50.preprocess_input(image)
    x = layers.Conv2D(4, 3, name="conv1")(x)
    x = layers.PReLU("uniform", shared_axes=[1, 2], name="prelu1")(x)
    x = layers.PReLU("zeros", shared_axes=[1, 2, 3], name="prelu2")(
        layers.BatchNormalization(name="bn")(layers.Conv2D(4, 3, use_bias=False, name="conv2")(x))
    )
    x = layers.Conv1D(4, 3, name="conv3")(layers.Reshape((16, 4), name="steps")(x))
    x = layers.GlobalMaxPooling1D(name="pool")(layers.PReLU(shared_axes=[1], name="prelu3")(x))
    x = layers.PReLU(keras.initializers.Constant(1.5), name="prelu4")(layers.Dense(5, name="d")(x))
    return keras.Model(image, layers.Dense(4, name="logits")(x))


NETWORKS = {
    "shared": shared,
    "learned": learned,
    "leaky": leaky,
    "sequences": sequences,
    "separable_sequences": separable_sequences,
    "dense": dense,
    "moved": moved,
    "limited": limited,
    "merged": merged,
    "resized": resized,
}


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request):
    """The float network, the settled quantized one, and image codes."""
    keras.utils.set_random_seed(0)
    model = NETWORKS[request.param]()
    shape = model.input_shape[1:]
    codes = np.random.default_rng(0).integers(-128, 128, (48, *shape)).astype(np.int8)
    images = (codes.astype(np.float32) + 128) / 255
    quantized = wrpn_tf.quantize_model(model, 2, 4, input_range=(0.0, 1.0))
    wrpn_tf.calibrate(quantized, [images])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    quantized.compile("adam", loss)
    quantized.fit(images, np.arange(48) % 4, batch_size=12, verbose=0)
    export.settle(quantized)
    return model, quantized, codes


def test_device_and_keras_give_the_same_integers(trained):
    _, quantized, codes = trained
    graph = export.lower(quantized)
    file = export.to_tflite(quantized)
    for kernel_set in KERNEL_SETS:
        expected = export.execute(graph, {graph.inputs[0]: codes}, kernel_set)
        found = runner.run(file, {graph.inputs[0]: codes}, kernel_set)
        for name, values in found.items():
            assert np.array_equal(values, expected[name]), (kernel_set, name)
    logits = graph.tensors[graph.outputs[0]].quantization
    reals = quantized.predict((codes.astype(np.float32) + 128) / 255, verbose=0)
    in_keras = np.rint(reals / np.float32(logits.scale)).astype(int) + logits.zero_point
    on_device = export.execute(graph, {graph.inputs[0]: codes})[graph.outputs[0]]
    assert np.array_equal(on_device, in_keras)


def test_it_is_proven(trained):
    proof = export.prove(trained[1])
    assert proof.failures(["xnnpack"]) == []
    assert all(row.covered for row in proof.operators)


def test_the_plan_costs_what_the_network_costs(trained):
    model, quantized, _ = trained
    planned = wrpn_tf.measure_cost(model, weight_bits=2, activation_bits=4)
    found = wrpn_tf.measure_cost(quantized)
    if "again" in [layer.name for layer in model.layers]:  # Towers run in either order.
        planned, found = (
            dataclasses.replace(cost, layers=tuple(sorted(cost.layers, key=lambda each: each.name)))
            for cost in (planned, found)
        )
    assert planned == found


def test_it_is_widened(trained):
    model, _, codes = trained
    images = codes.astype(np.float32) / 128
    wide = wrpn_tf.widen(model, 2)
    assert np.allclose(wide.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-4)
    wrpn_tf.quantize_model(wide, 2, 4)


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_it_is_saved(name, trained, tmp_path):
    _, quantized, codes = trained
    quantized.save(tmp_path / name)
    loaded = wrpn_tf.load_model(tmp_path / name)
    images = codes.astype(np.float32) / 128
    assert np.array_equal(loaded(images), quantized(images))
    assert export.to_tflite(loaded) == export.to_tflite(quantized)


def test_a_leaky_relu_has_a_c_form():
    source = generator.generate(export.realize(export.lower(_calibrated(leaky()))), "net")
    assert source.body.count("wrpn_maximum(") == 2 and source.body.count("wrpn_minimum(") == 1


def test_a_leaky_relu_is_the_larger_of_two_operands():
    graph = export.realize(export.lower(_calibrated(leaky())))
    kinds = [type(operator).__name__ for operator in graph.operators]
    assert kinds.count("Maximum") == 2 and kinds.count("Minimum") == 1
    assert writer.to_flatbuffer(graph)


def test_slopes_on_both_sides_of_one_are_refused_by_name():
    quantized = _calibrated(learned())
    slopes = next(view for view in wrpn_tf.view(quantized) if view.name.endswith("prelu1_slope"))
    slopes.layer.alpha.assign(np.reshape([0.5, 1.5, 1.0, -2.0], (1, 1, 4)))
    with pytest.raises(ValueError, match=r"PReLU 'prelu1' has slopes on both sides of 1.*\[1\]"):
        export.lower(quantized)
    for values, minima in (([1.5, 1.5, 1.0, 2.0], 2), ([0.5, 0.25, 1.0, -2.0], 1)):
        slopes.layer.alpha.assign(np.reshape(values, (1, 1, 4)))
        operators = export.lower(quantized).operators
        assert [type(operator).__name__ for operator in operators].count("Minimum") == minima


def test_tanh_is_a_line_of_a_sigmoid_on_the_grid_of_tanh():
    image = keras.Input((4, 4, 3), name="image")
    model = keras.Model(image, layers.Conv2D(4, 3, activation="tanh", name="conv")(image))
    quantized = _calibrated(model)
    export.settle(quantized)
    graph = export.lower(quantized)
    (output,) = graph.outputs
    assert graph.tensors[output].quantization == wrpn_tf.QuantizationParameters.int8(
        scale=1 / 128, zero_point=0
    )
    kinds = [type(operator).__name__ for operator in export.realize(graph).operators]
    assert kinds == ["Conv2D", "Logistic", "DepthwiseConv2D"]
    (row,) = [r for r in export.prove(quantized).operators if r.kind == "DepthwiseConv2D"]
    assert set(row.different.values()) == {0}


def test_moving_values_are_operators_of_four_axes_at_the_most():
    graph = export.realize(export.lower(_calibrated(moved())))
    kinds = [type(operator).__name__ for operator in graph.operators]
    assert kinds == [
        *("Slice", "SpaceToDepth", "Conv2D", "Reshape", "Transpose", "Reshape"),
        *("Slice", "Conv2D", "Slice", "Conv2D", "Concatenate", "DepthToSpace", "Slice", "Conv2D"),
        *("Slice", "Conv2D", "Transpose", "Reshape", "FullyConnected"),
    ]
    assert max(len(graph.tensors[operator.output].shape) for operator in graph.operators) == 4


def test_an_average_before_a_kernel_is_a_sum_only():
    graph = export.realize(export.lower(_calibrated(merged())))
    kinds = [type(operator).__name__ for operator in graph.operators]
    assert kinds[:4] == ["Conv2D", "Conv2D", "Add", "Conv2D"]


def test_a_product_of_few_codes_has_a_factor_on_a_finer_grid():
    """A step of a product of two ReLUs is more than one of the 8 bits that it becomes."""
    image = keras.Input((4, 4, 3), name="image")
    one, two = (
        layers.Conv2D(count, 1, activation="relu", name=f"conv{count}")(image) for count in (4, 1)
    )
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(layers.Multiply()([one, two]))))
    model.get_layer("conv1").kernel.assign(tf.ones((1, 1, 3, 1)))
    quantized = _calibrated(model)
    graph = export.realize(export.lower(quantized))
    kinds = [type(operator).__name__ for operator in graph.operators]
    assert kinds == [*("Conv2D", "Conv2D", "DepthwiseConv2D", "Multiply", "Reshape"), kinds[-1]]
    coarse, fine = (graph.tensors[graph.operators[index].output] for index in (1, 2))
    assert fine.shape == coarse.shape == (1, 4, 4, 1)
    assert fine.quantization.scale == coarse.quantization.scale / 16
    assert fine.quantization.high == 16 * 15
    rows = {row.name: row for row in export.prove(quantized).operators}
    assert set(rows[graph.operators[2].output].different.values()) == {0}
    assert rows[graph.operators[3].output].different["xnnpack"] == 0


def test_a_convolution_over_sequences_is_one_operator_with_what_follows():
    graph = export.realize(export.lower(_calibrated(sequences())))
    kinds = [type(operator).__name__ for operator in graph.operators]
    assert kinds[:4] == ["Reshape", "Pad", "Conv2D", "Pool2D"]
    assert kinds.count("Reshape") == 2  # One before, one behind the pooled average.
    assert "DepthwiseConv2D" not in kinds  # Batch normalization is folded.


def test_a_dense_layer_is_a_convolution_of_a_pixel_where_it_reads_several():
    quantized = _calibrated(dense())
    scales = {
        view.layer.name: np.size(view.kernel.scale)
        for view in wrpn_tf.view(quantized)
        if view.kernel
    }
    assert scales == {"pixels": 6, "squeeze": 3, "excite": 6, "again": 6, "logits": 1}
    kinds = [
        type(operator).__name__ for operator in export.realize(export.lower(quantized)).operators
    ]
    assert kinds.count("Conv2D") == 5 and kinds.count("FullyConnected") == 1
    assert kinds[0] == "Conv2D" and kinds[1] != "DepthwiseConv2D"  # bn is folded.


def _calibrated(model: keras.Model) -> keras.Model:
    quantized = wrpn_tf.quantize_model(model, 2, 4, input_range=(0.0, 1.0))
    images = np.random.default_rng(1).uniform(0, 1, (4, *model.input_shape[1:])).astype(np.float32)
    wrpn_tf.calibrate(quantized, [images])
    return quantized
