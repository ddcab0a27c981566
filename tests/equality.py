"""Comparison of arrays, value for value, with a message that shows where they part."""

import numpy as np


def assert_same(actual, expected) -> None:
    """Fails with the first values that differ unless both arrays are equal (`==`)."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    different = np.argwhere(actual != expected)
    first = [
        f"{tuple(int(i) for i in at)}: {actual[tuple(at)]!r} is not {expected[tuple(at)]!r}"
        for at in different[:5]
    ]
    assert not len(different), f"{len(different)} of {actual.size} differ: {'; '.join(first)}"
