"""The table and the plot of what networks cost on small devices."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks import devices

ROW = devices.Row(
    name="w2a2",
    network="resnet20 on cifar10",
    width=1.0,
    weight_bits=2,
    activation_bits=2,
    accuracy=0.829,
    file_bytes=304_834,
    gzip_bytes=77_238,
    table_bytes=105_442,
    arena_bytes=79_674,
    encoded_bytes=53_632,
    entropy=1.53,
    flash_bytes=61_584,
    sram_bytes=49_872,
    milliseconds=dict.fromkeys(devices.TARGETS, 1.577),
)
FLOAT = devices.Float(network="resnet20 on cifar10", width=1.0, accuracy=0.8705)


def test_float_has_its_accuracy_alone():
    row = dataclasses.replace(ROW, activation_bits=4)
    heading, _, first, second = devices.table([row], [FLOAT]).splitlines()
    assert heading.startswith("| width | A/W | accuracy | file |")
    assert first.startswith("| 1x | float | 87.05% |  |")
    assert second.startswith("| 1x | 4/2 | 82.90% | 304,834 |")
    assert heading.count("|") == first.count("|") == second.count("|")


def test_several_networks_have_a_column():
    other = dataclasses.replace(ROW, network="digits_cnn on digits")
    lines = devices.table([other, ROW], [FLOAT]).splitlines()
    assert [line.split("|")[1].strip() for line in lines] == [
        *("network", "---", "resnet20 on cifar10", "digits_cnn on digits", "resnet20 on cifar10")
    ]


def test_the_plot_has_a_line_for_each_network_and_the_level_of_float(tmp_path):
    other = dataclasses.replace(ROW, network="digits_cnn on digits")
    devices.draw([other, ROW], [FLOAT], str(tmp_path / "plot.svg"))
    text = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    for label in ("digits_cnn on digits, width 1x", "resnet20 on cifar10, float 1x"):
        assert f"<!-- {label} -->" in text


def test_a_float_training_is_told_from_a_quantized_one(tmp_path):
    record = {
        "flags": {"wbits": 32, "width": 2.0, "arch": "resnet20"},
        "metrics": {"test_accuracy": 0.5},
        "dataset": {"name": "cifar10"},
    }
    file = tmp_path / "record.json"
    file.write_text(json.dumps(record), encoding="utf-8")
    found = devices.measure_float(str(tmp_path))
    assert found == devices.Float(network="resnet20 on cifar10", width=2.0, accuracy=0.5)
    record["flags"]["wbits"] = 2
    file.write_text(json.dumps(record), encoding="utf-8")
    assert devices.measure_float(str(tmp_path)) is None
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="is not the workdir of a finished training"):
        devices.measure_float(str(tmp_path))
