"""Python environments for what cannot share this one."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence

_SECONDS = 1800
"""How long pip, or a program in an environment, may take."""


class UnavailableError(Exception):
    """Something cannot be measured here; the message says why."""


def python(
    folder: pathlib.Path | None, requirements: Sequence[str], maker: str = sys.executable
) -> str:
    """The interpreter of an environment, which is made unless it is there.

    Args:
      folder: of all environments; None: none is made.
      requirements: for pip; the environment has the name of the first.
      maker: the Python that makes it.

    Raises:
      UnavailableError: there is no folder, or pip cannot install the requirements.
    """
    if folder is None:
        raise UnavailableError("needs an environment of its own: --environments=FOLDER")
    home = folder.absolute() / requirements[0]
    stamp, found = home / "requirements.json", str(home / "bin" / "python")
    if not stamp.exists() or json.loads(stamp.read_text()) != list(requirements):
        run(maker, "-m", "venv", "--clear", str(home))
        run(found, "-m", "pip", "install", "--quiet", *requirements)
        stamp.write_text(json.dumps(list(requirements)))
    return found


def run(*command: str) -> str:
    """What a command prints.

    Raises:
      UnavailableError: it fails; the message is the line that says why.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(str(error)) from error
    if done.returncode:
        said = last_line(done.stderr or done.stdout)
        raise UnavailableError(said or f"ended with status {done.returncode}")
    return done.stdout


def last_line(text: str) -> str:
    """The last line that says something, which is where Python says what is wrong; or pip's."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]  # Of pip, the last is the sum.
    return (errors or lines or [""])[-1]
