"""Where channels compute: what an operator of a graph, or a trained kernel, gives."""

import dataclasses

import numpy as np
import pytest
import trained_layers

from export.ir.graph import IntegerGraph
from export.ir.operators import Conv2D, DepthwiseConv2D, FullyConnected, GroupedConv2D, Reshape
from export.ir.provenance import TRAINED, Provenance
from export.ir.tensors import Tensor
from export.ir.trained import TrainedGraph, TrainedKernel
from export.kernel_sets import ideal, narrow_weights
from export.kernel_sets.narrow_weights import Storage
from export.kernel_sets.rules import TARGETS
from export.realization import channels
from export.realization.context import RequantizationContext
from export.realization.network import integers, realize
from wrpn_tf import QuantizationParameters

SOURCE = QuantizationParameters(scale=0.5, low=0, high=3, bits=2)
TARGET = QuantizationParameters(scale=0.25, low=-2, high=3, bits=3)


def graph(operator, output, **fields):
    """An operator with 4 channels of 8 codes, between tensors on two grids."""
    shape = (4, 8) if operator is FullyConnected else (4, 1, 1, 8)
    node = operator(
        inputs=("input",),
        output="output",
        kernel=np.ones(shape, np.int8),
        kernel_scale=np.ones(4, np.float32),
        bias=np.zeros(4, np.int32),
        **fields,
    )
    tensors = {
        "input": Tensor(shape=(1, 2, 2, 8), quantization=SOURCE),
        "output": Tensor(shape=output, quantization=TARGET),
    }
    return IntegerGraph(tensors=tensors, operators=[node], inputs=("input",), outputs=("output",))


def test_an_operator_has_its_context():
    large = graph(Conv2D, (1, 2, 2, 4))
    assert RequantizationContext.of(large, large.operators[0]) == RequantizationContext(
        operator=Conv2D,
        vector_product=False,
        source=SOURCE,
        target=TARGET,
        dtype_bits=8,
        delegated=True,
        kernel_sets=TARGETS,
    )
    one = graph(FullyConnected, (1, 4), relu=True, dtype_bits=4)
    clipped = QuantizationParameters(scale=0.25, low=0, high=3, bits=3)
    assert RequantizationContext.of(one, one.operators[0]) == RequantizationContext(
        operator=FullyConnected,
        vector_product=True,
        source=SOURCE,
        target=clipped,
        dtype_bits=4,
    )
    left = graph(Conv2D, (1, 2, 2, 4), dtype_bits=4)
    assert not RequantizationContext.of(left, left.operators[0]).delegated


def test_what_xnnpack_leaves_is_for_the_optimized_kernels():
    grid = QuantizationParameters(scale=0.5, low=0, high=15, bits=4)
    context = RequantizationContext(
        operator=Conv2D, vector_product=False, source=grid, target=grid, dtype_bits=4
    )

    def targets(delegated, *kernel_sets):
        fields = {"delegated": delegated, "kernel_sets": kernel_sets}
        return dataclasses.replace(context, **fields).targets

    assert context.targets == TARGETS
    assert targets(False, *TARGETS) == (
        *("optimized", "optimized_arm", "reference", "reference_2_14", "tflm"),
        "xnnpack",
    )
    assert targets(True, "reference", "xnnpack") == ("reference", "xnnpack")
    assert targets(False, "reference", "xnnpack") == ("reference", "optimized", "xnnpack")
    assert targets(False, "xnnpack") == ("optimized", "xnnpack")
    assert targets(False, "reference") == ("reference",)


def test_every_code_above_the_lowest_is_a_level():
    large = graph(Conv2D, (1, 2, 2, 4))
    context = RequantizationContext.of(large, large.operators[0])
    assert context.levels.tolist() == [-1, 0, 1, 2, 3]


def test_multipliers_are_those_of_the_kernels():
    """Scales of the input over the output are 2; one scale is multiplied in float32 first."""
    third = np.full(2, 1 / 3, np.float32)
    context = RequantizationContext(
        operator=FullyConnected,
        vector_product=False,
        source=QuantizationParameters(scale=float(np.float32(0.1)), low=0, high=3, bits=2),
        target=QuantizationParameters(scale=float(np.float32(0.7)), low=0, high=3, bits=2),
    )
    real = np.float64(np.float32(0.1)) * np.float64(third[0]) / np.float64(np.float32(0.7))
    single = np.float64(np.float32(0.1) * third[0]) / np.float64(np.float32(0.7))
    assert real != single
    assert context.multipliers(third, "reference").tolist() == [real] * 2
    assert context.multipliers(third, "optimized").tolist() == [single] * 2
    assert context.multipliers(third, "xnnpack").dtype == np.float32
    two = np.float32([1 / 3, 0.5])
    assert context.multipliers(two, "optimized")[0] == real


def kernels(*, form=Conv2D, codes, window=(1, 1), shape=(1, 2, 2, 4), **fields):
    """A trained graph of one kernel, then a RESHAPE, which is no kernel."""
    codes = np.array(codes, np.int8)
    parameters = np.zeros(len(codes), TRAINED)
    parameters["gain"] = parameters["variance"] = 1
    parameters["scale"] = 0.125
    parameters["digest"] = [ideal.digest(row) for row in codes]
    kernel = TrainedKernel(
        inputs=("input",),
        output="kernel",
        form=form,
        codes=codes,
        window=window,
        parameters=parameters,
        **fields,
    )
    flat = (1, int(np.prod(shape)))
    wide = QuantizationParameters(scale=0.25, low=0, high=3, bits=3)
    tensors = {
        "input": Tensor(shape=(1, 2, 2, codes.shape[1]), quantization=SOURCE),
        "kernel": Tensor(shape=shape, quantization=TARGET),
        "output": Tensor(shape=flat, quantization=TARGET),
    }
    grids = {"input": SOURCE, "kernel": wide, "output": TARGET}
    return TrainedGraph(
        tensors=tensors,
        operators=[kernel, Reshape(inputs=("kernel",), output="output")],
        inputs=("input",),
        outputs=("output",),
        metadata={"name": "small"},
        provenance=Provenance(quantization=grids, layers={"kernel": "layer"}),
    )


CODES = [[1, -1, 1, 1], [1, 0, 0, -1], [0, 1, 1, 1], [1, 1, 1, -1]]


def test_what_was_trained_stays():
    trained = kernels(codes=CODES, bits=2, strides=(2, 1), padding="SAME")
    found = realize(trained)
    node, copied = found.operators
    assert type(found) is IntegerGraph
    assert copied is trained.operators[1]
    assert found.tensors == trained.tensors and found.tensors is not trained.tensors
    assert (found.inputs, found.outputs) == (("input",), ("output",))
    assert found.metadata == {"name": "small"} and found.metadata is not trained.metadata
    assert found.provenance.layers == {"kernel": "layer"}
    assert found.provenance.quantization == trained.provenance.quantization
    assert found.provenance.inexact_channels == {"kernel": dict.fromkeys(TARGETS, 0)}
    assert (type(node), node.inputs, node.output) == (Conv2D, ("input",), "kernel")
    assert (node.bits, node.strides, node.padding) == (2, (2, 1), "SAME")
    assert node.trained is trained.operators[0].parameters


def test_integers_are_those_of_the_channels():
    """ReLU and levels are those of the output as trained, from 0 to 3."""
    trained = kernels(codes=CODES)
    node = realize(trained).operators[0]
    context = RequantizationContext(
        operator=Conv2D,
        vector_product=False,
        source=SOURCE,
        target=QuantizationParameters(scale=0.25, low=0, high=3, bits=3),
    )
    fitted = channels.fit(np.array(CODES), trained.operators[0].parameters, context)
    assert node.rows.tolist() == (127 * np.array(CODES)).tolist()
    assert node.kernel_scale.tolist() == fitted.scale.tolist()
    assert node.bias.tolist() == fitted.bias.tolist()
    assert (node.relu, node.code_multiplier, node.dtype_bits) == (True, 127, 8)


@pytest.mark.parametrize(
    ("fields", "weights", "form", "bits"),
    [
        ({}, "int8", Conv2D, 8),
        ({}, "int4", FullyConnected, 4),  # Rows of 4 codes fill 2 bytes.
        ({}, "int2", FullyConnected, 4),  # INT2 takes longer at many positions,
        ({"shape": (1, 1, 1, 4)}, "int2", FullyConnected, 2),  # not at one.
        # Copies of windows are too much for 4 channels, not for 114.
        ({"strides": (1, 2), "shape": (1, 2, 1, 4)}, "int4", Conv2D, 8),
        ({"codes": np.ones((113, 4)), "strides": (1, 2)}, "int4", Conv2D, 8),
        ({"codes": np.ones((114, 4)), "strides": (1, 2)}, "int4", FullyConnected, 4),
        ({"codes": np.ones((114, 4)), "strides": (2, 1)}, "int2", FullyConnected, 4),
        ({"codes": np.ones((114, 4)), "strides": (1, 2)}, "int8", Conv2D, 8),
        ({"codes": np.ones((4, 3))}, "int4", Conv2D, 8),  # No whole bytes.
        ({"codes": 8 * np.ones((4, 4))}, "int4", Conv2D, 8),
        ({"form": DepthwiseConv2D}, "int4", DepthwiseConv2D, 8),
        ({"form": DepthwiseConv2D, "has_weights": False}, "int4", DepthwiseConv2D, 8),
    ],
)
def test_forms_and_storage(fields, weights, form, bits):
    fields = {"codes": CODES} | fields
    if fields.get("form") is DepthwiseConv2D:
        fields["window"] = (2, 2)
    fields.setdefault("shape", (1, 2, 1, len(fields["codes"])))
    (node,) = realize(kernels(**fields), weights=weights).weighted
    assert (type(node), node.dtype_bits) == (form, bits)
    largest = {8: 127, 4: 7, 2: 1}[bits] // int(np.abs(fields["codes"]).max())
    assert node.code_multiplier == largest


def seen_contexts(monkeypatch, trained, **options):
    seen, fit = [], channels.fit

    def spy(codes, parameters, context):
        seen.append(context)
        return fit(codes, parameters, context)

    monkeypatch.setattr(channels, "fit", spy)
    realize(trained, **options)
    return seen


def test_channels_know_where_they_compute(monkeypatch):
    window = {"codes": np.ones((4, 9)), "shape": (1, 1, 1, 4), "window": (3, 3)}
    options = {"weights": "int4", "kernel_sets": ["reference", "xnnpack"]}
    (context,) = seen_contexts(monkeypatch, kernels(**window), **options)
    assert context == RequantizationContext(
        operator=Conv2D,
        vector_product=True,
        source=SOURCE,
        target=QuantizationParameters(scale=0.25, low=0, high=3, bits=3),
        dtype_bits=8,
        delegated=True,
        kernel_sets=("reference", "xnnpack"),
    )
    (context,) = seen_contexts(monkeypatch, kernels(codes=np.ones((4, 10))), weights="int2")
    assert (context.operator, context.dtype_bits, context.delegated) == (FullyConnected, 4, True)
    one = kernels(codes=CODES, shape=(1, 1, 1, 4))
    (context,) = seen_contexts(monkeypatch, one, weights="int2")
    assert (context.operator, context.dtype_bits, context.delegated) == (FullyConnected, 2, True)
    assert (context.vector_product, context.kernel_sets) == (False, TARGETS)

    left = Storage(operator=Conv2D, dtype_bits=4)
    monkeypatch.setattr(narrow_weights, "storage", lambda *_, **__: left)
    (context,) = seen_contexts(monkeypatch, kernels(**window), weights="int4")
    assert (context.operator, context.dtype_bits, context.delegated) == (Conv2D, 4, False)


def test_groups_are_split_unless_they_are_to_stay():
    trained = kernels(form=GroupedConv2D, codes=np.ones((4, 2)))
    trained.tensors["input"] = Tensor(shape=(1, 2, 2, 4), quantization=SOURCE)
    assert GroupedConv2D not in map(type, realize(trained).operators)
    assert type(realize(trained, split_groups=False).operators[0]) is GroupedConv2D


def test_channels_that_are_not_exact_are_counted():
    layer = trained_layers.layer(2, input_bits=4, taps=2, weight_bits=4, output_bits=6)
    trained = trained_layers.trained_graph(layer)
    graph = realize(trained)
    wanted = trained_layers.trained_codes(layer)
    assert graph.provenance.inexact_channels == {
        "output": {
            target: int((trained_layers.device_codes(graph, target) != wanted).any(axis=0).sum())
            for target in TARGETS
        }
    }
    assert any(graph.provenance.inexact_channels["output"].values())


def test_integers_are_made_once():
    trained = kernels(codes=CODES)
    graph = integers(trained)
    assert integers(trained) is graph and integers(graph) is graph
    assert type(graph) is IntegerGraph
    assert integers(kernels(codes=CODES)) is not graph


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weights": "int3"}, "weights must be one of int8, int4, int2, not 'int3'"),
        ({"kernel_sets": ("xnnpack", "gpu")}, "kernel_sets must be of {}; 'gpu' is not among them"),
        ({"kernel_sets": ()}, "kernel_sets must list one or more of {}"),
        ({"kernel_sets": "xnnpack"}, "kernel_sets must list one or more of {}"),
    ],
)
def test_options_that_do_not_exist_are_refused(options, sentence):
    with pytest.raises(ValueError) as caught:
        realize(kernels(codes=CODES), **options)
    assert str(caught.value) == sentence.format(", ".join(TARGETS))


def test_a_graph_of_integers_is_no_trained_graph():
    with pytest.raises(TypeError) as caught:
        realize(realize(kernels(codes=CODES)))
    assert str(caught.value) == (
        "export.realize takes a TrainedGraph, which export.lower gives, not IntegerGraph"
    )
