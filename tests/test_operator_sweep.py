"""Extreme graphs of one operator: all operators, valid, and the same from the same seed."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import extreme_operators, operator_sweep, operator_trial
from export.ir.operators import OPERATORS
from export.ir.validation import validate


def test_every_operator_is_drawn():
    drawn = {
        type(extreme_operators.one_operator(kind, 0)[0].operators[0])
        for kind in extreme_operators.KINDS
    }
    assert drawn == set(OPERATORS.values())


@pytest.mark.parametrize("kind", extreme_operators.KINDS)
def test_graphs_are_valid_extreme_and_repeat(kind):
    ends = 0
    for seed in range(12):
        graph, inputs = extreme_operators.one_operator(kind, seed)
        validate(graph)
        again, same = extreme_operators.one_operator(kind, seed)
        assert again.tensors == graph.tensors
        for name, codes in inputs.items():
            assert codes.dtype == np.int8 and codes.shape[1:] == graph.tensors[name].shape[1:]
            assert np.array_equal(same[name], codes)
            ends += bool(np.isin(codes, (-128, 127)).mean() > 0.8)
    assert ends


@pytest.mark.parametrize("kernel_set", ["xnnpack", "optimized", "reference"])
@pytest.mark.parametrize("kind", extreme_operators.KINDS)
def test_the_executor_is_right_at_extremes(kind, kernel_set):
    for seed in range(6):
        outcome = operator_trial.try_graph(kind, seed, kernel_set)
        expected = ("compared", "refused") if kind == "SOFTMAX" else ("compared",)
        assert outcome.what in expected, outcome


def test_what_kills_the_process_is_counted_and_found(monkeypatch):
    trials = operator_sweep.Isolation()
    tried = []

    class Child:
        def __call__(self, kind, seeds, kernel_set):
            tried.append(seeds)
            if 5 in seeds:
                raise ValueError("the interpreter died on this file: SIGABRT")
            if 2 in seeds:
                raise ValueError("the interpreter did not finish within 1 seconds")
            return [operator_trial.Outcome(seed, "compared", 10) for seed in seeds]

        def close(self):
            tried.append("closed")

    monkeypatch.setattr(operator_sweep, "Isolated", lambda *_, seconds: Child())
    found = {outcome.seed: outcome.what for outcome in trials("ADD", list(range(8)), "xnnpack")}
    assert found == dict.fromkeys(range(8), "compared") | {5: "aborted", 2: "hung"}
    assert list(found) == list(range(8))
    assert tried.count("closed") == 7  # 8 graphs; 4, 2 and 1 with either of the two.


def test_the_program_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "sweep.jsonl"
    command = [
        *(sys.executable, "-m", "benchmarks.operator_sweep", f"--results={path}"),
        *("--operators=PAD,ADD", "--kernels=reference"),
    ]
    for graphs, rows in ((50, 2), (120, 6)):
        done = subprocess.run(
            [*command, f"--graphs={graphs}"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        written = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(written) == rows
        assert {row["wrong"] for row in written} == {0}
    assert sorted((row["operator"], row["first"], row["graphs"]) for row in written) == [
        *(("ADD", 0, 50), ("ADD", 50, 50), ("ADD", 100, 20)),
        *(("PAD", 0, 50), ("PAD", 50, 50), ("PAD", 100, 20)),
    ]
    assert "PAD" in done.stdout and "120" in done.stdout
