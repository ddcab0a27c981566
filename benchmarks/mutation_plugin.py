"""The pytest plugin of `benchmarks.mutation`: runs a module's tests on each of its mutants.

All in one process, after one import: a mutant is chosen by a variable of the environment that
mutmut's copies of the functions read at every call. Tests that call the function run, the fastest
first, until one fails.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import gc
import json
import os
import signal
import time

import pytest
from _pytest import runner
from hypothesis import settings
from mutmut.mutation import trampoline

_CHOSEN = "MUTANT_UNDER_TEST"
_EXTRA_SECONDS = 20  # Of a busy machine, beside ten times what the tests took.


def pytest_configure() -> None:
    """Properties have the same examples in every run; no test fails for being slow."""
    settings.register_profile("mutation", settings.get_profile("ci"), max_examples=20)
    settings.load_profile("mutation")


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Writes what became of each mutant into the file that `MUTANTS` names them in.

    "killed", "late", "survived", or "not called" where no test calls its function.
    """
    with open(os.environ["MUTANTS"], encoding="utf-8") as file:
        names = json.load(file)
    calls: dict[str, set[str]] = collections.defaultdict(set)
    seconds: dict[str, float] = {}
    # What a function gave before: in another test, or without the mutant.
    caches = [each for each in gc.get_objects() if isinstance(each, functools._lru_cache_wrapper)]
    caches = [each for each in caches if str(each.__module__).startswith(("wrpn_tf", "export"))]
    os.environ[_CHOSEN] = "stats"
    for item in session.items:
        _clear(caches)
        trampoline.record_trampoline_hit = lambda name, caller=None, item=item: calls[name].add(
            item.nodeid
        )
        start = time.perf_counter()
        if _fails(item):
            raise session.Failed(f"{item.nodeid} fails without a mutant")
        seconds[item.nodeid] = time.perf_counter() - start
    items = sorted(session.items, key=lambda item: seconds[item.nodeid])
    results = {}
    for name in names:
        called = calls[name.rpartition("__mutmut_")[0]]
        os.environ[_CHOSEN] = name
        _clear(caches)
        results[name] = _test([item for item in items if item.nodeid in called], seconds)
        with open(os.environ["MUTANTS"], "w", encoding="utf-8") as file:
            json.dump(results, file)
    return True


def _clear(caches: list) -> None:
    for cache in caches:
        cache.cache_clear()


def _test(items: list[pytest.Item], seconds: dict[str, float]) -> str:
    if not items:
        return "not called"
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(_EXTRA_SECONDS + int(10 * sum(seconds[item.nodeid] for item in items)))
    try:
        return "killed" if any(map(_fails, items)) else "survived"
    except KeyboardInterrupt:
        items[0].session._setupstate.teardown_exact(None)
        return "late"
    finally:
        signal.alarm(0)


def _fails(item: pytest.Item) -> bool:
    with contextlib.redirect_stdout(None):
        reports = runner.runtestprotocol(item, log=False, nextitem=None)
    return any(report.failed for report in reports)
