"""Realization: integers for kernel sets, from what was trained and nothing else."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest
import small_networks
import tf_keras as keras
import trained_layers
from equality import assert_same
from tf_keras import layers

import export
import wrpn_tf
from export.alignment.offsets import settled
from export.c99 import generator
from export.flatbuffer import writer
from export.ir.operators import Concatenate, DepthwiseConv2D, FullyConnected, GroupedConv2D
from export.ir.validation import validate
from export.ir.weight_dtypes import LARGEST
from export.kernel_sets.rules import TARGETS
from export.realization.network import integers, whole
from export.runtime import runner


@pytest.fixture(name="gated", scope="module")
def gated_fixture() -> tuple[keras.Model, export.TrainedGraph]:
    model = small_networks.quantize(small_networks.gated(1), 1, weight_bits=2, activation_bits=4)
    return model, export.lower(model)


def inexact(graph: export.IntegerGraph) -> dict[str, int]:
    """Channels that are not exact, by target."""
    counts = graph.provenance.inexact_channels.values()
    return {target: sum(each[target] for each in counts) for target in TARGETS}


def test_the_file_is_of_its_integers(gated):
    model, trained = gated
    graph = export.realize(trained)
    validate(graph)
    assert writer.to_flatbuffer(graph) == export.to_tflite(model)
    assert isinstance(graph, export.IntegerGraph)
    assert not isinstance(graph, export.TrainedGraph)


def test_it_keeps_what_was_trained(gated):
    _, trained = gated
    graph = export.realize(trained, split_groups=False)
    assert graph.tensors == trained.tensors
    assert graph.provenance.layers == trained.provenance.layers
    assert graph.provenance.quantization == trained.provenance.quantization
    assert set(graph.provenance.inexact_channels) == {each.output for each in trained.kernels}
    assert len(graph.weighted) == len(trained.kernels)
    for operator, kernel in zip(graph.weighted, trained.kernels, strict=True):
        assert type(operator) is kernel.form
        assert operator.bits == kernel.bits
        assert operator.trained is kernel.parameters
        for name in ("strides", "dilation", "padding"):
            assert getattr(operator, name, getattr(kernel, name)) == getattr(kernel, name)
        # Codes times the code multiplier, of either sign; 0 in channels that do not move.
        multiplied = kernel.codes * operator.code_multiplier
        signs = np.where(kernel.parameters["gain"] < 0, -1, 1)[:, None]
        same = (operator.rows == signs * multiplied).all(axis=1)
        assert (same | (operator.rows == 0).all(axis=1)).all()


def test_groups_are_split_last(gated):
    _, trained = gated
    kinds = [type(operator) for operator in export.realize(trained).operators]
    assert GroupedConv2D not in kinds and kinds.count(Concatenate) == 1
    kinds = [type(operator) for operator in export.realize(trained, split_groups=False).operators]
    assert kinds.count(GroupedConv2D) == 1 and Concatenate not in kinds
    assert [each.form for each in trained.kernels].count(GroupedConv2D) == 1
    assert not any("/group" in name for name in trained.tensors)


def grouped(seed: int, taps: int, **options) -> export.TrainedGraph:
    """A convolution with 3 groups of 3 channels, at a single position."""
    options = {"weight_bits": 4, "input_bits": 4, "output_bits": 6, "taps": taps} | options
    layer = trained_layers.layer(seed, **options)
    trained = trained_layers.trained_graph(layer)
    tensors = dict(trained.tensors)
    tensors["input"] = dataclasses.replace(tensors["input"], shape=(1, 1, 1, 3 * taps))
    kernel = dataclasses.replace(trained.operators[0], form=GroupedConv2D)
    return dataclasses.replace(trained, tensors=tensors, operators=[kernel])


# Of 8 taps all channels together, and not those of a group, are a vector product on ARM.
@pytest.mark.parametrize(("seed", "taps"), [(1, 2), (2, 2), (0, 8)])
def test_integers_of_groups_are_those_of_the_parts_they_are_split_into(seed, taps):
    trained = grouped(seed, taps)
    found = {}
    for split in (True, False):
        graph = export.realize(trained, split_groups=split)
        rows = export.prove(graph).operators
        proven = {name: sum(row.different.get(name, 0) for row in rows) for name in TARGETS}
        found[split] = inexact(graph)
        assert proven == found[split]
    assert found[True]["optimized_arm"] < found[False]["optimized_arm"]


@pytest.mark.parametrize("seed", [0, 1, 4, 5])
def test_groups_settle_where_their_parts_are_exact(seed):
    trained = grouped(seed, 2, linear=True)
    graph = whole(trained, weights="int8", split_groups=True, kernel_sets=TARGETS)
    moved = settled(graph, graph.operators[0], gains=True)
    kernel = dataclasses.replace(trained.operators[0], parameters=moved)
    split = export.realize(dataclasses.replace(trained, operators=[kernel]))
    for row in export.prove(split).weighted(range(1, 9)):
        fast = [row.different[name] for name in ("xnnpack", "optimized", "optimized_arm")]
        assert fast == [0, 0, 0]


# By the target that is put first: seeds and bits of a layer that is not exact for it by default.
FIRST = [
    ("optimized", 2, {"weight_bits": 4, "output_bits": 6}),
    ("optimized", 11, {"weight_bits": 2, "linear": True}),
    ("reference", 2, {"weight_bits": 4, "output_bits": 6}),
    ("reference", 33, {"weight_bits": 2, "linear": True}),
    ("reference_2_14", 20, {"weight_bits": 2, "linear": True}),
]


@pytest.mark.parametrize("others", [False, True], ids=["alone", "first"])
@pytest.mark.parametrize(("first", "seed", "options"), FIRST)
def test_the_first_kernel_set_is_exact(first, seed, options, others):
    layer = trained_layers.layer(seed, input_bits=4, taps=2, **options)
    trained = trained_layers.trained_graph(layer)
    wanted = trained_layers.trained_codes(layer)
    default = export.realize(trained)
    assert inexact(default)[first] > 0
    assert (trained_layers.device_codes(default, first) != wanted).any()
    rest = [target for target in TARGETS if target != first] if others else []
    graph = export.realize(trained, kernel_sets=(first, *rest))
    assert inexact(graph)[first] == 0
    assert_same(trained_layers.device_codes(graph, first), wanted)
    assert_same(graph.operators[0].rows, default.operators[0].rows)  # The codes are no choice.
    assert export.prove(graph).operators[-1].different == inexact(graph)


@pytest.mark.parametrize("target", TARGETS)
def test_no_other_order_is_exact_in_more_channels(target):
    model = small_networks.quantize(small_networks.network(1), 1, weight_bits=4, activation_bits=8)
    trained = export.lower(model)
    best = inexact(export.realize(trained, kernel_sets=(target,)))[target]
    for order in (TARGETS, TARGETS[::-1]):
        assert best <= inexact(export.realize(trained, kernel_sets=order))[target]


@pytest.fixture(name="pointwise", scope="module")
def pointwise_fixture() -> export.TrainedGraph:
    """1x1 kernels: whole, with strides, with rows that fill no bytes, per channel; and 3x1, dense.

    The batch normalization behind the sum is a depthwise convolution without weights.
    """
    image = keras.Input((6, 6, 4), name="image")
    first = layers.Conv2D(4, 1, name="whole", activation="relu")(image)
    x = layers.Conv2D(4, 1, name="also")(first)
    x = layers.BatchNormalization(name="normal")(layers.Add(name="sum")([x, first]))
    x = layers.ReLU(name="clipped")(x)
    x = layers.DepthwiseConv2D(1, name="channels", activation="relu")(x)
    x = layers.Conv2D(3, 1, 2, name="strides", activation="relu")(x)
    x = layers.Conv2D(4, 1, name="odd", activation="relu")(x)
    x = layers.Conv2D(4, (3, 1), name="window", activation="relu")(x)
    x = layers.Conv2D(128, (1, 2), name="wide", activation="relu")(x)
    x = layers.Conv2D(4, 1, name="narrow", activation="relu")(x)
    x = layers.Dense(4, name="dense", activation="relu")(layers.Flatten()(x))
    model = keras.Model(image, layers.Dense(2, name="logits")(x))
    small_networks.randomize(model, 0)
    rules = [wrpn_tf.Rule(layer_class=layers.Layer, weight_bits=2)]
    return export.lower(small_networks.quantize(model, 0, weight_bits=2, rules=rules))


STORAGE = {
    "int8": {},
    "int4": {
        "whole_relu": (FullyConnected, 4),
        "also": (FullyConnected, 4),
        "wide_relu": (FullyConnected, 4),
        "narrow_relu": (FullyConnected, 4),
        "dense_relu": (FullyConnected, 4),
        "logits": (FullyConnected, 4),
    },
    "int2": {
        "whole_relu": (FullyConnected, 4),
        "also": (FullyConnected, 4),
        "wide_relu": (FullyConnected, 4),
        "narrow_relu": (FullyConnected, 4),
        "dense_relu": (FullyConnected, 2),
        "logits": (FullyConnected, 2),
    },
}
"""By weights: the operator and the bits of each kernel that is not what was trained, in 8 bits."""


@pytest.mark.parametrize("weights", STORAGE)
def test_storage_and_forms(pointwise, weights):
    graph = export.realize(pointwise, weights=weights)
    validate(graph)
    wanted = {kernel.output: (kernel.form, 8) for kernel in pointwise.kernels} | STORAGE[weights]
    found = {each.output: (type(each), each.dtype_bits) for each in graph.weighted}
    assert found == wanted
    assert found["clipped"] == (DepthwiseConv2D, 8)  # It has no weights.
    for operator, kernel in zip(graph.weighted, pointwise.kernels, strict=True):
        largest = LARGEST[operator.dtype_bits] // np.abs(kernel.codes).max()
        assert operator.code_multiplier == largest


def test_a_trained_graph_runs_and_is_proven_as_realized_by_default(gated):
    model, trained = gated
    graph, inputs = export.realize(trained), small_networks.codes(model, 4, 2)
    for kernel_set in ("xnnpack", "reference"):
        codes = export.execute(trained, inputs, kernel_set)
        expected = export.execute(graph, inputs, kernel_set)
        assert codes.keys() == expected.keys() == graph.tensors.keys()
        for name, values in expected.items():
            assert_same(codes[name], values)
    assert export.prove(trained) == export.prove(graph) == export.prove(model)


@pytest.mark.parametrize(("strides", "padding"), [(3, "same"), (2, "same"), (3, "valid")])
def test_what_xnnpack_leaves_counts_as_the_optimized_kernels_compute_it(strides, padding):
    """A transposed convolution with SAME padding and strides beyond its window of 2."""
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 6), name="image")
    options = {"padding": padding, "name": "last", "bias_initializer": "random_normal"}
    x = layers.Conv2DTranspose(5, 2, strides, **options)(image)
    model = wrpn_tf.quantize_model(keras.Model(image, x), 8, 8, input_range=(0.0, 1.0))
    images = np.random.default_rng(0).uniform(0, 1, (32, 4, 4, 6)).astype(np.float32)
    wrpn_tf.calibrate(model, images)
    export.settle(model)
    graph = export.realize(export.lower(model))
    counted = graph.provenance.inexact_channels["last"]
    row = export.prove(graph).operators[-1]
    assert counted == row.different
    assert counted["xnnpack"] == (5 if (strides, padding) == (3, "same") else 0)
    assert counted["reference"] == 5
    # The default kernels give what is proven of them, on every image.
    inputs = {"image": small_networks.codes(model, 16, 0)}
    theirs = runner.run(writer.to_flatbuffer(graph), inputs)["last"]
    assert np.array_equal(theirs, export.execute(graph, inputs)["last"])


def test_a_trained_graph_is_realized_once(gated):
    trained = dataclasses.replace(gated[1])
    graph = integers(trained)
    assert integers(trained) is graph
    assert integers(graph) is graph
    assert integers(dataclasses.replace(trained)) is not graph
    known = weakref.ref(trained)
    del trained
    gc.collect()
    assert known() is None


def test_what_cannot_be_realized_is_refused_in_a_sentence(gated):
    _, trained = gated
    with pytest.raises(TypeError, match=r"a TrainedGraph, which export\.lower gives, not Int"):
        export.realize(export.realize(trained))
    with pytest.raises(ValueError, match="weights must be one of int8, int4, int2, not 'int3'"):
        export.realize(trained, weights="int3")
    with pytest.raises(ValueError, match=r"kernel_sets must be of xnnpack, .*; 'gpu' is not"):
        export.realize(trained, kernel_sets=("xnnpack", "gpu"))
    for wrong in ((), "xnnpack"):
        with pytest.raises(ValueError, match="kernel_sets must list one or more of xnnpack, "):
            export.realize(trained, kernel_sets=wrong)


@pytest.mark.parametrize(
    "use",
    [
        lambda graph, folder: export.save(graph, folder / "graph.npz"),
        lambda graph, folder: writer.to_flatbuffer(graph),
        lambda graph, folder: generator.generate(graph, "net"),
    ],
    ids=["save", "file", "C"],
)
def test_what_needs_integers_says_to_realize_first(use, gated, tmp_path):
    sentence = (
        r"a TrainedGraph has no integers yet: realize it first, with export\.realize\(trained\)"
    )
    with pytest.raises(TypeError, match=sentence):
        use(gated[1], tmp_path)
    assert not list(tmp_path.iterdir())
