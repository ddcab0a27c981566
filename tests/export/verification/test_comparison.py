"""Codes against codes, in numbers."""

import types

import numpy as np
import pytest

from export.verification import checks, comparison
from export.verification.comparison import Difference
from wrpn_tf import QuantizationParameters

GRID = QuantizationParameters.int8(scale=0.5, zero_point=-28)
TENSOR = types.SimpleNamespace(quantization=GRID)


def test_differences_are_counted_over_all_256_codes():
    one, other = np.int8([[-128, 0, 5], [127, 7, 7]]), np.int8([[127, 0, 4], [-128, 7, 9]])
    found = comparison.compare("a", one, other)
    assert found == Difference(name="a", different=4, total=6, largest=255)
    assert comparison.compare("a", one[:0], other[:0]).largest == 0
    with pytest.raises(ValueError, match=r"a: shapes \(2, 3\) and \(3, 2\) differ"):
        comparison.compare("a", one, other.T)


def test_batches_add_up():
    one = Difference(name="a", different=1, total=10, largest=3)
    other = Difference(name="a", different=4, total=20, largest=2)
    whole = Difference(name="a", different=5, total=30, largest=3)
    assert comparison.add(one, other) == comparison.add(other, one) == whole


def test_values_between_two_codes_are_the_upper_one():
    """And what is beyond the ends is one of them: steps from -100 to 155, of a half."""
    values = np.array([-0.25, 0.25, 0.24, -0.26, 99.0, -99.0])
    assert comparison.quantize(values, TENSOR).tolist() == [-28, -27, -28, -29, 127, -128]
    assert comparison.quantize(values, TENSOR).dtype == np.int8
    reals = comparison.dequantize(np.int8([-128, -28, 127]), TENSOR)
    assert reals.dtype == np.float32
    assert reals.tolist() == [-50, 0, 77.5]


CODES = np.array([[1, -2, 0], [3, 0, 3]])


@pytest.mark.parametrize(
    ("kernel", "same"),
    [
        ([[5, -10, 0], [15, 0, 15]], True),
        ([[5, -10, 0], [0, 0, 15]], False),  # The first has half of its codes.
        ([[-5, 10, 0], [-15, 0, 15]], True),
        ([[0, -10, 0], [0, 0, -15]], True),
        ([[-5, 0, 0], [15, 0, 15]], False),  # The first is half negated.
        ([[1, -2, 0], [3, 0, 3]], False),
        ([[5, -10], [15, 0]], False),
    ],
)
def test_channels_are_the_codes_or_negated_or_zeros(kernel, same):
    assert checks._same_codes(np.array(kernel, np.int8), CODES, 5) == same


def test_as_many_codes_as_bits_have_are_not_too_many():
    graph = types.SimpleNamespace(
        tensors={"a": types.SimpleNamespace(quantization=types.SimpleNamespace(bits=2))}
    )
    assert checks.too_many_codes(graph, {"a": {0, 1, 2, 3}}) == []
    assert checks.too_many_codes(graph, {"a": {0, 1, 2, 3, 9}}) == ["a (5 values, 2 bits)"]
