"""Where kernels agree, against the exact thresholds of each."""

import dataclasses

import numpy as np
import pytest

from export.alignment import bias_candidates
from export.ir.operators import Conv2D
from export.ir.provenance import TRAINED
from export.kernel_sets import ideal
from export.kernel_sets.rules import TARGETS
from export.realization.accumulator_range import AccumulatorRange
from export.realization.channels import Rounding
from export.realization.context import RequantizationContext
from wrpn_tf import QuantizationParameters

CHANNELS = 64
SETTING = RequantizationContext(
    operator=Conv2D,
    vector_product=False,
    source=QuantizationParameters(scale=0.125, low=0, high=15, bits=4),
    target=QuantizationParameters(scale=1.0, low=-8, high=7, bits=4),
)


def channels(code_multiplier, seed=0):
    """Trained channels whose 16 codes span their accumulators, with float32 kernel scales."""
    random = np.random.default_rng(seed)
    codes = random.integers(-7, 8, (CHANNELS, 90))
    accumulators = AccumulatorRange(codes, SETTING.source.low, SETTING.source.high)
    trained = np.zeros(CHANNELS, TRAINED)
    trained["scale"] = np.float32(
        16 / (accumulators.most - accumulators.least) / SETTING.source.scale
    )
    trained["gain"] = random.uniform(0.5, 2, CHANNELS).astype(np.float32)
    trained["variance"] = 1
    trained["offset"] = random.uniform(-2, 2, CHANNELS).astype(np.float32)
    slope, start = ideal.line(trained, SETTING.source.scale)
    scale = (slope / SETTING.source.scale / code_multiplier).astype(np.float32)
    multiplier = SETTING.multipliers(scale, "reference")
    return accumulators, trained, scale, multiplier, start / SETTING.target.scale / multiplier


@pytest.mark.parametrize("targets", [TARGETS, TARGETS[:3], (TARGETS[0], TARGETS[2])])
@pytest.mark.parametrize("code_multiplier", [7, 18, 127])
def test_the_targets_agree_at_the_bias_and_at_none_much_nearer(code_multiplier, targets):
    accumulators, trained, scale, multiplier, place = channels(code_multiplier)
    found = bias_candidates.nearest_bias(
        SETTING, accumulators, trained, multiplier, code_multiplier, targets
    )
    rounding = Rounding(SETTING, scale, code_multiplier, accumulators)

    def agree(bias):
        positions = [rounding.positions(target, bias) for target in targets]
        return np.all([(each == positions[0]).all(axis=0) for each in positions], axis=0)

    suits = np.isfinite(found)
    assert suits.any()
    assert agree(np.where(suits, found, 0).astype(np.int64))[suits].all()
    distance = np.abs(np.where(suits, found, np.inf) - place)
    for move in range(-(code_multiplier // 2), code_multiplier // 2 + 1):
        bias = np.rint(place).astype(np.int64) + move
        missed = agree(bias) & (np.abs(bias - place) < distance - 1)
        # Thresholds a little out of reach, and ties, count as well.
        assert np.count_nonzero(missed) <= CHANNELS // 16


def test_gains_move_little_and_gather_the_thresholds():
    *_, multiplier, _ = channels(18)
    factors = bias_candidates.gain_factors(multiplier, 18)
    moves = np.abs(factors - 1)
    assert (factors[0] == 1).all()
    assert moves.max() <= bias_candidates.MOST_GAIN
    assert (np.diff(moves, axis=0) >= 0).all()
    parts = np.arange(1, 37)[:, None, None]
    steps = parts / (18 * multiplier * factors)  # A distance of thresholds in 1 / parts of a step.
    assert np.isclose(steps, np.rint(steps), rtol=0, atol=1e-9).any(axis=(0, 1)).all()


def test_float32_needs_a_millionth_of_the_farthest_threshold():
    """Levels -7 to 7 of scale 1: 7 / 2^20. Of 15 random places one gap is ln(16) / 15 steps wide.

    Twice 7 / 2^20 are that for slopes of 14 / 2^20 * 15 / ln(16) = 7.2233e-05.
    """
    margin = bias_candidates.threshold_margin(SETTING, np.array([1.0, 7.2e-5, 7.23e-5]))
    assert margin.tolist() == [7 * 2.0**-20, 0, 7 * 2.0**-20]
    for low, high, scale, wanted in ((-10, 3, 2.0, 18), (0, 5, 0.5, 2.5), (-1, 0, 1.0, 0)):
        target = QuantizationParameters(scale=scale, low=low, high=high, bits=8)
        context = dataclasses.replace(SETTING, target=target)
        found = bias_candidates.threshold_margin(context, np.array([1.0]))
        assert found.tolist() == [wanted * 2.0**-20]
    # One level, 5, and one place: slopes of 10 / 2^20 / ln(2) = 1.376e-05 have room for it.
    target = QuantizationParameters(scale=1.0, low=4, high=5, bits=8)
    context = dataclasses.replace(SETTING, target=target)
    found = bias_candidates.threshold_margin(context, np.array([1.37e-5, 1.38e-5]))
    assert found.tolist() == [0, 5 * 2.0**-20]
    nothing = dataclasses.replace(SETTING.target, low=7)
    nothing = dataclasses.replace(SETTING, target=nothing)
    assert bias_candidates.threshold_margin(nothing, np.ones(2)).tolist() == [0, 0]


def test_small_changes_are_even_and_the_smallest_come_first():
    found = bias_candidates.small_changes(0.5, 4)
    assert found.tolist() == [0.125, -0.125, 0.25, -0.25, 0.375, -0.375, 0.5, -0.5]


def test_gains_are_even_steps_and_simple_fractions():
    """With a code multiplier of 2 distances of 2, 1, 2/3 and so on, and 1/2, 3/2 and so on.

    2.004 steps are 1.002 times 2, by every number of parts; 1.335 are 1.00125 times 4/3, by 3 parts
    only; 0.1 steps are less than half of the shortest, and 1.99 are 0.995 times 2: too far.
    0.5005 are 1.001 times 1/2, by 4 parts only.
    """
    even = [1 + sign * step / 4096 for step in range(1, 17) for sign in (-1, 1)]
    distance = np.array([2.004, 1.335, 0.1, 1.99, 0.5005])
    found = bias_candidates.gain_factors(1 / distance, 2)
    assert found.shape == (33 + 4, 5)
    wanted = [
        [1.0, *even[:16], *[1.002] * 4, *even[16:]],
        [*[1.0] * 4, *even[:10], 1.00125, *even[10:]],
        [*[1.0] * 5, *even],
        [*[1.0] * 5, *even],
        [*[1.0] * 4, *even[:8], 1.001, *even[8:]],
    ]
    assert np.allclose(found.T, wanted, rtol=0, atol=1e-12)
    for code_multiplier, parts in ((1, 2), (19, 38), (21, 40), (127, 40)):
        found = bias_candidates.gain_factors(np.array([0.3]), code_multiplier)
        assert found.shape == (33 + parts, 1)


def excluded_biases(thresholds, targets, half, place, reach):
    """Accumulators that the targets may round differently: one threshold after the other."""
    for level, threshold in thresholds.items():
        if not reach[0] <= threshold - place <= reach[1]:
            continue
        up = "optimized" in targets or ("reference" in targets and level > 0)
        down = "reference" in targets and level <= 0
        doubt = abs(threshold) * 2.0**-20
        first = threshold - half * up - doubt
        beyond = threshold + half * down + doubt
        yield from (n for n in range(-60, 60) if first <= n < beyond)


@pytest.mark.parametrize(
    ("multiplier", "half"),
    [(0.08, 0.5 / 0.64), (0.0625, 1.0), (0.1, 0.625), (0.11, 0.5 / 0.88), (0.3, 0.5 / 0.6)],
)
@pytest.mark.parametrize("code_multiplier", [1, 5, 7, 8])
def test_the_bias_is_the_nearest_that_no_threshold_excludes(multiplier, half, code_multiplier):
    target = QuantizationParameters(scale=0.5, low=-3, high=2, bits=3)
    context = dataclasses.replace(SETTING, target=target)
    thresholds = {level: (level - 0.5) / multiplier for level in range(-2, 3)}
    places = np.arange(-9, 9.3, 0.3) + 0.01
    trained = np.zeros(places.size, TRAINED)
    trained["scale"] = trained["gain"] = trained["variance"] = 1
    trained["offset"] = 0.5 * places * multiplier
    codes = np.resize([[1, 0], [1, -1], [3, -3]], (places.size, 2))
    accumulators = AccumulatorRange(codes, 0, 1)
    least, most = np.resize([0, -1, -3], places.size), np.resize([1, 1, 3], places.size)
    multipliers = np.full(places.size, multiplier)
    for targets in (
        ("xnnpack",),
        ("xnnpack", "optimized"),
        ("xnnpack", "optimized_arm"),
        ("reference",),
        TARGETS,
    ):
        found = bias_candidates.nearest_bias(
            context, accumulators, trained, multipliers, code_multiplier, targets
        )
        assert found.dtype == np.float64
        for channel, place in enumerate(places):
            reach = code_multiplier * (least[channel] - 1), code_multiplier * (most[channel] + 1)
            excluded = {
                n % code_multiplier
                for n in excluded_biases(thresholds, targets, half, place, reach)
            }
            near = np.rint(place) + np.arange(
                -((code_multiplier - 1) // 2), code_multiplier // 2 + 1
            )
            left = [bias for bias in near if bias % code_multiplier not in excluded]
            if left:
                nearest = min(abs(bias - place) for bias in left)
                assert abs(found[channel] - place) == nearest and found[channel] in left
            else:
                assert np.isnan(found[channel])


def test_the_nearest_bias_in_numbers():
    """Thresholds at -18.75, -6.25, 6.25 and 18.75; half a step of the first rounding is 0.78.

    The optimized kernels may reach a level that much earlier: at -19, -7, 6 and 18. The reference
    may do so above 0, and below 0 later: 6, 18, and -6, -18. Residues of 7 are excluded.
    """
    target = QuantizationParameters(scale=1.0, low=-2, high=2, bits=3)
    context = dataclasses.replace(SETTING, target=target)
    places = np.array([6.1, -1.3, 4.2])
    trained = np.zeros(3, TRAINED)
    trained["scale"] = trained["gain"] = trained["variance"] = 1
    trained["offset"] = 0.08 * places
    accumulators = AccumulatorRange(np.array([[9, -9]] * 3), 0, 1)
    for targets, wanted in (
        (("xnnpack",), [6, -1, 4]),  # -18.75 and so on lie between whole numbers.
        (("xnnpack", "optimized"), [5, -2, 5]),  # Not modulo 7: 2, 0, 6 and 4.
        (("xnnpack", "reference"), [7, -2, 5]),  # Not 6, 4, 1 and 3: 0, 2 and 5 are left.
    ):
        found = bias_candidates.nearest_bias(
            context, accumulators, trained, np.full(3, 0.08), 7, targets
        )
        assert found.tolist() == wanted, targets
