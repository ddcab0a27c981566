"""The cost report in its three forms, and the programs at a shell."""

import csv
import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

import wrpn_tf
from wrpn_tf.reporting import cost_report


@pytest.fixture(scope="module")
def facts():
    return cost_report.report(
        "digits_cnn", width=2, wbits=2, abits=4, policy="paper", batch_sizes=(1, 8)
    )


def test_facts_are_those_of_measure_cost(facts):
    wide = wrpn_tf.models.skeleton("digits_cnn", width=2)
    measured = wrpn_tf.measure_cost(wide, weight_bits=2, activation_bits=4, policy="paper")
    baseline = wrpn_tf.measure_cost(wrpn_tf.models.skeleton("digits_cnn"))
    assert facts["total"]["cost"] == measured.compute / baseline.compute
    assert facts["total"]["bit_operations"] == measured.bit_operations
    assert facts["total"]["shipped_bytes"] == measured.shipped_bytes
    assert [layer["name"] for layer in facts["layers"]] == [layer.name for layer in measured.layers]
    assert [row["batch_size"] for row in facts["memory"]] == [1, 8]
    assert facts["memory"][0]["training_bytes"] == measured.memory.training


def test_a_cost_is_printed_as_a_table():
    cost = wrpn_tf.measure_cost(wrpn_tf.models.skeleton("digits_cnn"), weight_bits=2)
    lines = str(cost).splitlines()
    assert len(lines) == len(cost.layers) + 2 and len(set(map(len, lines[1:]))) == 1
    assert lines[-1].split() == ["total", f"{cost.fmas:,}", "FMAs", f"{cost.weights:,}", "weights"]


def test_csv_has_the_layers_and_the_total(facts):
    rows = list(csv.DictReader(io.StringIO(cost_report.to_csv(facts))))
    assert [row["name"] for row in rows] == [layer["name"] for layer in facts["layers"]] + ["total"]
    for column in ("fmas", "bit_operations", "weights", "shipped_bytes"):
        assert sum(int(row[column]) for row in rows[:-1]) == int(rows[-1][column])
        assert int(rows[-1][column]) == facts["total"][column]


def test_tables_fit_a_terminal(facts):
    console = Console(file=io.StringIO(), width=80)
    cost_report.print_tables(facts, console)
    text = console.file.getvalue()
    assert all(f" {layer['name']} " in text for layer in facts["layers"])


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_cost_program():
    done = run("wrpn_tf.cost", "--arch=digits_cnn", "--width=2", "--wbits=2", "--format=json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["width"] == 2
    done = run("wrpn_tf.cost", "--arch=digits_cnn", "--batch_size=1,x")
    assert done.returncode == 1
    assert "error: --batch_size must be positive integers" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_plot_program(tmp_path):
    output = tmp_path / "memory.svg"
    done = run("wrpn_tf.plot", "memory", "--arch=digits_cnn", f"--output={output}")
    assert done.returncode == 0, done.stderr
    assert output.read_text().startswith("<?xml")
    done = run("wrpn_tf.plot", "codes", f"--output={output}")
    assert done.returncode == 1
    assert "error: this figure needs --model" in done.stderr
