"""Mutation testing: are there changes to a module that its tests do not notice?

    pip install mutmut==3.8.1
    python -m benchmarks.mutation [--module=wrpn_tf/arithmetic/scales.py] [--workers=1]

Copies the repository's files to a temporary folder, has mutmut change the functions of a module
one place at a time, runs the module's tests on every mutant, and prints the rows of
docs/mutation.md and the survivors. Modules and their tests are the rows of `TESTS`. Run it from the
repository's root.

The copy differs in three things. A decorator is a call after the function, as mutmut skips
functions with decorators. Properties are tested on 20 examples at most, the same in every run. The
fastest tests come first, as one that fails is enough. Mutants are chosen after the import; those of
functions that the module calls at its import get a process of their own.
"""

from __future__ import annotations

import ast
import collections
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from absl import flags

from wrpn_tf import command_line

_MODULE = flags.DEFINE_multi_string("module", [], "A module of `TESTS`; may repeat; none: all.")
_WORKERS = flags.DEFINE_integer("workers", 1, "Mutants that are tested at once.", 1)

# Tests of a module: files, or single tests; fast ones, without training or other processes.
TESTS = {
    "wrpn_tf/arithmetic/bits.py": ["tests/wrpn_tf/arithmetic/test_quantizers.py"],
    "wrpn_tf/arithmetic/quantization_parameters.py": [
        "tests/wrpn_tf/arithmetic/test_quantization_parameters.py"
    ],
    "wrpn_tf/arithmetic/quantizers.py": ["tests/wrpn_tf/arithmetic/test_quantizers.py"],
    "wrpn_tf/arithmetic/related_work.py": ["tests/wrpn_tf/arithmetic/test_related_work.py"],
    "wrpn_tf/arithmetic/scales.py": ["tests/wrpn_tf/arithmetic/test_quantizers.py"],
    "export/edge_tpu/rules.py": ["tests/export/edge_tpu/test_rules.py"],
    "export/edge_tpu/operator_rules.py": ["tests/export/edge_tpu/test_rules.py"],
    "export/realization/accumulator_range.py": [
        "tests/export/realization/test_accumulator_range.py"
    ],
    "export/kernel_sets/ideal.py": ["tests/export/kernel_sets/test_ideal.py"],
    "export/kernel_sets/requantization.py": ["tests/export/kernel_sets/test_rules.py"],
    "export/kernel_sets/thresholds.py": ["tests/export/kernel_sets/test_thresholds.py"],
}

# The examples of Hypothesis are the same in every run, and no mutant dies of a slow machine.
_PYTEST = ["-q", "--hypothesis-profile=mutation", "--hypothesis-seed=0"]
_EXAMPLES = 20
_CONFTEST = f"""
import json, os
from hypothesis import settings

settings.register_profile(
    "mutation", settings.get_profile("ci"), max_examples={_EXAMPLES}, derandomize=True
)

def pytest_collection_modifyitems(items):
    if os.path.exists("mutmut-stats.json"):
        with open("mutmut-stats.json") as file:
            seconds = json.load(file)["duration_by_test"]
        items.sort(key=lambda item: seconds.get(item.nodeid, 0))
"""


def main() -> None:
    """Runs the program."""
    if importlib.util.find_spec("mutmut") is None:
        raise ValueError("mutmut is not installed; pip install mutmut==3.8.1 and run again.")
    chosen = _MODULE.value or list(TESTS)
    unknown = sorted(set(chosen) - set(TESTS))
    if unknown:
        raise ValueError(f"No tests are known for {unknown[0]}; add a row to `TESTS`.")
    print("| module | mutants | killed | survivors |\n|---|---|---|---|", flush=True)
    for module in chosen:
        with tempfile.TemporaryDirectory() as folder:
            _report(module, pathlib.Path(folder))


def _report(module: str, folder: pathlib.Path) -> None:
    _copy(folder, module)
    _run_mutmut("run", f"--max-children={_WORKERS.value}", folder=folder)
    results = json.loads((folder / "mutants" / f"{module}.meta").read_text())
    codes = dict(results["exit_code_by_key"])
    at_import = _called_at_import((folder / module).read_text())
    for name, code in codes.items():
        if code == 33 or (code == 0 and re.sub(r".*\.x_|__mutmut_\d+$", "", name) in at_import):
            codes[name] = _run_alone(name, module, folder)
    survivors = [name for name, code in codes.items() if code == 0]
    counts = collections.Counter(codes.values())
    killed = len(codes) - len(survivors)
    print(
        f"| `{module}` | {len(codes)} | {killed} ({killed / len(codes):.1%}) | {len(survivors)} |"
    )
    print(f"<!-- exit codes {dict(counts)} -->")
    for name in survivors:
        print(_run_mutmut("show", name, folder=folder).strip(), flush=True)


def _copy(folder: pathlib.Path, module: str) -> None:
    """Copies what git would commit, and prepares it for mutmut."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for path in filter(os.path.isfile, listed.split("\0")):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path)
    source = folder / module
    source.write_text(_with_called_decorators(source.read_text()))
    (folder / "tests" / "conftest.py").write_text(_CONFTEST)
    for path in folder.glob("tests/**/test_*.py"):
        text = re.sub(r"max_examples=\d+", f"max_examples={_EXAMPLES}", path.read_text())
        path.write_text(text)
    lists = {
        "source_paths": [module],
        "also_copy": ["wrpn_tf", "train", "export", "tests", "pyproject.toml"],
        "pytest_add_cli_args": _PYTEST,
        "pytest_add_cli_args_test_selection": TESTS[module],
    }
    # TensorFlow's threads do not survive a fork: mutants come from a process without any.
    config = ["[mutmut]", "process_isolation = forkserver"]
    config += ["timeout_multiplier = 2", "timeout_constant = 30"]  # Seconds, of a busy machine.
    config += [f"{name} =\n    " + "\n    ".join(values) for name, values in lists.items()]
    (folder / "setup.cfg").write_text("\n".join(config) + "\n")


def _with_called_decorators(source: str) -> str:
    """``@f`` above a function becomes ``name = f(name)`` below it."""
    removed, added = set[int](), collections.defaultdict[int, list[str]](list)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            removed |= set(range(node.decorator_list[0].lineno, node.lineno))
            added[node.end_lineno or 0] += [
                f"{' ' * node.col_offset}{node.name} = {ast.unparse(decorator)}({node.name})"
                "  # pragma: no mutate"
                for decorator in reversed(node.decorator_list)
            ]
    lines = [
        line
        for number, text in enumerate(source.splitlines(), 1)
        for line in ([] if number in removed else [text]) + added[number]
    ]
    return "\n".join(lines) + "\n"


def _called_at_import(source: str) -> set[str]:
    """Names of the functions that a module's own statements call."""
    return {
        node.func.id
        for statement in ast.parse(source).body
        if not isinstance(statement, (ast.FunctionDef, ast.ClassDef))
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def _run_alone(name: str, module: str, folder: pathlib.Path) -> int:
    """Pytest's exit code for a mutant that is chosen before anything is imported."""
    command = [sys.executable, "-m", "pytest", "-x", *_PYTEST, *TESTS[module]]
    environment = os.environ | {"MUTANT_UNDER_TEST": name, "PYTHONPATH": "."}
    done = subprocess.run(command, cwd=folder / "mutants", env=environment, capture_output=True)
    return done.returncode


def _run_mutmut(*arguments: str, folder: pathlib.Path) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        ends = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise RuntimeError(f"mutmut {arguments[0]} failed:\n{ends}")
    return re.sub(".*\r", "", done.stdout)


if __name__ == "__main__":
    command_line.run(main, errors=(ValueError,))
