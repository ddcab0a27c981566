"""Rows that RESIZE_NEAREST_NEIGHBOR copies: as LiteRT does, in both of its forms."""

import numpy as np
import pytest

from export.executor import execution
from export.flatbuffer import opcodes, reader, writer
from export.ir import nearest, validation
from export.ir.graph import IntegerGraph
from export.ir.operators import ResizeNearest
from export.ir.tensors import Tensor
from export.kernel_sets import rules
from export.runtime import runner
from wrpn_tf import QuantizationParameters

GRID = QuantizationParameters.int8(scale=1.0, zero_point=0)


def resize(size, factor):
    shapes = {"input": (1, size, 1, 1), "output": (1, size * factor, 1, 1)}
    return IntegerGraph(
        tensors={name: Tensor(shape=shape, quantization=GRID) for name, shape in shapes.items()},
        operators=[ResizeNearest(inputs=("input",), output="output")],
        inputs=("input",),
        outputs=("output",),
    )


@pytest.mark.parametrize(
    ("size", "factor", "reference", "optimized"),  # First wrong rows.
    [
        (2, 41, 41, None),
        (2, 47, 47, None),
        (18, 62, None, None),
        (19, 62, None, 18 * 62 - 1),
        (65, 32, None, None),
        (66, 32, None, 65 * 32 - 1),
        (71, 41, 41, 70 * 41 - 1),
        (200, 1, None, None),
    ],
)
def test_rows_are_those_of_the_kernels(monkeypatch, size, factor, reference, optimized):
    graph = resize(size, factor)
    codes = np.random.default_rng(size).permutation(256)[:size].astype(np.int8)
    inputs = {"input": codes.reshape(1, size, 1, 1)}
    wanted = np.arange(size * factor) // factor
    centers = nearest.from_float(size, factor, half_pixel_centers=True)
    assert centers.tolist() == wanted.tolist()
    content = writer.to_flatbuffer(graph)
    version = 3 if (reference, optimized) != (None, None) else 2
    assert [each.version for each in reader.read(content).subgraphs[0].operators] == [version]
    for kernel_set in rules.KERNEL_SETS:
        found = runner.run(content, inputs, kernel_set)["output"]
        assert np.array_equal(found, execution.execute(graph, inputs, kernel_set)["output"])
        assert found.ravel().tolist() == codes[wanted].tolist()

    monkeypatch.setattr(opcodes, "_has_half_pixel_centers", lambda *_: False)
    content = writer.to_flatbuffer(graph)
    by_float = nearest.from_float(size, factor, half_pixel_centers=False)
    rows = {"reference": by_float, "optimized": nearest.from_fixed_point(size, factor)}
    rows["xnnpack"] = rows["optimized"]
    for kernel_set, first in (("reference", reference), ("optimized", optimized)):
        wrong = np.flatnonzero(rows[kernel_set] != wanted)
        assert wrong[:1].tolist() == ([] if first is None else [first])
    for kernel_set, copied in rows.items():
        found = runner.run(content, inputs, kernel_set)["output"]
        assert found.ravel().tolist() == codes[copied].tolist()


@pytest.mark.parametrize(("size", "factor"), [(2, 2**20), (2**15, 3), (3, 2**20)])
def test_products_beyond_int32_and_half_a_row(size, factor):
    """2^15 rows are more than int32 holds with 16 fractional bits."""
    assert nearest.needs_half_pixel_centers(size, factor)
    found = nearest.from_float(size, factor, half_pixel_centers=True)
    assert np.array_equal(found, np.arange(size * factor) // factor)


def test_too_many_rows_are_refused():
    assert not nearest.needs_half_pixel_centers(1, 2**14)
    with pytest.raises(ValueError, match=r"4 rows times 1048576: .* below 4194304 rows"):
        nearest.needs_half_pixel_centers(4, 2**20)
    with pytest.raises(ValueError, match="kernels are exact"):
        validation.validate(resize(2, 2**21))


@pytest.mark.parametrize("axis", [1, 2])
def test_either_axis_decides(axis):
    source, output = [1, 3, 3, 1], [1, 3, 3, 1]
    operator = ResizeNearest(inputs=("input",), output="output")
    assert not operator.half_pixel_centers(tuple(source), tuple(output))
    output[axis] *= 41
    assert operator.half_pixel_centers(tuple(source), tuple(output))


def test_runtime_version_is_that_of_the_form():
    assert opcodes.min_runtime_version(resize(2, 3)) == (1, 14, 0)
    assert opcodes.min_runtime_version(resize(2, 41)) == (2, 3, 0)
