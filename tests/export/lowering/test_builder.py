"""The tensors and operators of a graph as they are found, without a model."""

import dataclasses

from export.ir.operators import Maximum, Reshape
from export.lowering.builder import GraphBuilder
from wrpn_tf import Kind, LayerView, QuantizationParameters

GRID = QuantizationParameters(scale=0.5, low=-3, high=12, bits=4)
VIEW = LayerView(
    name="quant_layer",
    own_name="layer",
    kind=Kind.PASS,
    layer=None,
    inputs=(),
    output_shape=(None, 2, 3),
    kernel=None,
    grid=GRID,
    observes=True,
)


def test_names_are_made_unique():
    builder = GraphBuilder()
    names = [builder.tensor("layer", f"quant{n}", (None, 2, None), GRID) for n in range(3)]
    assert names == ["layer", "layer_2", "layer_3"]
    assert builder.layers == {"layer": "quant0", "layer_2": "quant1", "layer_3": "quant2"}
    assert [builder.tensors[name].shape for name in names] == [(1, 2, 1)] * 3


def test_a_relu_was_trained_without_codes_below_0():
    builder = GraphBuilder()
    positive = dataclasses.replace(GRID, low=2)
    relu = dataclasses.replace(VIEW, kind=Kind.RELU)
    for view, grid in ((VIEW, GRID), (relu, GRID), (relu, positive)):
        builder.emit(Maximum, ["a", "b"], view, grid)
    assert [each.quantization for each in builder.tensors.values()] == [GRID, GRID, positive]
    assert [each.low for each in builder.provenance().quantization.values()] == [-3, 0, 2]


def test_a_shape_of_a_shape_is_one_of_what_was_there_before():
    """And what nothing reads any more is dropped, but for what the graph returns."""
    builder = GraphBuilder()
    source = builder.tensor("image", "quant_image", (None, 6), GRID)
    one = builder.emit(Reshape, [source], VIEW, GRID, (None, 3, 2))
    two = builder.emit(Reshape, [one], VIEW, GRID)
    both = builder.emit(Maximum, [two, one], VIEW, GRID)
    last = builder.emit(Reshape, [both], VIEW, GRID, part="_last")
    idle = builder.emit(Reshape, [last], VIEW, GRID, part="_idle")
    assert [each.inputs for each in builder.operators] == [
        *((source,), (source,), (two, one), (both,), (both,))
    ]
    builder.prune([last])
    assert [each.output for each in builder.operators] == [one, two, both, last]
    for known in (builder.tensors, builder.layers, builder.provenance().quantization):
        assert list(known) == [source, one, two, both, last]
    assert (last, idle) == ("layer_last", "layer_idle")
