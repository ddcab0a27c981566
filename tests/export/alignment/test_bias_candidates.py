"""Where kernels agree, against the exact thresholds of each."""

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
