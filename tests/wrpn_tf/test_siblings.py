"""A user's `export.py` that hides the package is named when `wrpn_tf` is imported."""

import pathlib
import subprocess
import sys

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
