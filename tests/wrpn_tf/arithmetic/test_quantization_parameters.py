"""Scale, range and bits of a tensor, and where its int8 codes lie."""

import pytest

import wrpn_tf
from wrpn_tf import QuantizationParameters


@pytest.mark.parametrize(
    ("zero_point", "bits", "low", "high"),
    [
        (-128, 8, 0, 255),
        (127, 8, -255, 0),
        (3, 8, -131, 124),
        (126, 1, 0, 1),
        (112, 4, 0, 15),
        (0, 4, 112, 127),
        (0, 7, 0, 127),
        (0, 16, -128, 127),  # No more than there are.
    ],
)
def test_int8_tensors_have_the_uppermost_codes(zero_point, bits, low, high):
    found = QuantizationParameters.int8(scale=0.5, zero_point=zero_point, bits=bits)
    assert found == QuantizationParameters(scale=0.5, low=low, high=high, bits=bits)
    assert found.zero_point == zero_point


def test_int8_tensors_have_8_bits_unless_told_otherwise():
    assert QuantizationParameters.int8(scale=0.5, zero_point=0).bits == 8


def test_a_scale_is_shared_whatever_the_range():
    four = QuantizationParameters(scale=0.5, low=0, high=15, bits=4)
    assert four.same_scale(QuantizationParameters(scale=0.5, low=-3, high=15, bits=8))
    assert not four.same_scale(QuantizationParameters(scale=0.25, low=0, high=15, bits=4))
    assert not four.same_scale(QuantizationParameters(scale=0.5, low=0, high=14, bits=4))


def test_the_old_name_says_the_new_one():
    with pytest.raises(AttributeError, match=r"wrpn_tf\.QuantizationParameters"):
        wrpn_tf.OutputGrid  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute 'Grid'"):
        wrpn_tf.Grid  # noqa: B018
