"""Trained kernels: their shapes, and what is wrong with them in a sentence."""

import dataclasses

import numpy as np
import pytest
import trained_layers

from export.ir.operators import Conv2D, DepthwiseConv2D, FullyConnected, TransposeConv2D
from export.ir.trained import TrainedGraph, TrainedKernel
from export.ir.validation import validate

PARAMETERS = trained_layers.layer(0).operators[0].trained


def kernel(form, channels, taps, **fields) -> TrainedKernel:
    return TrainedKernel(
        inputs=("input",),
        output="output",
        form=form,
        codes=np.ones((channels, taps), np.int8),
        parameters=PARAMETERS[:channels],
        **fields,
    )


@pytest.mark.parametrize("operator", trained_layers.OPERATORS)
def test_a_trained_layer_is_sound(operator):
    validate(trained_layers.trained_graph(trained_layers.layer(1, operator=operator)))


@pytest.mark.parametrize(
    ("wanted", "operator", "source"),
    [
        ((1, 2, 3, 4), kernel(Conv2D, 4, 12, window=(3, 2), strides=(2, 1)), (1, 6, 4, 2)),
        ((1, 6, 4, 4), kernel(Conv2D, 4, 12, window=(3, 2), padding="SAME"), (1, 6, 4, 2)),
        ((1, 2, 2, 4), kernel(Conv2D, 4, 12, window=(3, 2), dilation=(2, 2)), (1, 6, 4, 2)),
        ((1, 4, 3, 6), kernel(DepthwiseConv2D, 6, 6, window=(3, 2)), (1, 6, 4, 2)),
        ((1, 12, 8, 4), kernel(TransposeConv2D, 4, 8, window=(2, 2), strides=(2, 2)), (1, 6, 4, 2)),
        ((1, 4), kernel(FullyConnected, 4, 8), (1, 8)),
    ],
)
def test_shapes_are_those_of_the_form(wanted, operator, source):
    assert operator.output_shape([source], ()) == wanted


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit 3 channels"):
        kernel(Conv2D, 4, 12, window=(3, 2)).output_shape([(1, 6, 4, 3)], ())
    with pytest.raises(ValueError, match=r"'input' has shape \(1, 8\), not 4 dimensions"):
        kernel(Conv2D, 4, 8).output_shape([(1, 8)], ())


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"codes": np.ones((9, 3), np.int16)}, r"the codes are int16 \(9, 3\), not int8"),
        ({"codes": np.ones((9, 1, 3), np.int8)}, r"the codes are int8 \(9, 1, 3\), not int8 \["),
        ({"codes": np.full((9, 3), -128, np.int8)}, "the codes hold -128"),
        ({"parameters": PARAMETERS[:8]}, r"what was trained is .*\(8,\), not .*\(9,\)"),
        ({"parameters": np.ones(9)}, r"what was trained is float64 \(9,\), not "),
        ({"codes": np.ones((9, 2), np.int8)}, "does not fit 3 channels"),
    ],
)
def test_a_kernel_that_means_nothing_is_named(fields, sentence):
    graph = trained_layers.trained_graph(trained_layers.layer(0))
    wrong = [dataclasses.replace(graph.operators[0], **fields)]
    with pytest.raises(ValueError, match=f"operator of 'output': .*{sentence}"):
        validate(dataclasses.replace(graph, operators=wrong))


def test_kernels_are_the_operators_that_have_one():
    graph = trained_layers.trained_graph(trained_layers.layer(0))
    assert graph.kernels == graph.operators
    assert isinstance(graph, TrainedGraph)
    assert TrainedGraph(tensors={}, operators=[], inputs=(), outputs=()).kernels == []
