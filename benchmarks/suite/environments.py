"""Python environments for what cannot share this one."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence


class UnavailableError(Exception):
    """Something cannot be measured here; the message says why."""


def python(folder: pathlib.Path | None, requirements: Sequence[str]) -> str:
    """The interpreter of an environment, which is made unless it is there.

    Args:
      folder: of all environments; None: none is made.
      requirements: for pip; the environment has the name of the first.

    Raises:
      UnavailableError: there is no folder, or pip cannot install the requirements.
    """
    if folder is None:
        raise UnavailableError("needs an environment of its own: --environments=FOLDER")
    home = folder.absolute() / requirements[0]
    stamp, found = home / "requirements.json", str(home / "bin" / "python")
    if not stamp.exists() or json.loads(stamp.read_text()) != list(requirements):
        _run(sys.executable, "-m", "venv", "--clear", str(home))
        _run(found, "-m", "pip", "install", "--quiet", *requirements)
        stamp.write_text(json.dumps(list(requirements)))
    return found


def last_line(text: str) -> str:
    """The last line that says something, which is where Python and pip say what is wrong."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UnavailableError(f"{' '.join(command[1:])}: {last_line(done.stderr or done.stdout)}")
