"""`benchmarks.run`: turns of programs in processes of their own, and the whole in small."""

import json

from absl import flags
from absl.testing import flagsaver
from rich.console import Console

from benchmarks import run
from benchmarks.suite import conditions, memory, report, training
from benchmarks.suite.settings import Settings, quartiles

PROGRAMS = "tests.counted_steps"


def source(log, name: str, **variables: str) -> training.Source:
    variables |= {"STEP_LOG": str(log), "STEP_NAME": name}
    return training.Source(title=name, module=PROGRAMS, variables=variables)


def test_programs_take_turns_and_one_that_ends_has_its_reason(tmp_path):
    log = tmp_path / "log"
    sources = (
        source(log, "a"),
        source(log, "b", STEP_MOST="3"),
        training.Source(title="c", module="tests.no_module", variables={"C": ""}),
        training.Source(title="d", module=PROGRAMS, requirements=("numpy",)),
    )
    rows = training.step_rows("digits", Settings(rounds=3, steps=2, exports=1), sources)
    turn = [f"{{}} {name} digits CNN" for name in ("float", "float", "last", "last")]
    first, second = ([line.format(name) for line in turn] for name in "ab")
    assert log.read_text().splitlines() == [*first, *second, *first, *second[:3], *first]

    measured = {row["program"]: row for row in rows if "reason" not in row}
    assert list(measured) == ["a: float", "a: last"]
    assert measured["a: float"]["to_first"] == measured["a: float"]["to_float"] == [1, 1, 1]
    times, floats = (measured[f"a: {name}"]["seconds"] for name in ("last", "float"))
    assert len(times) == 3
    assert measured["a: last"]["to_first"] == quartiles(times, floats)
    assert {row["program"]: row["reason"] for row in rows if "reason" in row} == {
        "b": "ValueError: no step is left",
        "c": "ModuleNotFoundError: No module named 'tests.no_module'",
        "d": "needs an environment of its own: --environments=FOLDER",
    }


def test_quartiles_are_those_of_ratios_round_by_round():
    assert quartiles([2, 9, 4, 30, 10], [1, 3, 1, 6, 2]) == [3, 4, 5]


def test_quick(tmp_path, capsys):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    output, plot = tmp_path / "run.json", tmp_path / "run.svg"
    with flagsaver.flagsaver(quick=True, claims=["export"], output=str(output), plot=str(plot)):
        run.main()
    found = json.loads(output.read_text())
    assert [row["step"] for row in found["rows"]["export"]] == [
        "ours: quantize and calibrate",
        "ours: settle",
        "ours: export",
        "converter, float",
        "converter, post-training int8",
    ]
    assert all(len(row["seconds"]) == 1 for row in found["rows"]["export"])
    assert {"tensorflow", "tf_keras", "numpy", "python"} <= set(found["versions"])
    assert found["warning"] == conditions.warning(found["load"][0])
    assert "ours: settle" in capsys.readouterr().out
    assert plot.read_text().startswith("<?xml")


def test_memory_is_measured_in_a_process_of_its_own():
    (row,) = memory.memory_rows("digits", Settings(rounds=1, steps=1, exports=1, alone=True))
    peak, seconds = row.pop("peak"), row.pop("seconds")
    assert row == {
        "network": "digits",
        "program": "quantized packed, 4 bits",
        "width": 1,
        "batch": 16,
        "kept": 1_120,
        "predicted": 388_096,
    }
    assert min(peak, seconds) > 0
    rows = {"memory": [row | {"peak": peak, "seconds": seconds}]}
    console = Console(record=True, width=200)
    report.show(rows, console)
    assert f"{peak / 1e6:,.0f}" in console.export_text()
    (axes,) = report.figure(rows).axes
    assert axes.lines[0].get_ydata() == [peak / 1e6]


def test_a_machine_that_is_not_quiet_is_said_to_be():
    assert conditions.warning(0.5) is None
    assert "load average 0.6 " in conditions.warning(0.6)
