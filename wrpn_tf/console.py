"""The `wrpn` command: every program of the package under one name.

    wrpn verify --workdir=runs/w2a4 --model=model.tflite

is `python -m export.verify` with the same flags. It also works in a folder that has an `export.py`
or a `train.py` of its own, which `python -m` would run instead.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib.util
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import wrpn_tf
from wrpn_tf import command_line, siblings

PROGRAMS = {
    "train digits": "train.digits",
    "train cifar10": "train.cifar10",
    "train imagenet": "train.imagenet",
    "train sweep": "train.sweep",
    "quantize": "export.quantize",
    "choose": "train.choose",
    "export": "export.tflite",
    "c": "export.c",
    "verify": "export.verify",
    "report": "export.report",
    "prove": "export.prove",
    "evaluate": "export.evaluate",
    "benchmark": "export.benchmark",
    "edgetpu": "export.edgetpu",
    "ethosu": "export.ethosu",
    "cost": "wrpn_tf.cost",
    "plot": "wrpn_tf.plot",
    "demo": "train.demo",
    "publish": "train.publish",
}
"""The module behind each command."""

COMPLETION = """\
if [ -n "${ZSH_VERSION-}" ]; then autoload -U bashcompinit && bashcompinit; fi
_wrpn() {
  local IFS=$'\\n'
  COMPREPLY=($(wrpn complete "${COMP_WORDS[@]:1:$COMP_CWORD}" 2>/dev/null))
  case "${COMPREPLY[0]-}" in *=) compopt -o nospace 2>/dev/null;; esac
}
complete -o default -F _wrpn wrpn
"""


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Runs the program that the command line names, and ends the process with its status."""
    words = sys.argv[1:] if words is None else list(words)
    match words:
        case ["--help" | "-h" | "help"]:
            print(overview())
            sys.exit(0)
        case ["--version"]:
            print(f"wrpn-tf {wrpn_tf.__version__}")
            sys.exit(0)
        case ["completion"]:
            print(COMPLETION, end="")
            sys.exit(0)
        case ["complete", *typed]:
            print("\n".join(candidates(typed)))
            sys.exit(0)
    command = command_of(words)
    if command is None:
        sys.exit(f"error: {_problem(words)}; wrpn --help lists the commands")
    rest = words[len(command.split()) :]
    siblings.uncover(PROGRAMS[command].split(".")[0])
    command_line.run_module(PROGRAMS[command], f"wrpn {command}", rest)


def command_of(words: Sequence[str]) -> str | None:
    """The command that the words begin with; None where there is none."""
    return next((command for command in PROGRAMS if _begins(words, command.split())), None)


def overview() -> str:
    """What `wrpn --help` prints: each command and the first sentence of its program."""
    width = max(map(len, PROGRAMS))
    lines = [f"  {command:{width}}  {_purpose(module)}" for command, module in PROGRAMS.items()]
    return "\n".join(
        [
            "wrpn COMMAND [--name=value ...]",
            "",
            *lines,
            "",
            "wrpn COMMAND --help shows the flags of a command.",
            'eval "$(wrpn completion)" completes commands and flags in bash and zsh.',
        ]
    )


def candidates(typed: Sequence[str]) -> list[str]:
    """How the last of the words `typed` can go on: words of commands, or flags with their `=`."""
    *before, last = typed or [""]
    command = command_of(before)
    if command is None:
        known = (name.split() for name in PROGRAMS)
        following = {name[len(before)] for name in known if _begins(name, before, longer=True)}
        return sorted(word for word in following if word.startswith(last))
    if not last.startswith("-"):
        return []
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        command_line.run_module(PROGRAMS[command], f"wrpn {command}", ["--help"])
    flags = re.findall(r"^  --(\[no\])?(\w+)", shown.getvalue(), re.MULTILINE)
    names = [f"--{name}" if boolean else f"--{name}=" for boolean, name in flags]
    return [name for name in names if name.startswith(last)]


def _begins(words: Sequence[str], start: Sequence[str], longer: bool = False) -> bool:
    return list(words[: len(start)]) == list(start) and len(words) >= len(start) + longer


def _problem(words: Sequence[str]) -> str:
    if not words:
        return "no command"
    if more := [name.split()[1] for name in PROGRAMS if name.startswith(f"{words[0]} ")]:
        return f"wrpn {words[0]} needs one of {', '.join(more)}"
    near = difflib.get_close_matches(words[0], PROGRAMS, 1)
    return f"there is no command {words[0]!r}" + (f" (did you mean {near[0]}?)" if near else "")


def _purpose(module: str) -> str:
    """The first sentence of a program's docstring, read without importing the program."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (docstring or "").split("\n")[0].rstrip(":.")
