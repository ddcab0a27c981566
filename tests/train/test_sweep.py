"""Sweeps: reading grids, going on after an interruption, and the report."""

import io
import json
import pathlib
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from train import sweep_record, sweep_report
from train.config import UserError
from train.grid import read_grids
from train.lock import locked
from train.sweep_record import SweepRecord
from train.sweep_report import write_report
from wrpn_tf import read_results
from wrpn_tf.files import WriteError

ROOT = pathlib.Path(__file__).parents[2]

BASE = {
    "dataset": "digits",
    "arch": "digits_cnn",
    "width": 0.5,
    "epochs": 1,
    "batch_size": 64,
    "train_images": 128,
}


def write(folder: pathlib.Path, *grids: dict[str, Any], **base: Any) -> pathlib.Path:
    path = folder / "grids.json"
    path.write_text(json.dumps({"base": BASE | base, "grids": grids}))
    return path


def test_a_grid_is_every_combination_one_seed_after_the_other(tmp_path: pathlib.Path) -> None:
    path = write(
        tmp_path,
        {"name": "float", "seed": [0, 1]},
        {"name": "my WRPN", "width": [1, 2], "bits": ["4/2", "1/1"], "seed": [0, 1]},
    )
    runs = read_grids(path, tmp_path, None)
    assert [run.name for run in runs if run.config.seed == 0] == [
        "float-digits_cnn-0.5x-float-s0",
        "my_WRPN-digits_cnn-1x-w2a4-s0",
        "my_WRPN-digits_cnn-1x-w1a1-s0",
        "my_WRPN-digits_cnn-2x-w2a4-s0",
        "my_WRPN-digits_cnn-2x-w1a1-s0",
    ]
    assert [run.config.seed for run in runs] == [0] * 5 + [1] * 5
    assert {(run.config.width, run.config.wbits) for run in runs if run.grid == "my WRPN"} == {
        (1, 2),
        (1, 1),
        (2, 2),
        (2, 1),
    }


def test_a_grid_names_the_one_it_starts_from(tmp_path: pathlib.Path) -> None:
    path = write(
        tmp_path,
        {"name": "float", "width": [1, 2], "seed": [0, 1]},
        {"name": "warm", "width": [1, 2], "seed": [0, 1], "bits": "4/2", "init_from": "grid:float"},
    )
    for run in read_grids(path, tmp_path, None):
        if run.grid == "warm":
            start = f"float-digits_cnn-{run.config.width:g}x-float-s{run.config.seed}"
            assert run.config.init_from == tmp_path / start


def test_a_grid_of_one_width_starts_all_widths(tmp_path: pathlib.Path) -> None:
    path = write(
        tmp_path,
        {"name": "float", "seed": [0, 1]},
        {"name": "wide", "width": [1, 2], "seed": [0, 1], "init_from": "grid:float"},
    )
    starts = [
        (run.config.width, run.config.init_from.name)
        for run in read_grids(path, tmp_path, None)
        if run.grid == "wide"
    ]
    assert starts == [
        (width, f"float-digits_cnn-0.5x-float-s{seed}") for seed in (0, 1) for width in (1, 2)
    ]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"name": "a", "bits": "4-2"}, "grid 'a': bits must be activations/weights"),
        ({"name": "a", "bits": "9/2"}, "grid 'a': abits must be 1 to 8"),
        ({"name": "a", "wide": 2}, "grid 'a': 'wide' is not a field"),
        ({"name": "a", "workdir": "x"}, "grid 'a': 'workdir' is not a field"),
        ({"name": "a", "epochs": "many"}, "grid 'a': epochs must be a whole number, not 'many'"),
        ({"name": "a", "flip": "false"}, "grid 'a': flip must be true or false, not 'false'"),
        ({"name": "a", "width": "2"}, "grid 'a': width must be a number, not '2'"),
        ({"name": "a", "report": "no"}, "grid 'a': report must be true or false, not 'no'"),
        ({"name": "a", "rules": 3}, "grid 'a': rules must be the path of a file, not 3"),
        (
            {"name": "a", "decay_epochs": [30]},
            r"must be a list in a list, as \[\[30, 60\]\], not 30",
        ),
        ({"name": "a", "bits": "4/4", "wbits": 2}, "grid 'a': bits and wbits are both given"),
        ({"name": "a", "color": 0.4}, "grid 'a': color has no effect on digits; leave it out"),
        ({"name": "a", "dataset": "imagenet2012"}, "grid 'a': imagenet2012 needs an image_size"),
        ({"name": "a", "decay_factor": 0.2}, "--decay_factor has no effect with --schedule=cosine"),
        (
            {"name": "a", "schedule": "step", "decay_epochs": [[1]]},
            "grid 'a': --decay_epochs=1 would come after the end with --epochs=1; give",
        ),
        ({"name": "a", "seed": []}, "grid 'a': seed is an empty list, which makes no training"),
        ({"name": 3}, "grid 3: its name must be a text"),
        ({"name": "a", "epochs": [1, 2]}, r"in one row of .*, which has --epochs=1, not 2; give"),
        ({"name": "a", "init_from": "grid:b"}, "'b' has 0"),
        ({"name": "a", "init_from": "grid:a"}, "'a' has 0"),
        ({"name": "a", "seed": [0, 0]}, "a-digits_cnn-0.5x-float-s0 is there twice"),
        ({"bits": "4/2"}, "each grid with a 'name'"),
    ],
)
def test_mistakes_are_named(tmp_path: pathlib.Path, grid: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read_grids(write(tmp_path, grid), tmp_path, None)
    assert "grids.json" in str(error.value)


def test_a_row_of_the_table_is_of_seeds_alone(tmp_path: pathlib.Path) -> None:
    grids = {"name": "a", "epochs": 1}, {"name": "a", "epochs": 2, "seed": 1}
    with pytest.raises(UserError, match=r"a-\S+-s1 would be in one row of the table with a-\S+-s0"):
        read_grids(write(tmp_path, *grids), tmp_path, None)
    silent = [grid | {"report": False} for grid in grids]
    assert len(read_grids(write(tmp_path, *silent), tmp_path, None)) == 2


def test_what_is_no_mistake(tmp_path: pathlib.Path) -> None:
    """Trainings of several rows, and of one that start from others; base may be for some grids."""
    grids = (
        {"name": "a", "arch": ["digits_cnn", "resnet8_slim"]},
        {"name": "b", "epochs": 2, "seed": [0, 1]},
        {"name": "warm", "init_from": "grid:a"},
        {"name": "warm", "init_from": "grid:b", "seed": 1},
    )
    runs = read_grids(write(tmp_path, *grids, decay_factor=0.2), tmp_path, None)
    assert [run.grid for run in runs] == ["a", "a", "b", "warm", "b", "warm"]


def test_a_file_that_is_none_is_named(tmp_path: pathlib.Path) -> None:
    for text in (None, "[]", "{", '{"base": {}}', '{"base": {}, "grids": [1]}'):
        path = tmp_path / "grids.json"
        if text is not None:
            path.write_text(text)
        with pytest.raises(UserError, match=r"grids\.json must be a JSON file"):
            read_grids(path, tmp_path, None)
    with pytest.raises(UserError, match=r"grids\.json: 'grids' is empty; give at least one"):
        read_grids(write(tmp_path), tmp_path, None)


def sweep(path: pathlib.Path, workdir: pathlib.Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "train.sweep", f"--config={path}", f"--workdir={workdir}"]
    return subprocess.run(
        [*command, "--images=3"], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, pathlib.Path]:
    """A finished sweep: its file and its folder."""
    folder = tmp_path_factory.mktemp("sweep")
    path = write(
        folder, {"name": "float", "report": False}, {"name": "WRPN", "bits": "4/2", "seed": [0, 1]}
    )
    done = sweep(path, folder / "runs")
    assert done.returncode == 0, done.stderr
    assert "WRPN" in (folder / "runs" / "grids.md").read_text()
    assert "float" not in (folder / "runs" / "grids.md").read_text()
    return path, folder / "runs"


def test_every_training_leaves_a_line(swept: tuple[pathlib.Path, pathlib.Path]) -> None:
    path, folder = swept
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    runs = read_grids(path, folder, None)
    assert [line["run"] for line in lines] == [run.name for run in runs]
    floating, *quantized = lines
    assert floating["cost"] > 4 * quantized[0]["cost"]
    assert floating["tflite_accuracy"] is None
    for line in quantized:
        assert line["different_integers"] == 0 < line["compared_integers"]
        assert line["tflite_accuracy"] == pytest.approx(line["accuracy"], abs=1e-6)
        assert line["agreement"] == 1
        assert 0 < line["zero_codes"] < 1
        assert 0 <= line["clipped_activations"] < 0.5
    assert len(read_results(folder / "results.jsonl")) == 3


def test_a_sweep_goes_on_where_it_was_stopped(
    swept: tuple[pathlib.Path, pathlib.Path],
) -> None:
    path, folder = swept
    record = folder / "results.jsonl"
    whole = record.read_text()
    record.write_text("".join(whole.splitlines(keepends=True)[:2]))
    done = sweep(path, folder)
    assert done.returncode == 0, done.stderr
    assert "1 of 3" not in done.stdout
    assert "3 of 3" in done.stdout
    assert record.read_text() == whole  # The training itself was finished.


def test_another_training_of_the_same_name_is_an_error(
    swept: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    _, folder = swept
    changed = write(tmp_path, {"name": "float"}, learning_rate=0.3)
    with pytest.raises(UserError, match=r"holds float-.* with learning_rate 0\.1, not 0\.3"):
        SweepRecord.open(folder / "results.jsonl", read_grids(changed, folder, None))
    (tmp_path / "results.jsonl").write_text("[]\n")
    with pytest.raises(UserError, match="is not the record of a sweep"):
        SweepRecord.open(tmp_path / "results.jsonl", [])


def test_the_report_has_a_row_for_each_network(
    swept: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    _, folder = swept
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    lines.append(lines[1] | {"name": "mixed", "config": lines[1]["config"] | {"rules": [{}]}})
    write_report(lines, tmp_path / "report", Console(quiet=True))
    rows = [
        [cell.strip() for cell in line.strip("| \n").split(" | ")]
        for line in (tmp_path / "report.md").read_text().splitlines()
    ]
    mean = (lines[1]["accuracy"] + lines[2]["accuracy"]) / 2
    assert [row[:4] for row in rows[2:]] == [
        ["float", "0.5x", "32/32", "1"],
        ["WRPN", "0.5x", "4/2", "2"],
        ["mixed", "0.5x", "4/2 by layer", "1"],
    ]
    assert rows[3][4] == f"{100 * mean:.2f}"
    for name in ("report_cost.svg", "report_epochs.svg"):
        assert (tmp_path / name).read_text().startswith("<?xml")


def test_records_know_trainings_of_other_folders_and_versions(tmp_path: pathlib.Path) -> None:
    """Of a network to start from the last name counts; a field that is missing has its default."""
    grids = {"name": "a"}, {"name": "b", "init_from": "grid:a"}
    path, record = write(tmp_path, *grids), tmp_path / "results.jsonl"
    lines = []
    for run in read_grids(path, "elsewhere", "data"):
        fields = {"run": run.name, "config": sweep_record._deciding_fields(run)}
        del fields["config"]["ema"]
        lines.append(fields)
    opened = SweepRecord(record, {})
    for fields in lines:
        opened.add(fields)
    runs = read_grids(path, tmp_path, None)
    assert SweepRecord.open(record, runs).lines == {fields["run"]: fields for fields in lines}
    changed = read_grids(write(tmp_path, *grids, flip=True), tmp_path, None)
    with pytest.raises(UserError, match=r"holds a-.* with flip False, not True"):
        SweepRecord.open(record, changed)


def test_statistics_are_of_the_bits_of_the_training(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = [(2, [[0, 1], [-1, 0]]), (2, [1, 1, -1, -1]), (8, [0, 0])]
    views = [
        types.SimpleNamespace(kernel=types.SimpleNamespace(bits=bits, codes=np.array(codes)))
        for bits, codes in kernels
    ]
    views.append(types.SimpleNamespace(kernel=None))
    source = types.SimpleNamespace(calibration=lambda: [np.zeros(1)])
    shares: dict[str, float] = {"one": 0.25, "two": 0.75}
    monkeypatch.setattr(sweep_record.wrpn_tf, "view", lambda model: views)
    monkeypatch.setattr(sweep_record.wrpn_tf, "clipped_shares", lambda model, images: shares)
    monkeypatch.setattr(sweep_record.sources, "load", lambda config: source)
    (run,) = read_grids(write(tmp_path, {"name": "a", "bits": "4/2"}), tmp_path, None)
    found = sweep_record._statistics(None, run)
    assert found == {"zero_codes": 0.25, "clipped_activations": 0.5}
    shares.clear()
    del views[:2]
    found = sweep_record._statistics(None, run)
    assert found == {"zero_codes": None, "clipped_activations": None}


def line(**changes: Any) -> dict[str, Any]:
    """What a training came to."""
    sizes = {"width": 1.0, "wbits": 2, "abits": 4, "cost": 0.1, "weight_bytes": 1024}
    epochs = [{"test_accuracy": 0.5}, {"test_accuracy": 0.6}]
    named = {"name": "WRPN", "arch": "resnet8", "config": {}}
    return {**named, **sizes, "accuracy": 0.6, "epochs": epochs, **changes}


def names_of_rows(report: pathlib.Path) -> list[str]:
    rows = report.read_text().splitlines()[2:]
    return [row.split(" | ")[0].removeprefix("| ") for row in rows]


def test_figures_are_means_over_the_seeds(tmp_path: pathlib.Path) -> None:
    measured = {"tflite_accuracy": 0.25, "agreement": 1.0, "zero_codes": 0.0}
    lines = [
        line(accuracy=0.5, clipped_activations=0.125, **measured),
        line(accuracy=0.75, clipped_activations=None, **measured | {"zero_codes": 0.5}),
        line(width=2.0, cost=0.3125, weight_bytes=1536),
        line(wbits=1),
    ]
    write_report(lines, tmp_path / "report", Console(quiet=True))
    rows = [
        row.strip("| ").split(" | ") for row in (tmp_path / "report.md").read_text().split("\n")
    ]
    first = ["2", "62.50", "17.68", "0.100", "25.00", "100.00", "25.0", "12.5", "1.0 KiB"]
    assert rows[2] == ["WRPN", "1x", "4/2", *first]
    assert rows[3][:7] == ["WRPN", "2x", "4/2", "1", "60.00", "", "0.312"]
    assert rows[3][7:] == ["", "", "", "", "1.5 KiB"]
    assert rows[4][2] == "4/1"


def test_curves_are_means_over_the_seeds() -> None:
    epochs = [
        [{"train_accuracy": 0, "test_accuracy": share} for share in shares]
        for shares in ((0.25, 0.5), (0.75, 1.0))
    ]
    curves = sweep_report._curves([line(epochs=each) for each in epochs])
    assert curves == {"WRPN": {"1x 4/2": [0.5, 0.75]}}


def test_architectures_are_told_apart(tmp_path: pathlib.Path) -> None:
    lines = [line(arch=arch, accuracy=0.6) for arch in ("resnet8", "resnet20")]
    write_report(lines, tmp_path / "report", Console(quiet=True))
    assert names_of_rows(tmp_path / "report.md") == ["WRPN, resnet8", "WRPN, resnet20"]
    write_report(lines[:1], tmp_path / "report", Console(quiet=True))
    assert names_of_rows(tmp_path / "report.md") == ["WRPN"]


def test_names_of_grids_are_printed_as_they_are(tmp_path: pathlib.Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    write_report([line(name="[bold]x|y")], tmp_path / "report", console)
    assert isinstance(console.file, io.StringIO)
    assert "[bold]x|y" in console.file.getvalue()
    assert names_of_rows(tmp_path / "report.md") == [r"[bold]x\|y"]


@pytest.mark.parametrize("name", ["report.md", "report_cost.svg", "report_epochs.svg"])
def test_a_report_that_cannot_be_written_is_one_sentence(tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(WriteError, match=rf"Cannot write {tmp_path / name}: Is a directory\."):
        write_report([line()], tmp_path / "report", Console(quiet=True))


def test_a_second_sweep_is_refused_until_the_first_ends(tmp_path: pathlib.Path) -> None:
    with locked(tmp_path / "runs"):
        done = sweep(write(tmp_path, {"name": "a"}), tmp_path / "runs")
    assert done.returncode == 1
    said = f"error: another process is training in {tmp_path / 'runs'}; wait"
    assert done.stderr.splitlines()[-1].startswith(said)
    assert not (tmp_path / "runs").exists()


def test_a_mistake_ends_without_a_traceback(tmp_path: pathlib.Path) -> None:
    done = sweep(tmp_path / "none.json", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
