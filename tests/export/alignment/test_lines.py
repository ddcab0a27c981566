"""Settling of lines: every kernel gives the codes of a Rescaling, wherever its scales lie."""

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

import export
import wrpn_tf
from export.alignment.lines import Line
from export.alignment.sums import MOST_CHANGE
from export.ir.operators import DepthwiseConv2D
from export.ir.provenance import TRAINED, Provenance
from export.ir.tensors import Tensor
from export.ir.trained import TrainedKernel
from export.kernel_sets import ideal

KINDS = {
    "limited": lambda x: tf.maximum(x, -0.2),
    "for each channel": layers.Rescaling([0.9, 1.1, 0.7, 1.3], [0.1, 0.0, -0.3, 0.21]),
}


def network(kind: str, seed: int) -> tuple[keras.Model, keras.Model]:
    """Between convolutions and pooling, so that no kernel takes the line."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((4, 4, 3), name="image")
    x = layers.MaxPooling2D(name="pool")(layers.Conv2D(4, 3, padding="same", name="conv")(image))
    x = KINDS[kind](x)
    model = keras.Model(image, layers.Conv2D(2, 2, name="last")(x))
    quantized = wrpn_tf.quantize_model(model, 4, 4, input_range=(0.0, 1.0))
    images = np.random.default_rng(seed).uniform(0, 1, (8, 4, 4, 3)).astype(np.float32)
    wrpn_tf.calibrate(quantized, images)
    return model, quantized


def inexact(quantized: keras.Model) -> int:
    """Channels of lines that XNNPACK does not compute as trained."""
    rows = [row for row in export.prove(quantized).operators if row.kind == "DepthwiseConv2D"]
    assert rows
    return sum(row.different["xnnpack"] for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_every_code_of_a_line_is_exact(kind: str) -> None:
    before = after = 0
    for seed in range(4):
        _, quantized = network(kind, seed)
        before += inexact(quantized)
        scales = {view.name: view.grid.scale for view in wrpn_tf.view(quantized) if view.grid}
        export.settle(quantized)
        after += inexact(quantized)
        for view in wrpn_tf.view(quantized):
            if view.grid is not None:
                change = abs(view.grid.scale / scales[view.name] - 1)
                assert change <= MOST_CHANGE * 1.001
    assert (before > 0, after) == (True, 0)


def joined(join: layers.Layer | Callable, **options: object) -> keras.Model:
    """A tensor that a convolution reads on its own grid, and a concatenation on another one."""
    keras.utils.set_random_seed(1)  # Of other scales Keras may round every code as kernels do.
    image = keras.Input((4, 4, 3), name="image")
    one, two = (
        layers.ReLU(name=f"{name}_relu")(layers.Conv2D(3, 1, name=name)(image)) for name in "ab"
    )
    outputs = [layers.Conv2D(2, 1, name="side")(one), join([one, two])]
    options = {"activation_bits": 4, "input_range": (0.0, 1.0)} | options
    quantized = wrpn_tf.quantize_model(keras.Model(image, outputs), 4, **options)
    images = np.random.default_rng(0).uniform(0, 1, (8, 4, 4, 3)).astype(np.float32)
    wrpn_tf.calibrate(quantized, images)
    return quantized


def grids(quantized: keras.Model) -> dict[str, wrpn_tf.QuantizationParameters]:
    return {view.name: view.grid for view in wrpn_tf.view(quantized) if view.grid is not None}


def set_ratio(quantized: keras.Model, ratio: float, name: str, other: str) -> None:
    """Makes the scale of one layer a multiple of another's."""
    outputs, scale = wrpn_tf.named_output_quantizers(quantized), grids(quantized)[other].scale
    quantizer, variables = outputs[name]
    (variable,) = variables.values()
    share = np.float32(ratio * scale / quantizer.grid(variables).scale)
    variable.assign(variable.numpy() * share)


def other_codes(quantized: keras.Model) -> list[int]:
    """Of each line, or tensor moved to another grid, codes that Keras rounds otherwise."""
    graph = export.lower(quantized)
    counts = []
    for kernel in graph.operators:
        if isinstance(kernel, TrainedKernel) and not kernel.has_weights:
            source, target = (
                graph.tensors[name].quantization for name in (kernel.inputs[0], kernel.output)
            )
            codes = np.arange(source.low, source.high + 1)
            reals = codes.astype(np.float32) * np.float32(source.scale)
            bounds = max(target.low, 0), target.high
            in_keras = wrpn_tf.quantizers.quantize_codes_np(reals, target.scale, *bounds)
            ratio = Fraction(source.scale) / Fraction(target.scale)
            exact = [math.floor(code * ratio + Fraction(1, 2)) for code in codes.tolist()]
            counts.append(int(np.count_nonzero(in_keras != np.clip(exact, *bounds))))
    return counts


@pytest.mark.parametrize(
    ("method", "join", "ratio"),
    [
        ("learned", layers.Concatenate(name="join"), 1.5),
        ("pact", layers.Concatenate(name="join"), 0.5),
        ("calibrated", layers.Maximum(name="join"), 0.9),
        (
            "learned",
            lambda x: layers.Concatenate(name="join")(list(map(layers.MaxPooling2D(), x))),
            0.1,
        ),
    ],
)
def test_tensors_are_moved_to_scales_at_which_keras_rounds_as_kernels_do(
    method: str, join: Callable, ratio: float
) -> None:
    """At some scales: in each float32 rounds otherwise."""
    quantized = joined(join, activation_method=method)
    outputs = wrpn_tf.named_output_quantizers(quantized)
    (variable,) = outputs["quant_join"][1].values()
    before = 0
    for seed in range(3):
        variable.assign(variable.numpy() * np.float32(1 + seed * 2.0**-12))
        set_ratio(quantized, ratio, "quant_a_relu", "quant_join")
        before += sum(other_codes(quantized))
        trained = grids(quantized)
        moves = {layer.name: layer for layer in export.settle(quantized).layers}
        share = grids(quantized)["quant_join"].scale / trained["quant_join"].scale - 1
        assert moves["a_relu_2"].largest_gain == pytest.approx(abs(share))
        assert 0 < abs(share) <= MOST_CHANGE * 1.001
        assert grids(quantized)["quant_a_relu"] == trained["quant_a_relu"]
        assert other_codes(quantized) == [0]
        assert inexact(quantized) == 0
        assert "a_relu_2" not in {layer.name for layer in export.settle(quantized).layers}
    assert before > 0


def test_grids_that_the_method_fixes_do_not_move() -> None:
    bits = {"a_relu": 2, "b_relu": 3}
    rules = [wrpn_tf.Rule(name=name, activation_bits=bits[name]) for name in bits]
    join = layers.Concatenate(name="join")
    quantized = joined(join, activation_method="paper", rules=rules)
    before = grids(quantized)
    assert (before["quant_a_relu"].scale, before["quant_join"].scale) == pytest.approx(
        (1 / 3, 1 / 7)
    )
    settled = export.settle(quantized)
    assert grids(quantized) == before
    assert "a_relu_2" not in {layer.name for layer in settled.layers}


def test_a_relu_that_no_kernel_takes_is_a_line() -> None:
    """Behind a sum that something else reads, too."""
    keras.utils.set_random_seed(1)  # As for `joined`.
    image = keras.Input((4, 4, 3), name="image")
    total = layers.Add(name="sum")([layers.Conv2D(3, 1, name=name)(image) for name in "ab"])
    outputs = [layers.ReLU(name="relu")(total), layers.Conv2D(2, 1, name="side")(total)]
    quantized = wrpn_tf.quantize_model(keras.Model(image, outputs), 4, 4, input_range=(0.0, 1.0))
    wrpn_tf.calibrate(quantized, np.random.default_rng(0).uniform(0, 1, (8, 4, 4, 3)))
    export.settle(quantized)
    sums = grids(quantized)["quant_sum"]
    set_ratio(quantized, 2.0, "quant_relu", "quant_sum")
    before, trained = other_codes(quantized), grids(quantized)["quant_relu"].scale
    moved = {layer.name: layer for layer in export.settle(quantized).layers}
    assert (before > [0], other_codes(quantized)) == (True, [0])
    share = grids(quantized)["quant_relu"].scale / trained - 1
    assert moved["relu"].largest_gain == pytest.approx(abs(share))
    assert 0 < abs(share) <= MOST_CHANGE * 1.001
    assert grids(quantized)["quant_sum"] == sums


SCALES = {"source": 0.9546095728874207, "line": 1.8598144054412842}
HALF = SCALES["line"] / SCALES["source"] / 2  # The gain that brings a step to half an output code.


def line_graph(
    channels: list[tuple[float, float]],
    low: int = -128,
    high: int = 127,
    target_low: int = -128,
    source_scale: float = SCALES["source"],
) -> tuple[export.TrainedGraph, TrainedKernel]:
    """A line of channels of these gains and offsets."""
    parameters = np.zeros(len(channels), TRAINED)
    parameters["scale"] = parameters["variance"] = 1
    parameters["gain"], parameters["offset"] = np.transpose(channels)
    codes = np.ones((len(channels), 1), np.int8)
    parameters["digest"] = [ideal.digest(row) for row in codes]
    grids = {
        "source": wrpn_tf.QuantizationParameters(scale=source_scale, low=low, high=high, bits=8),
        "line": wrpn_tf.QuantizationParameters(scale=SCALES["line"], low=-128, high=127, bits=8),
    }
    line = TrainedKernel(
        inputs=("source",),
        output="line",
        form=DepthwiseConv2D,
        codes=codes,
        bits=1,
        parameters=parameters,
        has_weights=False,
    )
    shape = (1, 2, 2, len(channels))
    quantization = grids | {"line": dataclasses.replace(grids["line"], low=target_low)}
    graph = export.TrainedGraph(
        tensors={name: Tensor(shape=shape, quantization=grids[name]) for name in grids},
        operators=[line],
        inputs=("source",),
        outputs=("line",),
        provenance=Provenance(quantization=quantization),
    )
    return graph, line


TOGETHER = 1.6054846048355103, -3.570518970489502
"""Gain and offset of a channel that is exact where it is rounded alone."""


def test_a_line_is_rounded_where_its_channels_are() -> None:
    """The optimized kernels round 8 channels together otherwise than one alone."""
    graph, line = line_graph([TOGETHER] * 8)
    (inexact,) = export.realize(graph).provenance.inexact_channels.values()
    assert (inexact["reference"], inexact["optimized"]) == (0, 8)
    target = graph.tensors["line"].quantization
    assert Line(graph, line, SCALES).different(target) == 8
    graph, line = line_graph([(0.7, 0.3)] * 8 + [TOGETHER])
    assert Line(graph, line, SCALES).different(target) == 0


def test_channels_of_a_line_count_for_either_reason() -> None:
    """For a kernel that rounds otherwise, and for a value in the middle between two codes."""
    graph, line = line_graph([TOGETHER, (HALF, 0.0)] * 4)
    target = graph.tensors["line"].quantization
    assert Line(graph, line, SCALES).different(target) == 8


def test_a_line_reads_the_present_scale_of_its_input() -> None:
    graph, line = line_graph([(HALF, 0.0)] * 8, low=0, high=1, source_scale=0.5)
    target = graph.tensors["line"].quantization
    assert Line(graph, line, SCALES | {"source": 0.5}).different(target) == 0
    assert Line(graph, line, SCALES).different(target) == 8


@pytest.mark.parametrize(
    ("sign", "low", "high", "target_low", "count"),
    [
        (-1, 0, 1, -1, 0),  # Half a code below the smallest code.
        (-1, -1, 0, -1, 8),  # Above it.
        (1, -1, 0, -1, 0),
        (1, 0, 1, -1, 8),
        (1, -1, 0, -2, 8),
    ],
)
def test_values_of_a_line_are_on_the_side_of_its_gain(
    sign: int, low: int, high: int, target_low: int, count: int
) -> None:
    graph, line = line_graph([(sign * HALF, -SCALES["line"])] * 8, low, high, target_low)
    target = graph.tensors["line"].quantization
    assert Line(graph, line, SCALES).different(target) == count


def test_a_bias_before_a_rescaling_moves() -> None:
    image = keras.Input((3,), name="image")
    x = layers.Rescaling(-2.0, 0.5, name="line")(layers.Dense(8, name="dense")(image))
    quantized = wrpn_tf.quantize_model(keras.Model(image, x), 8, 8, input_range=(0.0, 1.0))
    images = np.random.default_rng(0).uniform(0, 1, (64, 3)).astype(np.float32)
    wrpn_tf.calibrate(quantized, images)
    dense = next(view for view in wrpn_tf.view(quantized) if view.name == "quant_dense")
    trained = dense.layer.bias.numpy()
    (row,) = [r for r in export.prove(quantized).operators if r.kind == "FullyConnected"]
    assert row.different["xnnpack"] > 0
    export.settle(quantized)
    (row,) = [r for r in export.prove(quantized).operators if r.kind == "FullyConnected"]
    assert row.different["xnnpack"] == 0
    assert 0 < np.abs(dense.layer.bias.numpy() - trained).max() < 0.05
