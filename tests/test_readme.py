"""The README's quick start, and the example on widening, run as they are printed."""

import pathlib
import re

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
WIDENING = ROOT / "docs" / "widening.md"


def test_the_quick_start_runs_and_has_ten_lines(tmp_path, monkeypatch):
    section = README.read_text(encoding="utf-8").split("## Quick start")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 10
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {})
    assert (tmp_path / "digits.tflite").read_bytes()[4:8] == b"TFL3"


def test_the_example_of_widening_runs_and_keeps_the_function():
    section = WIDENING.read_text(encoding="utf-8").split("## From a trained network")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    code, replaced = re.subn(r"epochs=\d+", "epochs=1", code)
    assert replaced == 2
    names: dict = {}
    exec(compile(code, str(WIDENING), "exec"), names)
    narrow, wide = (names[name].predict(names["images"], verbose=0) for name in ("narrow", "wide"))
    np.testing.assert_allclose(wide, narrow, rtol=0, atol=1e-5 * np.abs(narrow).max())
