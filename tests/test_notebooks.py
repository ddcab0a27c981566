"""The notebooks run, cell by cell, and what they show is of a run without an error."""

import json
import pathlib
import re

import matplotlib
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


def code_cells(path: pathlib.Path) -> list[dict]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for cell in code_cells(path):
        source = re.sub(r"epochs=\d+", "epochs=1", "".join(cell["source"]))
        exec(compile(source, str(path), "exec"), names)
    assert names["verification"].verified and names["verification"].different == 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_of_one_whole_run(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"display_data", "stream"}
    text = "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")
    assert ", 0 different\n" in text


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["pretrained_wider", "quick_start"]
