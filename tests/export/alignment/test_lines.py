"""Settling of lines: every kernel gives the codes of a Rescaling, wherever its scales lie."""

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


def test_a_line_is_rounded_where_its_channels_are() -> None:
    """The optimized kernels round 8 channels together otherwise than one alone."""
    parameters = np.zeros(8, TRAINED)
    parameters["scale"] = parameters["variance"] = 1
    parameters["gain"], parameters["offset"] = 1.6054846048355103, -3.570518970489502
    codes = np.ones((8, 1), np.int8)
    parameters["digest"] = [ideal.digest(row) for row in codes]
    scales = {"source": 0.9546095728874207, "line": 1.8598144054412842}
    grids = {
        name: wrpn_tf.QuantizationParameters(scale=scale, low=-128, high=127, bits=8)
        for name, scale in scales.items()
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
    graph = export.TrainedGraph(
        tensors={name: Tensor(shape=(1, 2, 2, 8), quantization=grids[name]) for name in grids},
        operators=[line],
        inputs=("source",),
        outputs=("line",),
        provenance=Provenance(quantization=grids),
    )
    (inexact,) = export.realize(graph).provenance.inexact_channels.values()
    assert (inexact["reference"], inexact["optimized"]) == (0, 8)
    assert Line(graph, line, scales).different(grids["line"]) == 8


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
