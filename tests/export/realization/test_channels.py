"""Channels as integers: thresholds against every accumulator, and what is chosen, in numbers."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
import trained_layers

from export.ir.operators import Conv2D, DepthwiseConv2D, FullyConnected, accumulator_limit
from export.ir.provenance import TRAINED
from export.kernel_sets import ideal, requantization, rules, thresholds
from export.kernel_sets.ideal import BEYOND
from export.kernel_sets.rules import TARGETS
from export.realization import channels
from export.realization.accumulator_range import AccumulatorRange
from export.realization.channels import Rounding
from export.realization.context import RequantizationContext
from wrpn_tf import QuantizationParameters

CONTEXT = RequantizationContext(
    operator=Conv2D,
    vector_product=False,
    source=QuantizationParameters(scale=0.5, low=0, high=3, bits=2),
    target=QuantizationParameters(scale=0.25, low=-2, high=3, bits=3),
)
CODES = np.array([[1, -1, 0], [2, 2, -2], [3, 0, -5], [1, 1, 1], [-4, -4, 4]])
# One output code for 1.3 to 40 accumulators, code multiplier included.
KERNEL_SCALE = np.float32([0.123, 0.0125, 0.051, 0.377, 0.019])


def rounding(code_multiplier, context=CONTEXT):
    accumulators = AccumulatorRange(CODES, context.source.low, context.source.high)
    return Rounding(context, KERNEL_SCALE, code_multiplier, accumulators)


def reached(context=CONTEXT):
    """Every accumulator of each channel, sorted."""
    steps = np.array(list(itertools.product(range(context.source.high + 1), repeat=3)))
    return [np.unique(steps @ row) for row in CODES]


def steps(context, target, accumulators, channel):
    """Output codes of a kernel, not clipped, for accumulators of one channel."""
    rule = rules.rounding_rules(context.operator, context.vector_product)[target]
    every = np.repeat(np.reshape(accumulators, (-1, 1)), len(CODES), axis=1)
    multiplier = context.multipliers(KERNEL_SCALE, target)
    return requantization.requantize(every, rule, multiplier)[:, channel]


def brute_force(context, target, bias, code_multiplier):
    """The first accumulator that reaches each level: ``[levels, channels]``."""
    found = np.full((context.levels.size, len(CODES)), BEYOND)
    for channel, sums in enumerate(reached(context)):
        codes = steps(context, target, sums * code_multiplier + bias[channel], channel)
        for level, code in enumerate(context.levels):
            if (codes >= code).any():
                found[level, channel] = sums[codes >= code][0]
    return found


CONTEXTS = [
    CONTEXT,
    dataclasses.replace(CONTEXT, operator=DepthwiseConv2D),
    dataclasses.replace(CONTEXT, operator=FullyConnected, vector_product=True),
]


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.operator.__name__)
@pytest.mark.parametrize("target", TARGETS)
def test_positions_are_those_of_every_accumulator(target, context):
    for code_multiplier in (1, 3, 21):
        plain = rounding(code_multiplier, context)
        for shift in (-7, 0, 5, 19):
            bias = shift + np.arange(len(CODES))
            wanted = brute_force(context, target, bias, code_multiplier)
            found = plain.positions(target, bias)
            assert found.dtype == np.int64
            assert found.tolist() == wanted.tolist()
            levels = np.array([[4, 0, 1, 2, 3], [0, 0, 4, 1, 2]])
            some = plain.positions(target, bias, levels)
            assert some.tolist() == np.take_along_axis(wanted, levels, axis=0).tolist()


def test_some_channels_are_those_of_all():
    plain = rounding(3)
    bias = np.array([4, -3, 0, 9, 2])
    chosen = plain.select(np.array([3, 0, 3, 4]))
    again = chosen.select(np.array([3, 1]))  # Channels 4 and 0.
    levels = np.array([[2, 1]])
    for target in TARGETS:
        whole = plain.positions(target, bias)
        assert (
            chosen.positions(target, bias[[3, 0, 3, 4]]).tolist() == whole[:, [3, 0, 3, 4]].tolist()
        )
        assert again.positions(target, bias[[4, 0]]).tolist() == whole[:, [4, 0]].tolist()
        some = again.positions(target, bias[[4, 0]], levels)
        assert some.tolist() == [[whole[2, 4], whole[1, 0]]]
        fits = plain.fits(target, np.array([2**31, 0, 0, 2**31, 0]))
        assert fits.tolist() == [False, True, True, False, True]
        large = np.array([2**31, 2**31, 2**31, 0])
        assert chosen.fits(target, large).tolist() == [False, False, False, True]
    assert plain.positions("xnnpack", bias).shape == (5, 5)  # As it was.


def test_thresholds_are_looked_for_once(monkeypatch):
    asked = []
    smallest = thresholds.smallest_accumulators

    def count(rule, multiplier, levels):
        asked.append(rule)
        return smallest(rule, multiplier, levels)

    monkeypatch.setattr(thresholds, "smallest_accumulators", count)
    plain = rounding(3)
    for bias in range(4):
        plain.positions("xnnpack", np.full(5, bias))
        plain.select(np.array([1])).positions("reference", np.full(1, bias))
    assert asked == ["float_even", "double_away"]


def test_zeros_reach_a_level_everywhere_or_nowhere():
    plain = rounding(3)
    for target in TARGETS:
        for shift in (-40, 0, 41):
            bias = shift + np.arange(len(CODES))
            constants = plain.constants(target, bias)
            for channel in range(len(CODES)):
                code = steps(CONTEXT, target, [bias[channel]], channel)
                wanted = np.where(CONTEXT.levels <= code, -BEYOND, BEYOND)
                assert constants[:, channel].tolist() == wanted.tolist()


def test_a_threshold_at_the_bias_is_reached():
    """Channel 3 under XNNPACK: 0.377 * 0.5 / 0.25 = 0.754 codes; 0.5 / 0.754 = 0.66: from 1 on."""
    plain = rounding(3)
    first = [plain.constants("xnnpack", np.full(5, bias))[2, 3] for bias in (0, 1)]
    assert first == [BEYOND, -BEYOND]


def test_accumulators_fit_up_to_the_last_one():
    """Their reach is -3 to 3, -6 to 12, -15 to 9, 0 to 9 and -24 to 12 code multipliers of 7."""
    plain = rounding(7)
    limit = 2**31 - 1
    most = limit - 7 * np.array([3, 12, 9, 9, 12])
    least = -limit + 7 * np.array([3, 6, 15, 0, 24])
    assert plain.fits("xnnpack", most).all() and plain.fits("xnnpack", least).all()
    assert not plain.fits("xnnpack", most + 1).any()
    assert not plain.fits("xnnpack", least - 1).any()


def test_targets_that_round_alike_are_known():
    plain = rounding(3)
    assert set(plain.alike.values()) == {"xnnpack", "optimized", "optimized_arm", "reference"}
    assert plain.alike["tflm"] == plain.alike["reference_2_14"] == "reference"
    assert plain.different(TARGETS) == TARGETS[:4]
    order = ("tflm", "xnnpack", "reference", "optimized", "reference_2_14")
    assert plain.different(order) == ("tflm", "xnnpack", "optimized")
    source = dataclasses.replace(CONTEXT.source, scale=0.3)
    dense = dataclasses.replace(CONTEXT, operator=FullyConnected, source=source)
    scale = np.full(5, 0.123, np.float32)  # A single one, which some multiply in float32.
    one = Rounding(dense, scale, 3, plain.accumulators)
    assert one.alike["reference_2_14"] == "reference_2_14" and one.alike["tflm"] == "tflm"


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.operator.__name__)
@pytest.mark.parametrize("target", TARGETS)
def test_biases_between_the_bounds_serve_and_no_others(target, context):
    code_multiplier = 21
    plain = rounding(code_multiplier, context)
    for shift in (-11, 0, 8, 30):
        wanted = brute_force(context, target, np.full(5, shift), code_multiplier)
        low, high = plain.bias_interval(target, wanted)
        assert low.dtype == high.dtype == np.int64
        assert (low <= shift).all() and (shift <= high).all()
        for bias in range(-60, 90):
            serves = brute_force(context, target, np.full(5, bias), code_multiplier) == wanted
            between = (low <= bias) & (bias <= high)
            assert between.tolist() == serves.all(axis=0).tolist()


def test_nothing_bounds_a_bias_without_levels_or_beyond_the_last():
    for code_multiplier in (1, 3):
        plain = rounding(code_multiplier)
        low, high = plain.bias_interval("xnnpack", np.full((5, 5), BEYOND))
        assert (low == -BEYOND).all() and (high < 60).all()
        low, high = plain.bias_interval("xnnpack", np.full((5, 5), -BEYOND))
        assert (high == BEYOND).all() and (low > -60).all()
    flat = dataclasses.replace(CONTEXT.target, low=3)
    nothing = rounding(3, dataclasses.replace(CONTEXT, target=flat))
    low, high = nothing.bias_interval("xnnpack", np.zeros((0, 5), np.int64))
    assert (low == -BEYOND).all() and (high == BEYOND).all()


def records(codes, **fields):
    trained = np.zeros(len(codes), TRAINED)
    trained["gain"] = trained["variance"] = 1
    for name, values in fields.items():
        trained[name] = values
    trained["digest"] = [ideal.digest(row) for row in codes]
    return trained


def fit(codes, context=CONTEXT, **fields):
    codes = np.array(codes)
    return channels.fit(codes, records(codes, **fields), context)


def test_the_bias_is_in_the_middle_of_those_that_serve():
    """One code for 4 accumulators, and accumulators from -3 to 3: thresholds -6, -2, 2 and 6.

    A code multiplier of 127 puts thresholds of the kernels at -762, -254, 254 and so on, up to 1
    more: 1 + 127 k is on for k >= 2 and off for k <= 1, and so is 127 + 127 k - 1. At -2 the same.
    """
    fitted = fit([[1, -1, 0], [-1, 1, 0]], scale=0.125, gain=[1, -1])
    assert fitted.code_multiplier == 127
    assert fitted.kernel.dtype == np.int8 and fitted.bias.dtype == np.int32
    assert fitted.kernel.tolist() == [[127, -127, 0], [127, -127, 0]]
    assert fitted.scale.dtype == np.float32
    assert fitted.scale.tolist() == [np.float32(0.125 / 127)] * 2
    assert fitted.bias.tolist() == [63, 63]
    assert not fitted.relu
    assert list(fitted.exact) == list(TARGETS)
    assert all(exact.tolist() == [True, True] for exact in fitted.exact.values())
    assert fitted.trained["gain"].tolist() == [1, -1]


@pytest.mark.parametrize(
    ("codes", "bits", "code_multiplier"),
    [
        (7, 8, 18),
        (0, 8, 127),
        (127, 8, 1),
        (64, 8, 1),
        (-63, 8, 2),
        (3, 4, 2),
        (-1, 2, 1),
        (3, 2, 1),
    ],
)
def test_codes_fill_their_storage(codes, bits, code_multiplier):
    context = dataclasses.replace(CONTEXT, dtype_bits=bits)
    fitted = fit([[codes, 0], [0, 0]], context, scale=0.01)
    assert fitted.code_multiplier == code_multiplier
    assert fitted.kernel.tolist() == [[codes * code_multiplier, 0], [0, 0]]


@pytest.mark.parametrize(
    ("taps", "bits", "code_multiplier"),
    [
        (66310, 8, 127),  # 66310 * 127 * 255 is within 2^31, and 66312 * 127 * 255 is not.
        (66312, 8, 63),  # 63 * 255 * 66312 is the last below 2^30.
        (75192, 4, 7),
        (75194, 4, 3),
    ],
)
def test_sums_of_many_codes_fit_their_accumulator(taps, bits, code_multiplier):
    context = dataclasses.replace(CONTEXT, dtype_bits=bits)
    fitted = fit(np.resize([1, -1], (1, taps)), context, scale=0.01)
    assert fitted.code_multiplier == code_multiplier
    assert np.abs(fitted.kernel.astype(int)).sum() * 255 <= accumulator_limit(bits)


def test_a_relu_is_where_the_grid_begins_at_0():
    clipped = dataclasses.replace(CONTEXT, target=dataclasses.replace(CONTEXT.target, low=0))
    assert fit([[1]], clipped, scale=0.1).relu
    assert not fit([[1]], scale=0.1).relu


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="a gain or offset is not finite"):
        fit([[1]], scale=0.1, offset=np.nan)


def test_channels_that_do_not_move_the_output_are_constants():
    """Offsets of -1.5, 0, 2.5 and 99 codes, in codes of 0.25; codes clip at 3.

    -1.5 is the code -1, 2.5 is 3. A constant's scale makes one code of 1024.
    """
    offset = 0.25 * np.array([-1.5, 0, 2.5, 99, -99])
    fitted = fit([[3, 2]] * 5, scale=0.1, gain=0, offset=offset)
    assert fitted.kernel.tolist() == [[0, 0]] * 5
    assert fitted.scale.tolist() == [2.0**-11] * 5  # Source codes of 0.5, target codes of 0.25.
    assert fitted.bias.tolist() == [-1024, 0, 3072, 3072, -2048]
    assert all(exact.all() for exact in fitted.exact.values())


def test_slopes_below_float32_are_the_code_at_accumulator_0():
    """A tie at 0 is reached from 0 on: by all accumulators where the least is 0, else by some."""
    fitted = fit([[1, 1], [1, -1], [-1, -1], [1, 1]], scale=1e-44, offset=[0.125, 0.125, 0.125, 0])
    assert fitted.kernel.tolist() == [[0, 0]] * 4
    assert fitted.bias.tolist() == [1024, 1024, 1024, 0]
    for exact in fitted.exact.values():
        assert exact.tolist() == [True, False, False, True]


def test_a_bias_beyond_2_to_the_30_makes_a_constant():
    """1 code is 0.25 / slope accumulators, times 127: a little less than 2^30, or more."""
    count = np.array([2.0**30 - 4096, 2.0**30 + 4096, -(2.0**30) + 4096, -(2.0**30) - 4096])
    slope = 127 * 0.25 / np.abs(count)
    fitted = fit([[1, 1]] * 4, scale=slope / 0.5, offset=0.25 * np.sign(count))
    assert fitted.kernel.tolist() == [[127, 127], [0, 0], [127, 127], [0, 0]]
    assert fitted.bias[[1, 3]].tolist() == [1024, -1024]
    assert np.abs(fitted.bias[[0, 2]] - count[[0, 2]]).max() < 1024
    assert fitted.scale[[1, 3]].tolist() == [2.0**-11] * 2
    assert all(exact.all() for exact in fitted.exact.values())


def test_a_bias_beyond_2_to_the_26_is_too_much_for_int4():
    """XNNPACK has 16 times the accumulator in 32 bits. Codes are multiplied by 7."""
    count = np.array([2.0**26 - 4096, 2.0**26 + 4096])
    context = dataclasses.replace(CONTEXT, operator=FullyConnected, dtype_bits=4)
    fitted = fit([[1, 1]] * 2, scale=7 * 0.25 / count / 0.5, offset=0.25, context=context)
    assert fitted.kernel.tolist() == [[7, 7], [0, 0]]
    assert abs(fitted.bias[0] - count[0]) < 1024


def test_kernel_scales_are_slopes_up_to_what_xnnpack_takes():
    """255 codes of 0.25 for an accumulator of 0.5: 127.5."""
    found = channels.kernel_scale(np.array([0.375, 127.0, 1e9]), CONTEXT, 2)
    assert found.dtype == np.float32
    assert found.tolist() == [0.375, 127.0, 127.5]


def test_steep_channels_have_any_scale_that_reaches_both_ends():
    """Codes from -2 to 3, all on one side of some accumulator but for one code between.

    Accumulators below -1 have -2, and above it 3. At -1 the code is -2, 0, 1 or 3: 5, 3, 2 or 5
    code multipliers of 10 are the largest step to an end, in codes 0.5, 0.3, 0.3, 0.5 per step. The
    bias is the code in steps of that or the next that divides it: 2 / 0.5 = 4, 1 / 0.3 = 3.3, 6.
    """
    at = {-2: [0, 0, 0, 0, 0], 0: [-1, -1, 0, 0, 0], 1: [-1, -1, -1, 0, 0], 3: [-1] * 5}
    wanted = np.array(list(at.values())).T
    # The code of the smallest of the thresholds' places.
    codes = [3, 0, 1, 3]
    needed = [0.5, 0.3, 0.3, 0.5]
    multiplier = [3 / 6, needed[1], 1 / 3, 3 / 6]
    found = channels._steep_scale(CONTEXT, 10, wanted)
    assert found.dtype == np.float32
    assert found.tolist() == [np.float32(each * 0.25 / 0.5) for each in multiplier], codes


def test_a_step_from_end_to_end_is_exact():
    """5 codes of 0.25 and more for each step of 0.5; one accumulator between, or none."""
    offset = 0.25 * np.array([0, 1, 2, -1, 3, -2, 2.5])
    fitted = fit([[1, -1, 1]] * 7, scale=2.5 * np.array([1, 1, 4, 1e3, 1e6, 1, 7]), offset=offset)
    assert fitted.kernel.any(axis=1).all()
    assert all(exact.all() for exact in fitted.exact.values())
    assert (fitted.scale * 0.5 / 0.25 < 1).all()
    # 5 codes for one step: from code 0 at accumulator 0 it is 3 to the farther end.
    assert fit([[1, -1, 1]], scale=2.5).scale.tolist() == [np.float32(1.5 / 127)]
    flatter = fit([[1, -1, 1]], scale=2.49)
    assert flatter.scale.tolist() == [np.float32(2.49 / 127)]


@pytest.mark.parametrize(("dtype_bits", "limit"), [(8, 2**31 - 1), (4, 2**27 - 1), (2, 2**31 - 1)])
def test_int4_accumulators_have_four_bits_less(dtype_bits, limit):
    """The least accumulator of the first channel is -3, the largest 3."""
    context = dataclasses.replace(CONTEXT, dtype_bits=dtype_bits)
    chosen = rounding(1, context)
    for target in TARGETS:
        for sign in (-1, 1):
            for more in (0, 1):
                bias = np.full(len(CODES), sign * (limit - 3 + more))
                assert chosen.fits(target, bias)[0] == (not more)


def test_where_no_bias_serves_it_is_that_of_real_arithmetic():
    """One code for 2.37 accumulators, with a code multiplier of 1, and 3.6 accumulators from 0.

    XNNPACK's thresholds are -3, -1, 2, 4 and 6 without a bias, of which none makes those as
    trained, -7, -4, -2, 0 and 3.
    """
    codes = [[127, 1, 1, 1, -1, -1, -1]]
    context = dataclasses.replace(CONTEXT, kernel_sets=("xnnpack",))
    fitted = fit(codes, context, scale=0.25 / 2.37 / 0.5, offset=0.25 * 3.6 / 2.37)
    assert fitted.code_multiplier == 1
    assert fitted.bias.tolist() == [4]
    assert not fitted.exact["xnnpack"].any()


def test_scales_are_chosen_for_the_thresholds_of_channels_that_move(monkeypatch):
    """Thresholds at -6, -2, 2, 6 and 10; none of what float32 cannot scale."""
    seen = []

    def choose(context, scale, code_multiplier, accumulators, wanted):
        seen.append(wanted.T.tolist())
        return scale

    monkeypatch.setattr(channels, "_choose_scale", choose)
    fit([[1, -1, 0], [1, 1, 1]], scale=[0.125, 1e-44])
    assert seen == [[[-6, -2, 2, 6, 10], [BEYOND] * 5]]


def test_dense_layers_with_one_scale_keep_it():
    dense = dataclasses.replace(CONTEXT, operator=FullyConnected)
    fitted = fit([[1, -1]] * 2, dense, scale=25.0, offset=[0, 0.5])
    assert fitted.scale.tolist() == [np.float32(25.0 / 127)] * 2
    other = fit([[1, -1]] * 2, dense, scale=[25.0, 26.0], offset=[0, 0.5])
    assert (other.scale < 0.02).all()
    narrow = dataclasses.replace(dense, dtype_bits=2)
    assert (fit([[1, -1]] * 2, narrow, scale=25.0, offset=[0, 0.5]).scale < 3).all()


def test_float32_steps():
    one = np.float32([1, 2, 0.5])
    assert channels.moved_scale(one, 1).tolist() == [1 + 2.0**-23, 2 + 2.0**-22, 0.5 + 2.0**-24]
    assert channels.moved_scale(one, -1).tolist() == [1 - 2.0**-24, 2 - 2.0**-23, 0.5 - 2.0**-25]
    assert channels.moved_scale(one, 0).tolist() == [1, 2, 0.5]
    assert channels.ULPS == (0, 1, -1, 2, -2, 3, -3, 4, -4)


class Scales:
    """Stands in for `Rounding`: channels have a bias at some moves of their scales."""

    def __init__(self, serves):
        self.serves = serves
        self.tried = []

    def __call__(self, context, scale, code_multiplier, accumulators):
        assert (code_multiplier, accumulators) == (9, "accumulators")
        self.ulps = scale.view(np.int32) - np.float32([1, 2, 4]).view(np.int32)
        self.tried.append(self.ulps.tolist())
        return self

    def bias_interval(self, target, wanted):
        assert (target, wanted) == ("xnnpack", "wanted")
        serves = [move in good for move, good in zip(self.ulps, self.serves, strict=True)]
        return np.where(serves, 5, 6), np.full(3, 5)


@pytest.mark.parametrize(
    ("operator", "first", "serves", "ulps", "trials"),
    [
        (Conv2D, 1.0, ([0, 1], [1, 2], [-1, 1]), [0, 1, 1], 2),
        (Conv2D, 1.0, ([-4], [-2, 2], []), [-4, 2, 0], 9),
        (Conv2D, 1.0, ([0], [0], [0]), [0, 0, 0], 1),
    ],
)
def test_scales_move_by_the_fewest_steps(monkeypatch, operator, first, serves, ulps, trials):
    stand_in = Scales(serves)
    monkeypatch.setattr(channels, "Rounding", stand_in)
    scale = np.float32([1, 2, 4])
    context = dataclasses.replace(CONTEXT, operator=operator)
    found = channels._choose_scale(context, scale, 9, "accumulators", "wanted")
    assert (found.view(np.int32) - scale.view(np.int32)).tolist() == ulps
    assert len(stand_in.tried) == trials
    assert stand_in.tried == [[move] * 3 for move in channels.ULPS[:trials]]


@pytest.mark.parametrize(
    ("serves", "ulps"),
    [
        (([0, 2], [1, 2], [-1, 2]), 2),
        (([1], [-1], [2]), 1),  # As many as any: the first of them.
        (([0], [1], [-1, 3]), 0),
        (([-4, 1], [-4], [1, -4]), -4),
    ],
)
def test_one_scale_moves_to_where_most_channels_have_a_bias(monkeypatch, serves, ulps):
    class Shared(Scales):
        def __call__(self, context, scale, code_multiplier, accumulators):
            self.ulps = scale.view(np.int32) - np.float32(1).view(np.int32)
            return self

    monkeypatch.setattr(channels, "Rounding", Shared(serves))
    scale = np.ones(3, np.float32)
    dense = dataclasses.replace(CONTEXT, operator=FullyConnected)
    found = channels._choose_scale(dense, scale, 9, "accumulators", "wanted")
    assert (found.view(np.int32) - scale.view(np.int32)).tolist() == [ulps] * 3


class Intervals:
    """Stands in for `Rounding`: the biases that serve each target, ``[least, most]``."""

    def __init__(self, **known):
        self.known = known

    def bias_interval(self, target, wanted):
        assert wanted == "wanted"
        least, most = self.known[target]
        return np.array([least]), np.array([most])


@pytest.mark.parametrize(
    ("first", "second", "bias"),
    [
        ((2, 9), (4, 20), 6),  # (4 + 9) // 2
        ((-9, -2), (-20, -4), -7),
        ((2, 5), (5, 9), 5),
        ((2, 4), (5, 9), 3),  # Not both: the first.
        ((7, 3), (5, 9), 7),  # The first has none.
        ((7, 3), (9, 5), 8),  # Neither: 7.5 in real arithmetic, halves up.
        ((2, BEYOND), (5, BEYOND), 10),  # Half a code multiplier of 11 within.
        ((-BEYOND, 2), (-BEYOND, -1), -6),
        ((-BEYOND, BEYOND), (-BEYOND, BEYOND), 8),
        ((2, BEYOND), (-BEYOND, 9), 5),
    ],
)
def test_biases_serve_as_many_targets_as_go_together(first, second, bias):
    known = Intervals(xnnpack=first, reference=second)
    found = channels._choose_bias(known, ("xnnpack", "reference"), "wanted", np.array([7.5]), 11)
    assert found.tolist() == [bias]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("linear", [False, True])
def test_channels_called_exact_are_exact_for_every_input(seed, linear):
    operator = trained_layers.OPERATORS[seed % 4]
    bits = 2 + seed % 3
    layer = trained_layers.layer(
        seed, operator=operator, weight_bits=bits, input_bits=3, taps=2, linear=linear
    )
    (node,) = layer.operators
    source, output = (layer.provenance.quantization[name] for name in ("input", "output"))
    context = dataclasses.replace(CONTEXT, operator=operator, source=source, target=output)
    fitted = channels.fit(np.array(layer.metadata["codes"]), node.trained, context)
    assert np.array_equal(fitted.bias, node.bias)
    wanted = trained_layers.trained_codes(layer)
    for target in TARGETS:
        same = (trained_layers.device_codes(layer, target) == wanted).all(axis=0)
        assert fitted.exact[target].tolist() == same.tolist()


def layer(count=40, seed=0):
    """Codes and parameters of channels of which some do not move, or only at the ends."""
    random = np.random.default_rng(seed)
    codes = random.integers(-3, 4, (count, 5))
    fields = {
        "scale": random.choice([0.03, 0.3, 1e-44], count, p=[0.6, 0.3, 0.1]).astype(np.float32),
        "gain": random.choice([-1, 1, 300], count),
        "offset": random.normal(0, 0.3, count).astype(np.float32),
    }
    return codes, records(codes, **fields)


def same(one, other):
    fields = [field.name for field in dataclasses.fields(one) if field.name != "exact"]
    assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in fields)
    assert all(one.exact[target].tolist() == other.exact[target].tolist() for target in TARGETS)


@pytest.mark.parametrize("operator", [Conv2D, DepthwiseConv2D, FullyConnected])
def test_blocks_of_channels_have_the_integers_of_all(monkeypatch, operator):
    context = dataclasses.replace(CONTEXT, operator=operator)
    whole = channels.fit(*layer(43), context)
    assert channels.blocks(context, 43) == [slice(0, 43 if operator is FullyConnected else 6552)]
    monkeypatch.setattr(channels, "_AT_ONCE", 100)  # 20 channels, of which the vectors hold 16.
    monkeypatch.setattr(channels, "_KNOWN", collections.OrderedDict())
    several = [slice(0, 16), slice(16, 32), slice(32, 48)]
    expected = [slice(0, 43)] if operator is FullyConnected else several
    assert channels.blocks(context, 43) == expected
    same(channels.fit(*layer(43), context), whole)


def test_the_same_channels_are_fitted_once_and_others_anew(monkeypatch):
    fitted = []
    fit_block = channels._fit

    def count(accumulators, trained, context, code_multiplier):
        fitted.append(len(trained))
        return fit_block(accumulators, trained, context, code_multiplier)

    monkeypatch.setattr(channels, "_fit", count)
    monkeypatch.setattr(channels, "_KNOWN", collections.OrderedDict())
    monkeypatch.setattr(channels, "_MOST_KNOWN", 2)
    codes, trained = layer()
    first = channels.fit(codes, trained, CONTEXT)
    again = channels.fit(codes.copy(), trained.copy(), dataclasses.replace(CONTEXT))
    assert fitted == [40]
    same(first, again)
    first.bias[:] = first.scale[:] = 1
    first.exact["xnnpack"][:] = False
    same(channels.fit(codes, trained, CONTEXT), again)
    assert fitted == [40]

    one_step = trained.copy()
    one_step["offset"][7] = np.nextafter(one_step["offset"][7], 1)
    other_codes = codes.copy()
    other_codes[3, 2] += 1
    reference = dataclasses.replace(CONTEXT, kernel_sets=("reference",))
    for others in ((codes, one_step, CONTEXT), (other_codes, trained, CONTEXT)):
        channels.fit(*others)
    assert fitted == [40] * 3
    channels.fit(codes, trained, reference)
    assert fitted == [40] * 4
    channels.fit(other_codes, trained, CONTEXT)  # One of the last two.
    assert fitted == [40] * 4
    same(channels.fit(codes, trained, CONTEXT), again)
    assert fitted == [40] * 5 and len(channels._KNOWN) == 2
