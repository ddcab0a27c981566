"""Numbers as the tables print them."""

import pytest

from wrpn_tf.reporting.rendering import byte_count, scaled


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (3_663_761_408, "3.66 G"), (12_501_632, "12.5 M"), (568e6, "568 M")],
)
def test_counts(value, text):
    assert scaled(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(7.5, "7.5 B"), (1536, "1.50 KiB"), (1024_000, "1000 KiB")]
)
def test_bytes(value, text):
    assert byte_count(value) == text
