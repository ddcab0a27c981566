import itertools

import numpy as np
import pytest

from wrpn_tf.allocation.integer_program import allocate


def brute_force(distortions, uses, limits):
    """The least sum of distortions over all choices that keep the limits, or None."""
    choices = itertools.product(*(range(len(row)) for row in distortions))
    kept = [
        sum(row[at] for row, at in zip(distortions, choice, strict=True))
        for choice in choices
        if all(
            sum(row[at] for row, at in zip(uses[name], choice, strict=True)) <= limit
            for name, limit in limits.items()
        )
    ]
    return min(kept, default=None)


@pytest.mark.parametrize("seed", range(6))
def test_least_distortion_of_all_choices(seed):
    random = np.random.default_rng(seed)
    bits = (2, 4, 8)
    distortions = [[int(v) for v in random.integers(0, 1000, len(bits))] for _ in range(4)]
    units = {"cost": random.integers(1, 10**9, 4), "flash": random.integers(0, 10**6, 4)}
    uses = {name: [[int(unit) * k for k in bits] for unit in of] for name, of in units.items()}
    # From too little for any choice to enough for all; every other one is met exactly.
    for share, exact in itertools.product((0.2, 0.3, 0.5, 0.7, 1.0), (False, True)):
        limits = {name: int(share * sum(row[-1] for row in of)) for name, of in uses.items()}
        if exact:
            choice = random.integers(len(bits), size=4)
            limits = {
                name: sum(row[at] for row, at in zip(of, choice, strict=True))
                for name, of in uses.items()
            }
        found = allocate(distortions, uses, limits)
        expected = brute_force(distortions, uses, limits)
        if found is None:
            assert expected is None
            continue
        assert sum(row[at] for row, at in zip(distortions, found, strict=True)) == expected
        for name, limit in limits.items():
            assert sum(row[at] for row, at in zip(uses[name], found, strict=True)) <= limit


def test_a_limit_is_kept_to_the_last_unit():
    # HiGHS takes a row that is exceeded by a part in a million as kept.
    assert allocate([[5, 0]], {"cost": [[10**9, 10**9 + 1]]}, {"cost": 10**9}) == [0]
    assert allocate([[5, 0]], {"cost": [[10**9, 10**9 + 1]]}, {"cost": 10**9 + 1}) == [1]
    assert allocate([[5, 0]], {"cost": [[10**9, 10**9 + 1]]}, {"cost": 10**9 - 1}) is None


def test_tiny_distortions_count():
    assert allocate([[3e-12, 1e-12, 2e-12]], {"cost": [[1, 2, 3]]}, {"cost": 3}) == [1]
    assert allocate([[0.0, 0.0]], {"cost": [[2, 1]]}, {"cost": 1}) == [1]


@pytest.mark.parametrize("seed", [1, 5])
def test_the_least_of_sums_that_are_nearly_equal(seed):
    """They differ by less than HiGHS's gap, a ten-thousandth, were it not 0."""
    random = np.random.default_rng(seed)
    distortions = [[10**6 + int(v) for v in random.integers(0, 60, 4)] for _ in range(6)]
    uses = {"cost": [[int(v) for v in random.integers(1, 1000, 4)] for _ in range(6)]}
    limits = {"cost": int(0.4 * sum(map(max, uses["cost"])))}
    found = allocate(distortions, uses, limits)
    total = sum(row[at] for row, at in zip(distortions, found, strict=True))
    assert total == brute_force(distortions, uses, limits)


def test_the_least_of_sums_that_one_dear_option_dwarfs():
    """HiGHS ends within a millionth of the largest distortion, here a thousand of the others."""
    distortions = [[1.0, 0.0], [3e-9, 1e-9, 2e-9], [5e-9, 4e-9]]
    uses = {"cost": [[1, 2], [1, 9, 2], [1, 2]]}
    assert allocate(distortions, uses, {"cost": 6}) == [1, 2, 1]
    assert allocate(distortions, uses, {"cost": 5}) == [1, 2, 0]
