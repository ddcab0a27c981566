"""Real data sets, which are no part of the project: tests that read them are skipped without."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("WRPN_TF_DATA") or Path(__file__).parents[2] / "shared" / "data")


def needs(dataset: str) -> pytest.MarkDecorator:
    """Skips a test where `DATA` has no such folder."""
    return pytest.mark.skipif(
        not (DATA / dataset).is_dir(), reason=f"no {dataset} under {DATA} ($WRPN_TF_DATA)"
    )
