"""What mutation testing runs is there, and its copies of modules do what the modules do."""

from pathlib import Path

import pytest

from benchmarks import mutation

ROOT = Path(__file__).resolve().parents[1]

DECORATED = """
import functools

@functools.cache
@functools.wraps(
    abs
)
def outer(x):
    @functools.cache
    def inner():
        return x
    return inner()

class Shape:
    @property
    def sides(self):
        return outer(3)
"""


@pytest.mark.parametrize("module", mutation.TESTS)
def test_modules_and_their_tests_are_files(module):
    assert (ROOT / module).is_file()
    for test in mutation.TESTS[module]:
        assert (ROOT / test.partition("::")[0]).exists()


def test_decorators_are_called_below_their_functions():
    found: dict = {}
    changed = mutation._with_called_decorators(DECORATED)
    assert "@" not in changed
    exec(changed, found)
    assert found["Shape"]().sides == 3
    assert found["outer"].__name__ == "abs"
    assert found["outer"].cache_info().misses == 1


@pytest.mark.parametrize("module", mutation.TESTS)
def test_modules_without_decorators_compile(module):
    changed = mutation._with_called_decorators((ROOT / module).read_text(encoding="utf-8"))
    compile(changed, module, "exec")
