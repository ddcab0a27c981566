"""The built wheel works outside the checkout."""

import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    process = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout


def test_the_quick_start_runs_from_the_wheel_in_another_folder(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", f"--wheel-dir={tmp_path}", ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("wrpn_tf-*.whl")
    environment = tmp_path / "environment"
    venv.create(environment)
    # The packages of this environment, without its links to the checkout, which a .pth makes.
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib"))
    python = environment / "bin" / "python"
    run(*pip, f"--python={python}", "install", "--no-deps", wheel, cwd=tmp_path)
    (tmp_path / "export.py").write_text("raise SystemExit('not this one')\n")

    assert "verify" in run(environment / "bin" / "wrpn", "--help", cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Quick start")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    code = code.replace("epochs=20", "epochs=1, verbose=0")
    after = "print(wrpn_tf.models.load_pretrained('digits-cnn-2x-w2a4').name, wrpn_tf.__file__)"
    (elsewhere / "quick.py").write_text(f"{code}\n{after}\n")
    *_, verified, last = run(python, "quick.py", cwd=elsewhere).splitlines()
    assert verified == "verified"
    assert last.startswith(f"digits_cnn {environment}")
    run(environment / "bin" / "wrpn", "edgetpu", "elsewhere/digits.tflite", cwd=tmp_path)
