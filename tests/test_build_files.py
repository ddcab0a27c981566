"""Bazel's BUILD files against the files they describe, without Bazel."""

import ast
import collections
import functools
import re
import subprocess
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNNER = "tests/run_pytest.py"  # The main of every test, and so in the srcs of each.


def tracked(pattern: str) -> list[str]:
    """The repository's files that match a Git pattern, new ones included, ignored ones not."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    if listing.returncode:
        pytest.skip(f"not a Git checkout: {listing.stderr.strip()}")
    return sorted(path for path in listing.stdout.split("\0") if path and (ROOT / path).exists())


def package_of(path: str) -> str:
    """The nearest folder at or above a file that has a BUILD file."""
    return next(str(f) for f in PurePosixPath(path).parents if (ROOT / f / "BUILD").exists())


def glob(package: str, include: list[str], exclude: tuple = (), allow_empty: bool = False):
    """Bazel's glob: `*` stays within a folder, `**/` is any number of them."""

    def matches(path: str, patterns) -> bool:
        regexes = (
            re.escape(p).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*") for p in patterns
        )
        return any(re.fullmatch(regex, path) for regex in regexes)

    own = [p for p in tracked("*") if package_of(p) == package]
    names = [str(PurePosixPath(p).relative_to(package)) for p in own]
    found = [n for n in names if matches(n, include) and not matches(n, exclude)]
    assert found or allow_empty, f"{package}/BUILD: glob({include}) finds nothing"
    return found


@functools.cache
def targets() -> list[tuple[str, str, dict]]:
    """The rule, label and attributes of every Python target.

    BUILD files are Python by syntax, so Python evaluates them, with rules that only take notes.
    """
    found: list[tuple[str, str, dict]] = []

    def declare(rule: str, package: str, name: str, **attributes):
        found.append((rule, f"//{package}:{name}", attributes))

    for build in tracked("BUILD") + tracked("**/BUILD"):
        package = str(PurePosixPath(build).parent)
        rules = ("py_library", "py_binary", "py_test")
        scope = {rule: functools.partial(declare, rule, package) for rule in rules}
        scope |= {name: lambda *_, **__: None for name in ("load", "package", "exports_files")}
        scope["glob"] = functools.partial(glob, package)
        exec(compile(ast.parse((ROOT / build).read_text()), build, "exec"), scope)
    return found


def owners() -> dict[str, list[str]]:
    """The labels of the targets that list a file in their srcs, by file."""
    labels = collections.defaultdict(list)
    for _, label, attributes in targets():
        for source in attributes.get("srcs", ()):
            labels[f"{label[2:].split(':')[0]}/{source}"].append(label)
    return labels


def test_every_python_file_belongs_to_exactly_one_target():
    labels = owners()
    wrong = {
        path: labels.get(path, "no target: its folder needs a BUILD file, or a line in one")
        for path in tracked("*.py")
        if len(labels.get(path, ())) != 1 and path != RUNNER
    }
    assert not wrong


def test_every_source_exists():
    assert not set(owners()) - set(tracked("*.py"))


def test_the_runner_is_the_main_of_every_test():
    tests = [attributes for rule, _, attributes in targets() if rule == "py_test"]
    assert tests
    assert all(test["main"] == PurePosixPath(RUNNER).name in test["srcs"] for test in tests)


def test_programs_are_binaries():
    binaries = {
        f"{label[2:].split(':')[0]}/{attributes['srcs'][0]}"
        for rule, label, attributes in targets()
        if rule == "py_binary"
    }
    programs = {
        path
        for path in tracked("*.py")
        if path != RUNNER and '\nif __name__ == "__main__":' in (ROOT / path).read_text()
    }
    assert binaries == programs, "the PROGRAMS of a BUILD file and the __main__ of a module differ"
