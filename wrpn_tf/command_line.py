"""The shell of the programs: flags, `--help`, mistakes told in one sentence, ^C.

A program's module declares its flags with absl and ends with

    if __name__ == "__main__":
        command_line.run(main)

What takes long to import is imported in `main`, which is called once the flags are known to be
right: help and mistakes take no time.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pathlib
import re
import runpy
import select
import shutil
import signal
import sys
import tempfile
import textwrap
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from absl import app, flags

from wrpn_tf.terminal import printable

_NARROWEST, _WIDEST = 40, 100
_LINES = "\n\t"
_HELP = {"--help", "-help", "-h", "-?"}
_REQUIRED = "must have a value other than None"
_NOTICE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog|I\d{4} |To enable the following instr"
)
_NO_GPU = re.compile(rb"E\d{4} .*(cuInit|CUDA)")
_GPU = pathlib.Path("/dev/nvidia0")
_TRAIN_EXTRA = ("tensorflow", "tf_keras", "tensorflow_model_optimization", "tensorflow_datasets")
_PROBLEM = re.compile(r"flag --(?P<name>[^=]+)=(?P<value>.*?): (?P<reason>.*)", re.DOTALL)

_called_as = ""
"""How a program was called that was not called as `python -m module`."""


def run_module(module: str, called_as: str, arguments: Sequence[str]) -> NoReturn:
    """Runs a module as `python -m module` does, with a name of its own in its help.

    Args:
        module: Dotted name of a program.
        called_as: What was typed instead of `python -m module`.
        arguments: Of the command line.
    """
    global _called_as
    _called_as = called_as
    sys.argv = [called_as, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    raise AssertionError(f"{module} ends the process")


def run(
    program: Callable[..., int | None],
    *,
    arguments: str = "",
    groups: Mapping[str, Collection[str]] | None = None,
    errors: tuple[type[Exception], ...] = (ValueError,),
    interrupted: str = "the same command begins anew",
) -> NoReturn:
    """Runs a program on the command line and ends the process.

    The status is what the program returns. It is 0 for `--help`, which lists the program's own
    flags; 1, with one sentence on stderr, for a wrong flag or argument and for the user's errors;
    130 for ^C, and 1 where who reads the output is gone.

    Args:
        program: Called without arguments, or with the list of the command line's `arguments`.
        arguments: What stands on the command line beside flags, as in 'model.tflite [more.tflite]';
            nothing may if it is empty.
        groups: By title in the help, the names of flags. Those that the program's module defines
            and that are in no group come first; those of libraries are left to `--helpfull`.
        errors: What is the user's mistake, told by the exception's message; all else has a
            traceback.
        interrupted: What to do after ^C.
    """

    def parse(argv: list[str]) -> list[str]:
        argv = list(map(_expanded, argv))
        given = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
        if _HELP.intersection(given):
            width = max(_NARROWEST, min(shutil.get_terminal_size().columns, _WIDEST))
            print("\n".join(_help(arguments, groups or {}, width)), flush=True)
            sys.exit(0)
        try:
            _, *found = flags.FLAGS(argv)
        except (flags.Error, ValueError) as error:  # ValueError: `--noflag=value`.
            sys.exit(f"error: {_sentence(error)}")
        for name in flags.FLAGS:
            flag = flags.FLAGS[name]
            if flag.value in ("", []) and _is_required(flag):  # Of a shell's variable, mostly.
                sys.exit(f"error: --{name} needs a value: --{name}=...")
        if found and not arguments:
            sys.exit(f"error: unexpected argument {found[0]!r}; options are written --name=value")
        return found

    def start(found: list[str]) -> int | None:
        try:
            status = program(found) if arguments else program()
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except ModuleNotFoundError as error:
            if error.name not in _TRAIN_EXTRA:
                raise
            sys.exit(
                f"error: this needs {error.name}, which is not installed: "
                "install this package with its extra train, in a checkout pip install '.[train]'"
            )
        except errors as error:
            sys.exit(f"error: {printable(str(error), keep=_LINES)}")
        return status

    sys.meta_path.insert(0, _QuietTensorFlow())
    try:
        app.run(start, flags_parser=parse)
    except KeyboardInterrupt:
        print(f"interrupted; {interrupted}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        sys.exit(1)
    raise AssertionError("absl ends the process")


def model_files(
    program: str, found: Sequence[str], named: Sequence[str], most: int | None = None
) -> list[str]:
    """The .tflite files of a program, which takes them as arguments or by --model=.

    Args:
        program: Its module.
        found: The arguments.
        named: The values of --model.
        most: How many the program takes; None: any number.

    Raises:
        ValueError: There are none, or too many.
    """
    paths = [*found, *named]
    if not paths:
        raise ValueError(f"name a .tflite file: python -m {program} model.tflite")
    if most is not None and len(paths) > most:
        raise ValueError(f"name one .tflite file, not {len(paths)}: {', '.join(paths)}")
    return paths


def require_ending(flag: flags.FlagHolder[str | None], *endings: str) -> None:
    """Raises ValueError where a flag is given whose path has none of the endings."""
    if flag.value and pathlib.PurePath(flag.value).suffix not in endings:
        raise ValueError(f"--{flag.name}={flag.value} must end in {' or '.join(endings)}")


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Imports TensorFlow without the notices that its C++ prints while no log level is set yet."""

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def quietly(module: types.ModuleType) -> None:
            with _without_notices():
                execute(module)
                module.config.list_physical_devices()  # Looks for GPUs, and says so.
            # tf_keras uses what TensorFlow calls deprecated; no user can mend that.
            module.get_logger().addFilter(lambda record: record.module != "deprecation")

        spec.loader.exec_module = quietly  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """Holds back what is written to stderr; in the end all but notices is written after all."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            for line in written:
                absent = not _GPU.exists() and _NO_GPU.match(line)
                if not absent and not _NOTICE.match(line):
                    os.write(2, line)


def _reader_is_gone() -> bool:
    """Whether it is stdout that nobody reads; what it still holds is dropped then."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _help(arguments: str, groups: Mapping[str, Collection[str]], width: int) -> Iterator[str]:
    """The lines of the help: how to call the program, its module's docstring, its flags."""
    main = sys.modules["__main__"]
    script = pathlib.Path(sys.argv[0]).name
    plainly = f"python -m {main.__spec__.name}" if main.__spec__ else f"python {script}"
    called_as = _called_as or plainly
    yield " ".join(filter(None, [called_as, arguments, "[--name=value ...]"]))
    docstring = (main.__doc__ or "").replace(plainly, called_as)
    for paragraph in docstring.strip().split("\n\n"):
        # An indented paragraph keeps its lines: a command, a list.
        lines = paragraph.splitlines()
        yield from ["", *(lines if lines[0].startswith(" ") else textwrap.wrap(paragraph, width))]
    grouped = {name for group in groups.values() for name in group}
    own = {
        flag.name: flag
        for module, defined in flags.FLAGS.flags_by_module_dict().items()
        for flag in defined
        if module == sys.argv[0] or flag.name in grouped  # absl knows the main module by its path.
    }
    names = {name: f"  --{'[no]' * flag.boolean}{name}" for name, flag in own.items()}
    indent = 2 + max(map(len, names.values()), default=0)
    for title, group in {"Flags": own.keys() - grouped, **groups}.items():
        chosen = [name for name in own if name in group]
        if chosen:
            yield from ["", f"{title}:"]
        for name in chosen:
            first, *more = textwrap.wrap(_description(own[name]), width - indent)
            yield names[name].ljust(indent) + first
            yield from (" " * indent + line for line in more)
    yield from ["", "--helpfull lists the flags of the libraries too."]


def _description(flag: flags.Flag) -> str:
    """A flag's help with its choices and its default."""
    choices = getattr(flag.parser, "enum_values", None)
    sentences = [_own_help(flag)]
    if choices:
        sentences.append(f"One of {', '.join(choices)}.")
    if _is_required(flag):
        sentences.append("Required.")
    elif flag.default is not None and flag.default != []:
        sentences.append(f"Default: {_text(flag.default)}.")
    return " ".join(sentences)


def _is_required(flag: flags.Flag) -> bool:
    return any(_REQUIRED in validator.message for validator in flag.validators)


def _own_help(flag: flags.Flag) -> str:
    """What was declared: absl puts the choices of an enum before it."""
    return re.sub(r"^<[^>]*>: ", "", flag.help.strip().split(";\n    repeat this option")[0])


def _expanded(argument: str) -> str:
    """An argument with the user's home for the ~ of --name=~/path, which bash leaves."""
    name, equals, value = argument.partition("=")
    if not name.startswith("-") or not value.startswith("~/"):
        return argument
    return name + equals + os.path.expanduser(value)


def _text(value: Any) -> str:
    """A flag's value as it is written on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _sentence(error: Exception) -> str:
    """What is wrong with a flag, what was expected, and what to do."""
    text = str(error).split("\nflag --")[0]  # The first of several.
    if isinstance(error, flags.UnrecognizedFlagError):
        name = error.flagname.split("=")[0]
        near = difflib.get_close_matches(name, flags.FLAGS, 1)
        hint = f"; did you mean --{near[0]}?" if near else "; --help lists the flags"
        return f"there is no flag --{name}{hint}"
    missing = re.fullmatch(r"Missing value for flag -*(.*)", text)
    if missing:
        return f"--{missing[1]} needs a value: --{missing[1]}=..."
    problem = _PROBLEM.fullmatch(text)
    if problem is None or problem["name"] not in flags.FLAGS:
        return text
    flag = flags.FLAGS[problem["name"]]
    if _REQUIRED in problem["reason"]:
        return f"--{flag.name}=... must be given: {_own_help(flag)}"
    if problem["reason"].startswith("must "):  # One of our validators.
        return f"--{flag.name}={_text(flag.value)} {problem['reason']}"
    choices = getattr(flag.parser, "enum_values", None)
    expected = f"one of {', '.join(choices)}" if choices else flag.parser.syntactic_help
    expected = "true or false" if flag.boolean else expected
    return f"--{flag.name}={problem['value']} must be {expected}" if expected else text
