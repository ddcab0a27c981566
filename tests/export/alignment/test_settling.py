"""Settling: what moves in a model, how far at most, and what float32 has as its margin then."""

import collections
import types
import warnings

import numpy as np
import pytest
import small_networks
import tf_keras as keras
from equality import assert_same
from tf_keras import layers
from trained_layers import clearance, needed_clearance

import export
import wrpn_tf
from export.alignment import settling
from export.ir.operators import DepthwiseConv2D, FullyConnected
from export.ir.provenance import TRAINED
from export.kernel_sets import ideal, narrow_weights
from export.kernel_sets.narrow_weights import Storage
from export.realization import channels
from export.realization.accumulator_range import AccumulatorRange, accumulated_codes
from export.realization.context import RequantizationContext
from wrpn_tf import Group, Kind


def network(
    seed: int,
    kernel: keras.layers.Layer,
    *after: keras.layers.Layer,
    weight_bits: int,
    activation_bits: int = 8,
) -> keras.Model:
    """One kernel between image and output, with what is folded into it."""
    image = x = keras.Input((6, 6, 4), name="image")
    for layer in (kernel, *after):
        x = layer(x)
    model = keras.Model(image, x)
    small_networks.randomize(model, seed)
    random = np.random.default_rng(seed)
    for layer in after:
        if isinstance(layer, layers.BatchNormalization):
            count = kernel.filters
            gamma = random.uniform(0.5, 1.5, count) * random.choice([-1, 1], count)
            beta, mean = random.normal(0, 0.5, (2, count))
            layer.set_weights([gamma, beta, mean, random.uniform(0.2, 2, count)])
    rules = [wrpn_tf.Rule(layer_class=type(kernel), weight_bits=weight_bits)]
    return small_networks.quantize(model, seed, activation_bits=activation_bits, rules=rules)


def only_operator(model: keras.Model, **options: str):
    graph = export.realize(export.lower(model), **options)
    (operator,) = graph.operators
    return graph, operator


def kernel_codes(model: keras.Model) -> np.ndarray:
    (codes,) = (view.kernel.codes for view in wrpn_tf.view(model) if view.kernel)
    return codes


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("normalized", [True, False], ids=["normalization", "bias"])
def test_thresholds_have_room_for_float32(normalized: bool, seed: int) -> None:
    after = [layers.BatchNormalization()] if normalized else []
    model = network(seed, layers.Conv2D(32, 3, use_bias=not normalized), *after, weight_bits=2)
    codes = kernel_codes(model)
    graph, operator = only_operator(model)
    assert np.count_nonzero(clearance(graph, operator) < needed_clearance(graph, operator)) > 10
    export.settle(model)
    graph, operator = only_operator(model)
    assert clearance(graph, operator).min() >= needed_clearance(graph, operator)
    assert graph.provenance.inexact_channels[operator.output]["xnnpack"] == 0
    assert_same(kernel_codes(model), codes)


@pytest.mark.parametrize("seed", range(2))
def test_gains_move_by_at_most_a_256th(seed: int) -> None:
    """Among thousands of accumulators that lie close together few gains serve all kernels."""
    after = layers.BatchNormalization(name="bn"), layers.ReLU()
    kernel = layers.Conv2D(24, 3, use_bias=False)
    model = network(seed, kernel, *after, weight_bits=8, activation_bits=3)
    (view,) = (view for view in wrpn_tf.view(model) if view.name.endswith("bn"))
    before = view.layer.gamma.numpy()
    export.settle(model)
    moved = np.abs(view.layer.gamma.numpy() / before - 1)
    assert 2.0**-9 < moved.max() <= 2.0**-8 * (1 + 1e-4)
    graph, operator = only_operator(model)
    assert graph.provenance.inexact_channels[operator.output]["xnnpack"] == 0


def test_gains_of_a_dense_layer_with_many_scales_move() -> None:
    """A 1x1 convolution in INT4; with gains that stay, 23 of 24 channels suit XNNPACK only."""
    after = layers.BatchNormalization()
    model = network(0, layers.Conv2D(24, 1, use_bias=False), after, weight_bits=2)
    export.settle(model, weights="int4")
    graph, operator = only_operator(model, weights="int4")
    assert (type(operator), operator.dtype_bits) == (FullyConnected, 4)
    counts = graph.provenance.inexact_channels[operator.output]
    assert [counts[n] for n in ("xnnpack", "optimized", "optimized_arm", "reference")] == [0] * 4


def test_offsets_move_by_at_most_half_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that round halves away from 0 are exact where no output is below -1/2 code.

    Such is the optimized one of a depthwise layer with fewer than 8 channels, whose INT4 kernel
    XNNPACK would not take. The lowest outputs are at 0.7, 0.9, 1.2, 1.7, 2.7 and 0 codes below 0.
    """
    left = Storage(operator=DepthwiseConv2D, dtype_bits=4)
    monkeypatch.setattr(narrow_weights, "storage", lambda *_, **__: left)
    image = keras.Input((3, 3, 6), name="image")
    model = keras.Model(image, layers.DepthwiseConv2D(2, name="depthwise")(image))
    span = np.array([31.3, 28.7, 33.3, 31.7, 27.1, 250])
    codes = np.array([[7, 1], [1, 0]])[:, :, None, None]
    model.get_layer("depthwise").set_weights(
        [codes * span[:, None] / (9 * 255), np.full(6, -4 / 255)]
    )
    rules = [wrpn_tf.Rule(name="depthwise", weight_bits=4)]
    model = wrpn_tf.quantize_model(model, input_range=(0, 1), rules=rules)
    wrpn_tf.calibrate(model, [np.stack([np.zeros((3, 3, 6)), np.ones((3, 3, 6))])])
    (view,) = (view for view in wrpn_tf.view(model) if view.kernel)
    below = np.float32([0.7, 0.9, 1.2, 1.7, 2.7, 0])
    view.layer.bias.assign(-below * view.grid.scale)

    graph, operator = only_operator(model, weights="int4")
    assert (operator.dtype_bits, operator.code_multiplier) == (4, 1)
    assert graph.provenance.inexact_channels["depthwise"]["optimized"] == 5
    export.settle(model, weights="int4")
    graph, operator = only_operator(model, weights="int4")
    assert graph.provenance.inexact_channels["depthwise"]["optimized"] == 3
    moved = view.layer.bias.numpy() / view.grid.scale + below
    assert 0.2 < moved[0] < 0.25
    assert 0.4 < moved[1] < 0.45
    assert np.abs(moved[2:]).max() < 0.01


# The report.


def test_the_report_says_what_moved():
    after = layers.BatchNormalization(name="bn"), layers.ReLU(name="relu")
    model = network(0, layers.Conv2D(24, 3, use_bias=False), *after, weight_bits=8)
    (view,) = (view for view in wrpn_tf.view(model) if view.name.endswith("bn"))
    graph, operator = only_operator(model)
    scale = graph.tensors["relu"].quantization.scale
    gamma, beta = view.layer.gamma.numpy(), view.layer.beta.numpy()
    before = thresholds(graph, operator)
    report = export.settle(model)
    (row,) = report.layers
    assert (row.name, row.channels, report.channels) == ("relu", 24, 24)
    moved = np.abs(view.layer.beta.numpy() - beta.astype(np.float64)).max() / scale
    assert row.largest_offset == pytest.approx(moved) and 0 < moved <= 1
    gains = np.abs(view.layer.gamma.numpy() / gamma.astype(np.float64) - 1)
    assert row.largest_gain == pytest.approx(gains.max(), rel=1e-5) and gains.max() > 0
    graph, operator = only_operator(model)
    other = (thresholds(graph, operator) != before).any(axis=0)
    assert row.recoded == report.recoded == np.count_nonzero(other) > 0
    assert report.top1_changed is None
    text = str(report)
    assert "relu" in text and text.endswith(
        f"Another code for some input: {row.recoded} of 24 channels"
    )
    assert repr(report) == text
    again = export.settle(model)
    assert again.recoded == 0


def thresholds(graph, operator):
    """The reachable accumulators at which a channel's trained codes rise."""
    context, codes = RequantizationContext.of(graph, operator), accumulated_codes(operator)
    wanted = ideal.thresholds(
        operator.trained, context.source.scale, context.target.scale, context.levels
    )
    reach = AccumulatorRange(codes, context.source.low, context.source.high)
    return reach.at_or_above(wanted)


def test_the_report_names_sums_and_scales_of_kernels():
    image = keras.Input((4, 4, 48), name="image")
    x = layers.Conv2D(48, 1, use_bias=False, name="conv")(image)
    model = keras.Model(image, layers.Add(name="add")([x, image]))
    small_networks.randomize(model, 3)
    rules = [wrpn_tf.Rule(name="conv", weight_bits=1)]
    model = small_networks.quantize(model, 3, rules=rules)
    (kernel,) = (view.kernel for view in wrpn_tf.view(model) if view.kernel)
    before = {layer.name: layer.grid.scale for layer in wrpn_tf.view(model) if layer.grid}
    report = export.settle(model)
    rows = {row.name: row for row in report.layers}
    (moved,) = (view.kernel for view in wrpn_tf.view(model) if view.kernel)
    shares = np.abs(moved.scale / kernel.scale - 1).reshape(-1)
    assert rows["conv"].recoded == np.count_nonzero(shares) > 0
    assert rows["conv"].largest_gain == pytest.approx(shares.max())
    assert rows["conv"].largest_offset == 0
    after = {layer.name: layer.grid.scale for layer in wrpn_tf.view(model) if layer.grid}
    share = abs(after["quant_add"] / before["quant_add"] - 1)
    assert share > 0 and rows["add"].largest_gain == pytest.approx(share)
    assert (rows["add"].channels, rows["add"].recoded) == (1, 1)


def test_a_scale_that_shrinks_has_moved(monkeypatch):
    monkeypatch.setattr(settling, "settle_output_scales", lambda *_: {"sum": 0.75})
    model = network(0, layers.Conv2D(1, 1), weight_bits=2, activation_bits=2)
    row = export.settle(model).layers[0]
    assert (row.name, row.largest_gain) == ("sum", 0.25)


def view(kind, layer=None, name="layer"):
    return types.SimpleNamespace(kind=kind, layer=layer, name=name)


CONV, BARE = layers.Conv2D(2, 1), layers.Conv2D(2, 1, use_bias=False)
LINE, NORM = layers.Rescaling(0.5), layers.BatchNormalization()


@pytest.mark.parametrize(
    ("group", "owner"),
    [
        ([(Kind.KERNEL, CONV), (Kind.RELU, layers.ReLU())], 0),
        ([(Kind.KERNEL, BARE)], None),
        ([(Kind.KERNEL, CONV), (Kind.AFFINE, NORM)], 1),
        ([(Kind.KERNEL, BARE), (Kind.AFFINE, NORM)], 1),
        ([(Kind.KERNEL, CONV), (Kind.AFFINE, LINE)], 0),
        ([(Kind.KERNEL, BARE), (Kind.AFFINE, LINE)], None),
        ([(Kind.AFFINE, NORM), (Kind.RELU, layers.ReLU())], 0),
        ([(Kind.AFFINE, layers.BatchNormalization(center=False))], None),
        ([(Kind.KERNEL, CONV), (Kind.USE, None)], 1),
        ([(Kind.AFFINE, NORM), (Kind.USE, None), (Kind.RELU, layers.ReLU())], 1),
        ([(Kind.RELU, layers.ReLU())], None),
        ([(Kind.ADD, layers.Add())], None),
    ],
)
def test_the_offset_of_an_operator_is_of_one_of_its_layers(group, owner):
    views = tuple(view(*each) for each in group)
    found = settling._bias_owner(Group(views))
    assert found is (None if owner is None else views[owner])


def test_lines_have_neither_weights_nor_an_offset_that_trains():
    """The layer whose output is a line's is the last of its operator."""
    relu = Kind.RELU, layers.ReLU()
    groups = {
        "line": [(Kind.AFFINE, LINE)],
        "clipped line": [(Kind.AFFINE, LINE), relu],
        "uncentered": [(Kind.AFFINE, layers.BatchNormalization(center=False))],
        "normal": [(Kind.AFFINE, NORM), relu],
        "relu": [relu],
        "sum": [(Kind.ADD, layers.Add()), relu],
        "kernel": [(Kind.KERNEL, BARE), (Kind.AFFINE, LINE), relu],
    }
    fusion = types.SimpleNamespace(
        groups=[
            Group((*(view(*each) for each in before), view(*end, name)))
            for name, (*before, end) in groups.items()
        ]
    )
    assert settling._lines(fusion) == ["line", "clipped line", "uncentered", "relu"]


def test_a_bias_before_a_line_moves_by_its_share_of_what_the_output_does():
    trained = np.zeros(3, TRAINED)
    trained["shift"], trained["gain"] = [1, 2, 3], [0.5, -2, 0]
    trained["offset"] = [10, 20, 30]
    operator = types.SimpleNamespace(trained=trained)
    found = settling._bias(operator, np.array([11, 26, 35]))
    assert found.tolist() == [1 + 2, 2 - 3, 3]


def test_a_normalization_without_a_gain_settles_by_its_offset():
    after = layers.BatchNormalization(scale=False, name="bn"), layers.ReLU()
    image = x = keras.Input((2, 2, 3), name="image")
    for layer in (layers.Conv2D(4, 2, use_bias=False), *after):
        x = layer(x)
    model = small_networks.quantize(keras.Model(image, x), 0, weight_bits=8, activation_bits=4)
    report = export.settle(model)
    assert report.layers[0].largest_offset > 0 == report.layers[0].largest_gain
    _, operator = only_operator(model)
    assert (operator.trained["gain"] == 1).all()


def random_images(count):
    return np.random.default_rng(5).uniform(0, 1, (count, 6, 6, 4)).astype(np.float32)


def test_images_count_whose_top1_changes():
    model = network(1, layers.Conv2D(6, 6), layers.Flatten(), weight_bits=8)
    images = random_images(40)
    logits = model.predict(images, verbose=0)
    report = export.settle(model, images=images)
    changed = (logits.argmax(-1) != model.predict(images, verbose=0).argmax(-1)).mean()
    assert (report.images, report.top1_changed) == (40, changed)
    assert f"Top-1 changed on {changed:.2%} of 40 images" in str(report)


def test_one_channel_has_no_top1():
    model = network(1, layers.Conv2D(1, 6), layers.Flatten(), weight_bits=8)
    report = export.settle(model, images=random_images(3))
    assert (report.images, report.top1_changed) == (3, None)
    assert "Top-1" not in str(report)


def test_many_changes_are_said(monkeypatch):
    model = network(1, layers.Conv2D(6, 6), layers.Flatten(), weight_bits=8)
    images = random_images(200)
    tops = iter([np.zeros(200), np.arange(200) < 3])
    monkeypatch.setattr(settling, "_top1", lambda model, images: next(tops))
    with pytest.warns(UserWarning, match=r"top-1 changed on 1\.5% of 200 images"):
        assert export.settle(model, images=images).top1_changed == 0.015
    tops = iter([np.zeros(200), np.arange(200) < 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert export.settle(model, images=images).top1_changed == 0.01


def test_progress_is_shown_where_it_is_wanted(capfd):
    model = network(1, layers.Conv2D(6, 6), layers.Flatten(), weight_bits=8)
    export.settle(model)
    assert "settle" not in capfd.readouterr().err
    export.settle(model, progress=True)
    assert "settle" in capfd.readouterr().err


def test_images_that_do_not_fit_move_nothing():
    model = network(1, layers.Conv2D(6, 6), layers.Flatten(), weight_bits=8)
    before = model.get_weights()
    with pytest.raises(ValueError, match="'image' takes"):
        export.settle(model, images=np.zeros((2, 5, 5, 4)))
    with pytest.raises(ValueError, match="at least one batch"):
        export.settle(model, images=[])
    for old, new in zip(before, model.get_weights(), strict=True):
        assert_same(new, old)


def test_what_is_written_is_what_the_model_is_now(monkeypatch) -> None:
    """Nothing of an earlier file or of settling is left in it: a fresh process writes the same."""
    after = layers.BatchNormalization(name="bn"), layers.ReLU()
    model = network(3, layers.Conv2D(24, 3, use_bias=False), *after, weight_bits=4)
    export.settle(model)
    settled = export.to_tflite(model)
    (bn,) = (view.layer for view in wrpn_tf.view(model) if view.name.endswith("bn"))
    beta = bn.beta.numpy()
    beta[5] += 0.01
    bn.beta.assign(beta)
    changed, report = export.to_tflite(model), export.prove(export.lower(model))
    assert changed != settled
    monkeypatch.setattr(channels, "_KNOWN", collections.OrderedDict())
    assert export.to_tflite(model) == changed
    assert export.prove(export.lower(model)) == report


def test_factors_without_height_and_width_stay() -> None:
    """They are moved to finer grids between reshapes, where nothing trains."""
    image = keras.Input((6,), name="image")
    factors = [layers.Dense(4, activation="relu", name=name)(image) for name in "ab"]
    product = layers.Multiply(name="product")(factors)
    model = wrpn_tf.quantize_model(keras.Model(image, product), 4, 4, input_range=(0.0, 1.0))
    wrpn_tf.calibrate(model, np.random.default_rng(0).uniform(0, 1, (8, 6)).astype(np.float32))
    outputs = wrpn_tf.named_output_quantizers(model)
    for name in "ab":
        outputs[f"quant_{name}_relu"][1]["scale"].assign(3.0)
    graph = export.lower(model)
    assert "product_factor_moved" in graph.tensors
    assert {row.name for row in export.settle(model).layers} <= {"a_relu", "b_relu"}
    after = export.lower(model)
    scales = [after.tensors[name].quantization.scale for name in ("product_factor", "product")]
    assert scales == [
        graph.tensors[name].quantization.scale for name in ("product_factor", "product")
    ]
