"""Windows that are written down: the ones that a convolution reads."""

import numpy as np
import pytest
from equality import assert_same

import export
from export.flatbuffer import editing, writer
from export.ir import geometry
from export.ir.graph import IntegerGraph
from export.ir.operators import Concatenate, Conv2D, Pad, Reshape, Slice
from export.ir.provenance import TRAINED
from export.ir.tensors import Tensor
from export.ir.trained import TrainedKernel
from export.ir.validation import validate
from export.realization import im2col
from export.runtime import runner
from wrpn_tf import QuantizationParameters

DEPTH = 3
GRID = QuantizationParameters(scale=0.5, low=-5, high=10, bits=4)


def written(size, window, strides=(1, 1), dilation=(1, 1), padding="SAME"):
    """A graph of the windows of a convolution over an image of a size, without its kernel."""
    kernel = TrainedKernel(
        inputs=("image",),
        output="conv",
        form=Conv2D,
        codes=np.ones((1, window[0] * window[1] * DEPTH), np.int8),
        window=window,
        parameters=np.zeros(1, TRAINED),
        strides=strides,
        dilation=dilation,
        padding=padding,
    )
    image = Tensor(shape=(1, *size, DEPTH), quantization=GRID)
    shape = kernel.output_shape([image.shape], ())
    output = Tensor(shape=shape, quantization=GRID)
    operators, tensors = im2col.windows(kernel, image, output)
    graph = IntegerGraph(
        tensors={"image": image} | tensors,
        operators=operators,
        inputs=("image",),
        outputs=(operators[-1].output,),
    )
    validate(graph)
    assert list(tensors) == [operator.output for operator in operators]
    assert all(name.startswith("conv/") for name in tensors)
    assert tensors[operators[-1].output].shape == (*shape[:3], kernel.codes.shape[1])
    return graph


def random_cases():
    random = np.random.default_rng(16)
    while True:
        window, strides, dilation = (tuple(random.integers(1, 5, 2).tolist()) for _ in range(3))
        size = tuple(random.integers(1, 10, 2).tolist())
        spans = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
        padding = ("SAME", "VALID")[random.integers(2)]
        if padding == "SAME" or all(n >= s for n, s in zip(size, spans, strict=True)):
            yield size, window, strides, dilation, padding


@pytest.mark.parametrize("case", [case for _, case in zip(range(60), random_cases(), strict=False)])
def test_windows_are_those_of_the_convolution(case):
    size, window, strides, dilation, padding = case
    graph = written(*case)
    codes = np.random.default_rng(0).integers(-5, 11, (2, *size, DEPTH)) + GRID.zero_point
    codes = codes.astype(np.int8)
    found = export.execute(graph, {"image": codes})[graph.outputs[0]]
    expected = geometry.windows(codes, window, strides, dilation, padding, GRID.zero_point)
    assert_same(found, expected.transpose(0, 1, 2, 4, 5, 3).reshape(found.shape))
    file = editing.expose_tensors(writer.to_flatbuffer(graph))
    assert_same(runner.run(file, {"image": codes})[graph.outputs[0]], found)


@pytest.mark.parametrize(
    ("case", "operators"),
    [
        (((6, 6), (3, 3)), [Pad, *[Slice] * 9, Concatenate]),
        # Two of three taps of a row lie in one block of 2 pixels.
        (((6, 6), (3, 3), (2, 2)), [Pad, Reshape, *[Slice] * 6, Concatenate]),
        (((6, 6), (2, 2), (2, 2)), [Reshape, *[Slice] * 2, Concatenate]),
        (((6, 6), (1, 1), (2, 2)), [Reshape, Slice]),
        (((5, 6), (1, 1), (2, 1)), [Pad, Reshape, Slice]),
        (((6, 6), (1, 2), (1, 1), (1, 2), "VALID"), [*[Slice] * 2, Concatenate]),
        (((4, 5), (4, 5), (1, 1), (1, 1), "VALID"), [Reshape]),
        (((1, 1), (3, 3)), [Pad, Reshape]),
    ],
)
def test_no_operator_is_idle(case, operators):
    assert [type(operator) for operator in written(*case).operators] == operators
