"""Layers that move codes: what they do to whole numbers in Keras, as operators."""

import numpy as np
import pytest
from equality import assert_same
from tf_keras import layers

from export.executor.execution import execute
from export.ir.graph import IntegerGraph
from export.ir.operators import (
    DepthToSpace,
    Pad,
    Pool2D,
    Reshape,
    ResizeNearest,
    Slice,
    SpaceToDepth,
    Transpose,
)
from export.ir.validation import validate
from export.lowering import layout_operators
from export.lowering.builder import GraphBuilder
from wrpn_tf import Kind, LayerView, QuantizationParameters
from wrpn_tf.tfmot import own_layers

GRID = QuantizationParameters(scale=0.5, low=-100, high=120, bits=8)
IMAGE = (4, 6, 8)


def lowered(layer, shape=IMAGE, make=layout_operators.moved) -> IntegerGraph:
    builder = GraphBuilder()
    source = builder.tensor("image", "quantize_image", (None, *shape), GRID)
    view = LayerView(
        name="quant_layer",
        own_name="layer",
        kind=Kind.PASS,
        layer=layer,
        inputs=("quantize_image",),
        output_shape=(None, *layer(np.zeros((1, *shape), np.float32)).shape[1:]),
        kernel=None,
        grid=None,
        observes=False,
    )
    output = make(builder, view, source)
    graph = IntegerGraph(
        tensors=builder.tensors,
        operators=builder.operators,
        inputs=(source,),
        outputs=(output,),
        provenance=builder.provenance(),
    )
    validate(graph)
    return graph


WHOLE = (None, None, None)
MERGED = [Reshape, Transpose, Reshape]
MOVES = {
    "max": (layers.MaxPooling2D((2, 3), (1, 2), "same"), IMAGE, [Pool2D]),
    "max valid": (layers.MaxPooling2D((3, 2), (2, 1)), IMAGE, [Pool2D]),
    "largest": (layers.GlobalMaxPooling2D(), IMAGE, [Pool2D, Reshape]),
    "largest kept": (layers.GlobalMaxPooling2D(keepdims=True), IMAGE, [Pool2D]),
    "zeros": (layers.ZeroPadding2D(((1, 2), (3, 0))), IMAGE, [Pad]),
    "cropped": (layers.Cropping2D(((1, 2), (3, 1))), IMAGE, [Slice]),
    "larger": (layers.UpSampling2D((2, 3)), IMAGE, [ResizeNearest]),
    "turned": (layers.Permute((3, 1, 2)), IMAGE, [Transpose]),
    "turned around": (layers.Permute((4, 3, 2, 1)), (2, 3, 4, 5), [Transpose]),
    "first together": (layers.Permute((3, 1, 2, 4)), (2, 3, 4, 5), MERGED),
    "last together": (layers.Permute((3, 4, 1, 2)), (2, 3, 4, 5), MERGED),
    "behind the batch": (layers.Permute((1, 3, 4, 2)), (2, 3, 4, 5), MERGED),
    "around in fives": (layers.Permute((3, 5, 1, 2, 4)), (2, 3, 4, 5, 6), MERGED),
    "to channels": (own_layers.SpaceToDepth(2), IMAGE, [SpaceToDepth]),
    "from channels": (own_layers.DepthToSpace(2), IMAGE, [DepthToSpace]),
    "part": (own_layers.Slice([(1, None, 2), (None, 0, -2), (-3, -1, None)]), IMAGE, [Slice]),
    "last row": (own_layers.Slice([-1, WHOLE, WHOLE]), IMAGE, [Slice, Reshape]),
    "pixel": (own_layers.Slice([2, -2, WHOLE]), IMAGE, [Slice, Reshape]),
    "only row": (own_layers.Slice([0, WHOLE, (0, 9, 1)]), (1, 6, 8), [Reshape]),
    "all": (own_layers.Slice([WHOLE, (0, None, 1), (0, 8, None)]), IMAGE, []),
    "flat": (layers.Flatten(), IMAGE, [Reshape]),
    "shaped": (layers.Reshape((8, 6, 4)), IMAGE, [Reshape]),
    "as it was": (layers.Reshape(IMAGE), IMAGE, []),
    "dropout": (layers.Dropout(0.5), IMAGE, []),
}


@pytest.mark.parametrize(("layer", "shape", "operators"), MOVES.values(), ids=MOVES)
def test_codes_move_as_in_keras(layer, shape, operators):
    graph = lowered(layer, shape)
    assert [type(operator) for operator in graph.operators] == operators
    steps = np.random.default_rng(0).integers(-100, 121, (2, *shape))
    codes = (steps + GRID.zero_point).astype(np.int8)
    found = execute(graph, {"image": codes})[graph.outputs[0]]
    assert_same(found, layer(steps.astype(np.float32)).numpy() + GRID.zero_point)
    assert {tensor.quantization for tensor in graph.tensors.values()} == {GRID}


def test_padding_in_front_of_a_max_pooling_never_wins():
    """It has the lowest of the codes, -100: at a zero point of 7."""
    layer = layers.ZeroPadding2D(((1, 2), (3, 0)))
    lowest = type("LowestPadding2D", (layers.ZeroPadding2D,), {"__module__": "wrpn_tf"})
    graph = lowered(lowest(layer.padding))
    codes = np.full((1, *IMAGE), -92, np.int8)
    found = execute(graph, {"image": codes})[graph.outputs[0]]
    assert_same(found, np.pad(codes, ((0, 0), (1, 2), (3, 0), (0, 0)), constant_values=-93))


def test_averages_have_the_window_of_the_layer():
    layer = layers.AveragePooling2D((2, 3), (1, 2), "same")
    (operator,) = lowered(layer, make=layout_operators.averaged).operators
    found = operator.kind, operator.window, operator.strides, operator.padding
    assert found == ("average", (2, 3), (1, 2), "SAME")


def test_what_is_read_only_in_another_order_is_still_the_layer_before():
    """Provenance: a tensor in another shape, on the way, is what was read."""
    graph = lowered(layers.Permute((3, 4, 1, 2)), (2, 3, 4, 5))
    assert graph.provenance.layers == {
        "image": "quantize_image",
        "layer_merged": "quantize_image",
        "layer_transposed": "quant_layer",
        "layer": "quant_layer",
    }
