"""A user's `export.py` that hides the package is named when `wrpn_tf` is imported."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def said(folder: pathlib.Path, *options: str) -> str:
    """What a script beside the files of a folder says on stderr."""
    (folder / "use.py").write_text("import wrpn_tf")
    done = subprocess.run(
        [sys.executable, *options, folder / "use.py"],
        capture_output=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
        text=True,
    )
    return done.stderr


def test_it_is_named_in_one_sentence(tmp_path):
    (tmp_path / "export.py").touch()
    line = said(tmp_path).splitlines()[0]
    assert f"UserWarning: {tmp_path / 'export.py'} hides the package 'export' of wrpn_tf: " in line
    assert line.startswith(str(tmp_path / "use.py"))


def test_otherwise_nothing_is_said(tmp_path):
    (tmp_path / "train.py").touch()  # A usual name, which hides nothing that a script imports.
    assert said(tmp_path, "-W", "error") == ""


@pytest.mark.parametrize("command", ["prove", "train sweep"])
def test_wrpn_runs_its_own_programs(command, tmp_path):
    """Also where the current folder is the first that Python looks into."""
    package = "export" if command == "prove" else "train"
    (tmp_path / f"{package}.py").write_text("raise SystemExit('not this one')")
    code = f"from wrpn_tf import console; console.main({[*command.split(), '--help']})"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert f"wrpn {command} " in done.stdout
