"""The README's quick start runs as it is printed."""

import pathlib
import re

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_the_quick_start_runs_and_has_ten_lines(tmp_path, monkeypatch):
    section = README.read_text(encoding="utf-8").split("## Quick start")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 10
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {})
    assert (tmp_path / "digits.tflite").read_bytes()[4:8] == b"TFL3"
