"""The rounding rules against literal ports of the C++ in Python's unbounded integers."""

from __future__ import annotations

import fractions
import math

import numpy as np
import pytest
import random_graphs
from hypothesis import given
from hypothesis import strategies as st

from export.ir.operators import Add, FullyConnected, Multiply
from export.kernel_sets import addition, multiplication, requantization, rules, softmax
from wrpn_tf import QuantizationParameters

REAL = st.floats(1e-9, 200.0)
INT32 = st.integers(-(2**31), 2**31 - 1)


def high_mul(left: int, right: int) -> int:
    """gemmlowp SaturatingRoundingDoublingHighMul."""
    product = left * right
    nudge = 2**30 if product >= 0 else 1 - 2**30
    quotient = abs(product + nudge) // 2**31
    return quotient if product + nudge >= 0 else -quotient


def divide_away(value: int, exponent: int) -> int:
    """gemmlowp RoundingDivideByPOT."""
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (1 if value < 0 else 0)
    return (value >> exponent) + (1 if (value & mask) > threshold else 0)


def divide_up(value: int, exponent: int) -> int:
    return math.floor(fractions.Fraction(value, 2**exponent) + fractions.Fraction(1, 2))


@given(REAL)
def test_quantize_multiplier_is_the_nearest_31_bit_mantissa(real):
    mantissa, shift = (int(value) for value in requantization.quantize_multiplier(np.float64(real)))
    assert 2**30 <= mantissa < 2**31
    exact = fractions.Fraction(real)
    unit = fractions.Fraction(2) ** (shift - 31)
    assert abs(exact - mantissa * unit) <= unit / 2


def test_quantize_multiplier_of_nothing_is_zero():
    for real in (0.0, 2.0**-40):
        assert [int(value) for value in requantization.quantize_multiplier(np.float64(real))] == [
            0,
            0,
        ]


@pytest.mark.parametrize(
    ("real", "mantissa", "shift"),
    [
        (1.0, 2**30, 1),
        (0.75, 3 * 2**29, 0),
        (1 - 2.0**-32, 2**30, 1),  # Rounds up to 2 ** 31, which is carried.
        (1 - 2.0**-31, 2**31 - 1, 0),
        (1 - 2.0**-31 - 2.0**-33, 2**31 - 1, 0),
        (200.0, 25 * 2**26, 8),
        (2.0**-32, 2**30, -31),
        (2.0**-32 * (1 - 2.0**-31), 0, 0),
        (2.0**-33, 0, 0),
        (2.0**-32 * (1 - 2.0**-33), 2**30, -31),  # The carry saves it.
    ],
)
def test_quantize_multiplier_in_numbers(real, mantissa, shift):
    found = requantization.quantize_multiplier(real)
    assert [array.dtype for array in found] == [np.int64, np.int64]
    assert [int(array) for array in found] == [mantissa, shift]


@given(st.integers(-(2**20), 2**20), st.floats(1.0, 200.0), st.booleans())
def test_multipliers_above_one_shift_the_accumulator_first(value, real, half_up):
    mantissa, shift = requantization.quantize_multiplier(real)
    result = requantization.multiply_double_rounding(
        np.array([value], np.int32), mantissa, shift, half_up=half_up
    )
    assert result.dtype == np.int64
    assert int(result[0]) == high_mul(value << int(shift), int(mantissa))


def test_the_shift_to_the_left_wraps_as_int32_does():
    mantissa, shift = requantization.quantize_multiplier(2.0)
    values = np.array([2**29, 2**29 - 1, -(2**30)])
    result = requantization.multiply_double_rounding(values, mantissa, shift, half_up=True)
    assert result.tolist() == [-(2**30), 2**30 - 2, 0]


def test_channels_shift_and_round_each_in_their_own_way():
    mantissa, shift = requantization.quantize_multiplier(np.array([0.25, 0.25, 0.125, 4.0]))
    values = np.array([[-2, -2, -4, -2], [2, 2, 4, 2], [-3, -3, -5, 1]])
    result = requantization.multiply_double_rounding(
        values, mantissa, shift, half_up=np.array([True, False, False, True])
    )
    assert result.tolist() == [[0, -1, -1, -8], [1, 1, 1, 8], [0, -1, -1, 4]]


@given(st.integers(-(2**24), 2**24), st.floats(1e-9, 0.999))
def test_a_single_rounding_is_half_up(value, real):
    mantissa, shift = (int(part) for part in requantization.quantize_multiplier(real))
    found = requantization.requantize(np.array([value], np.int32), "single_up", np.array([real]))
    assert found.tolist() == [divide_up(value * mantissa, 31 - shift)]


@given(INT32, st.floats(2.0**-20, 200.0, width=32))
def test_floats_of_large_accumulators_are_rounded_first(value, real):
    found = requantization.requantize(
        np.array([value], np.int32), "float_even", np.array([real], np.float32)
    )
    assert found.dtype == np.float32
    assert int(found[0]) == round(float(np.float32(value) * np.float32(real)))


def test_real_halves_round_away_and_the_number_before_them_does_not():
    before = np.nextafter(0.5, 0)
    for multiplier, expected in ((0.5, [-1, 1]), (before, [0, 0]), (1.5, [-2, 2])):
        found = requantization.requantize(
            np.array([[-1], [1]], np.int32), "real_away", np.array([multiplier])
        )
        assert found.dtype == np.float64
        assert found.ravel().tolist() == expected


@given(INT32, st.floats(1e-9, 0.999))
def test_double_rules_round_in_their_groups_of_channels(value, real):
    mantissa, shift = (int(part) for part in requantization.quantize_multiplier(real))
    up, away = (divide(high_mul(value, mantissa), -shift) for divide in (divide_up, divide_away))
    accumulator, multiplier = np.full(19, value), np.full(19, real)
    for rule, expected in {
        "double_up": [up] * 19,
        "double_mixed": [up] * 16 + [away] * 3,
        "double_away": [away] * 19,
    }.items():
        assert requantization.requantize(accumulator, rule, multiplier).tolist() == expected


@given(INT32, st.floats(1e-9, 0.999), st.booleans())
def test_double_rounding_equals_the_fixed_point_functions(value, real, half_up):
    mantissa, shift = requantization.quantize_multiplier(np.float64(real))
    result = requantization.multiply_double_rounding(
        np.array([value]), mantissa, shift, half_up=half_up
    )
    divide = divide_up if half_up else divide_away
    assert int(result[0]) == divide(high_mul(value, int(mantissa)), -int(shift))


@given(st.integers(-(2**24), 2**24), REAL)
def test_float_rules_round_halves_as_named(value, real):
    accumulator = np.array([value])
    even = requantization.requantize(accumulator, "float_even", np.array([real], np.float32))
    assert int(even[0]) == round(float(np.float32(value) * np.float32(real)))
    away = requantization.requantize(accumulator, "real_away", np.array([real]))
    exact = fractions.Fraction(float(value) * real)
    expected = math.floor(abs(exact) + fractions.Fraction(1, 2)) * (1 if exact >= 0 else -1)
    assert int(away[0]) == expected


def test_rules_differ_on_halves():
    accumulator = np.array([[-3, -1, 1, 3]]).T
    half = np.array([0.5])
    rounded = {
        rule: requantization.requantize(accumulator, rule, half).ravel().astype(int).tolist()
        for rule in ("float_even", "double_away", "double_up", "double_mixed", "real_away")
    }
    # The multiplier 1/2 has a shift of 0: the doubling high multiplication alone rounds, half up.
    assert rounded == {
        "float_even": [-2, 0, 0, 2],
        "double_away": [-1, 0, 1, 2],
        "double_up": [-1, 0, 1, 2],
        "double_mixed": [-1, 0, 1, 2],
        "real_away": [-2, -1, 1, 2],
    }


def test_mixed_rule_changes_after_whole_groups_of_channels():
    accumulator = np.full((1, 11), -2)
    result = requantization.requantize(accumulator, "double_mixed", np.full(11, 0.25))
    assert result.tolist() == [[0] * 8 + [-1] * 3]


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="kernels must be one of"):
        rules.check_kernel_set("neon")
    with pytest.raises(ValueError, match="unknown rounding rule"):
        requantization.requantize(np.zeros((1, 1)), "up", np.ones(1))


@pytest.mark.parametrize(
    ("channels", "taps", "output_shape", "expected"),
    [
        (4, 8, (None, 4), True),
        (10, 32, (5, 1, 1, 10), True),
        (3, 8, (1, 3), False),
        (4, 7, (1, 4), False),
        (4, 8, (1, 1, 2, 4), False),
    ],
)
def test_vector_products_need_one_position_four_channels_and_eight_taps(
    channels, taps, output_shape, expected
):
    assert rules.is_vector_product(np.zeros((channels, taps)), output_shape) is expected
    rule = rules.rounding_rules(FullyConnected, expected)["optimized_arm"]
    assert rule == ("double_up" if expected else "single_up")


def test_xnnpack_multiplies_in_fixed_point_on_arm():
    parameters = tuple(
        QuantizationParameters.int8(scale=scale, zero_point=0) for scale in (0.5, 0.5, 1.0)
    )
    left, right = np.array([[1, 3, 5, -3, -5]], np.int8), np.full((1, 5), 2, np.int8)
    operator = Multiply(inputs=("a", "b"), output="product")
    codes = {
        name: multiplication.multiply_codes(operator, left, right, parameters, name).tolist()
        for name in ("xnnpack", "xnnpack_arm", "optimized_arm", "reference")
    }
    assert codes == {
        "xnnpack": [[0, 2, 2, -2, -2]],
        "xnnpack_arm": [[1, 2, 3, -1, -2]],
        "optimized_arm": [[1, 2, 3, -2, -3]],
        "reference": [[1, 2, 3, -2, -3]],
    }


@pytest.mark.parametrize(
    ("zero_points", "codes", "expected"),
    [
        ((-128, -128, 127), (127, 127), -128),  # 32,767 + 127 in 16 bits.
        ((-128, -128, 0), (127, 127), 127),
        ((-128, -128, -128), (127, 127), 127),
        ((-128, 127, -128), (127, -128), 127),  # -32,768 - 128.
        ((-128, 127, 0), (127, -128), -128),
    ],
)
def test_optimized_multiplication_adds_the_zero_point_in_16_bits(zero_points, codes, expected):
    """In whole groups of 16 elements of one tensor; 255 * 255 steps times .75."""
    parameters = tuple(
        QuantizationParameters.int8(scale=scale, zero_point=zero_point)
        for scale, zero_point in zip((0.75, 1.0, 1.0), zero_points, strict=True)
    )
    left, right = (np.full((1, 37), code, np.int8) for code in codes)
    operator = Multiply(inputs=("a", "b"), output="product")
    right_code = 127 if codes[1] == 127 else -128
    for kernel_set in ("optimized", "optimized_arm"):
        found = multiplication.multiply_codes(operator, left, right, parameters, kernel_set)
        assert found[0, :32].tolist() == [expected] * 32
        assert found[0, 32:].tolist() == [right_code] * 5
    for kernel_set in ("xnnpack", "xnnpack_arm", "reference", "reference_2_14"):
        found = multiplication.multiply_codes(operator, left, right, parameters, kernel_set)
        assert found[0].tolist() == [right_code] * 37


@pytest.mark.parametrize(
    ("left", "right", "length"),
    [
        ((2, 3, 4, 5), (2, 3, 4, 5), 120),
        ((2, 3, 4, 5), (2, 1, 1, 5), 5),
        ((2, 3, 4, 1), (2, 1, 1, 1), 12),
        ((2, 1, 1, 5), (2, 1, 1, 5), 10),
        ((2, 3, 4, 5), (2, 3, 4, 1), 5),
        ((2, 3, 4, 5), (2, 1, 1, 1), 60),
        ((2, 3, 4, 5), (2, 1, 4, 5), 20),
        ((2, 3, 4, 5), (2, 3, 1, 5), 5),
        ((2, 3, 4, 5), (2, 1, 4, 1), 1),
        ((1, 3, 4, 5), (1, 1, 4, 1), 1),
        ((2, 3, 4, 1), (2, 3, 1, 1), 4),
    ],
)
def test_runs_of_the_optimized_multiplication(left, right, length):
    assert multiplication.run_length(left, right) == length


@pytest.mark.parametrize(
    ("scale", "codes", "expected"),  # As ai-edge-litert 2.3 gave them under qemu-aarch64 10.0.
    [
        (0.39008599519729614, [-11, -5, -8, 0, -6, -4], [-126, -104, -120, 42, -112, -92]),
        (0.1027669906616211, [-30, 2, -14, 28, 14], [-127, -115, -125, 66, -82]),
        (0.1441962867975235, [-5, -16, -78], [84, -84, -128]),
    ],
)
def test_softmax_has_a_table_of_16_bits_on_arm(scale, codes, expected):
    codes = np.array(codes, np.int8)
    assert softmax.optimized_arm(codes, scale).tolist() == expected
    assert softmax.optimized(codes, scale).tolist() != expected


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("zero_point", random_graphs.ZERO_POINTS)
def test_codes_saturate_at_the_grid(zero_point, relu):
    codes = requantization.to_codes(np.array([-1000, 0, 1000]), zero_point, relu)
    assert codes.dtype == np.int8
    assert codes.tolist() == [max(-128, zero_point) if relu else -128, zero_point, 127]


def test_a_relu_below_all_codes_clips_nothing():
    """As the kernels have it; no int8 tensor has such a zero point."""
    codes = requantization.to_codes(np.array([-1000, 2, 258]), -130, relu=True)
    assert codes.tolist() == [-128, -128, 127]


def test_average_rounds_away_from_code_zero():
    totals = np.array([-3, -2, -1, 1, 2, 3])
    assert requantization.average_codes(totals, np.array(2)).tolist() == [-2, -1, -1, 1, 1, 2]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 49])
def test_means_of_codes_are_half_away_from_code_zero(count):
    totals = np.arange(-128 * count, 127 * count + 1)
    expected = [
        math.floor(fractions.Fraction(abs(total), count) + fractions.Fraction(1, 2))
        * (1 if total > 0 else -1)
        for total in totals.tolist()
    ]
    found = requantization.average_codes(totals, np.array(count))
    assert found.dtype == np.int8
    assert found.tolist() == expected


@pytest.mark.parametrize("divisor", [2, 4, 64])
def test_interpolated_codes_round_up_in_xnnpack_and_away_elsewhere(divisor):
    totals = np.arange(-128 * divisor, 127 * divisor + 1)
    half = fractions.Fraction(1, 2)
    parts = [fractions.Fraction(total, divisor) for total in totals.tolist()]
    away = [math.floor(abs(part) + half) * (1 if part > 0 else -1) for part in parts]
    for name, expected in {
        "xnnpack": [math.floor(part + half) for part in parts],
        "optimized": away,
        "reference": away,
    }.items():
        found = requantization.bilinear_codes(totals, divisor, name)
        assert found.dtype == np.int8
        assert found.tolist() == expected


@pytest.mark.parametrize("name", rules.KERNEL_SETS)
@given(st.integers(0, 2**32 - 1))
def test_add_is_within_one_step_of_the_real_sum(name, seed):
    draw = random_graphs.Draw(seed)
    parameters = (draw.quantization(), draw.quantization(), draw.quantization())
    left, right = draw.codes((40,)), draw.codes((40,))
    operator = Add(inputs=("left", "right"), output="sum")
    result = addition.add_codes(operator, left, right, parameters, name)
    real = _real(left, parameters[0]) + _real(right, parameters[1])
    codes = np.clip(real / parameters[2].scale + parameters[2].zero_point, -128, 127)
    assert np.abs(result - codes).max() <= 0.5 + 1e-3


def _real(codes: np.ndarray, quantization: QuantizationParameters) -> np.ndarray:
    return quantization.scale * (codes.astype(np.float64) - quantization.zero_point)
