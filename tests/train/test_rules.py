"""`--rules`: bits for single layers in a training, its record and a sweep."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import wrpn_tf
from train import choose, networks, sources
from train.config import Config, UserError
from train.grid import read_grids
from train.record import Record
from wrpn_tf import Rule

RULES = (Rule(name="conv3", weight_bits=4), Rule(layer_class="Dense", weight_bits=3))


def config(workdir: pathlib.Path, *rules: Rule, wbits: int = 2, abits: int = 4) -> Config:
    return Config(
        workdir=workdir,
        dataset="digits",
        arch="digits_cnn",
        width=0.5,
        train_images=128,
        wbits=wbits,
        abits=abits,
        rules=rules,
    )


def test_rules_decide_before_the_defaults(tmp_path: pathlib.Path) -> None:
    chosen = config(tmp_path, *RULES)
    model = networks.build(chosen, sources.load(chosen), starts=False)
    kernels = [view.kernel for view in wrpn_tf.view(model) if view.kernel is not None]
    assert [kernel.bits for kernel in kernels] == [8, 2, 2, 4, 3]


def test_a_rule_for_no_layer_is_named(tmp_path: pathlib.Path) -> None:
    chosen = config(tmp_path, Rule(name="stage9", weight_bits=4))
    with pytest.raises(UserError, match=r"Rules that decide for no layer .*name='stage9'"):
        networks.build(chosen, sources.load(chosen), starts=False)


def test_the_record_holds_the_rules_themselves(tmp_path: pathlib.Path) -> None:
    chosen = config(tmp_path, *RULES)
    flags = json.loads(json.dumps(chosen.as_json()))
    assert flags["rules"] == [
        {"name": "conv3", "weight_bits": 4},
        {"layer_class": "Dense", "weight_bits": 3},
    ]
    assert Config.from_json(flags) == dataclasses.replace(chosen, workdir=str(tmp_path))
    (tmp_path / "record.json").write_text(json.dumps({"flags": flags}))
    assert Record.read_config(tmp_path / "record.json").rules == RULES
    Record.open(chosen)
    other = config(tmp_path, RULES[0])
    with pytest.raises(UserError, match=r"whose rule 2 is \{.*Dense.*3\}, not none; give"):
        Record.open(other)
    other = config(tmp_path, Rule(name="conv2", weight_bits=4), RULES[1])
    with pytest.raises(UserError, match=r"whose rule 1 is \{.*conv3.*\}, not \{.*conv2.*\}; give"):
        Record.open(other)


def test_a_record_of_before_has_no_rules(tmp_path: pathlib.Path) -> None:
    flags = config(tmp_path).as_json()
    assert flags.pop("rules") == []
    assert Config.from_json(flags).rules == ()
    assert config(tmp_path).difference(flags) is None
    assert "whose rule 1 is none, not" in str(config(tmp_path, RULES[0]).difference(flags))


def test_what_is_deployable_counts_the_rules(tmp_path: pathlib.Path) -> None:
    assert config(tmp_path, *RULES).deployable
    assert not config(tmp_path, Rule(name="conv3", activation_bits=32)).deployable
    some = config(tmp_path, Rule(name="conv3", activation_bits=4), wbits=32, abits=32)
    assert some.quantized and some.observes and not some.deployable
    with pytest.raises(UserError, match="rules, wbits and abits are all 32"):
        config(tmp_path, Rule(name="conv3", weight_bits=32), wbits=32, abits=32)


def test_a_grid_names_files_of_rules(tmp_path: pathlib.Path) -> None:
    wrpn_tf.write_rules(tmp_path / "rules.json", RULES)
    grid = {"name": "mixed", "dataset": "digits", "arch": "digits_cnn", "bits": "4/2"}
    grids = tmp_path / "grids.json"
    contents = {"base": {}, "grids": [grid | {"rules": str(tmp_path / "rules.json")}]}
    grids.write_text(json.dumps(contents))
    (run,) = read_grids(grids, tmp_path, None)
    assert run.config.rules == RULES
    (tmp_path / "rules.json").write_text("[1]")
    with pytest.raises(UserError, match=r"grid 'mixed': .*rules.json, rule 1: A rule is"):
        read_grids(grids, tmp_path, None)


def test_bits_are_chosen_on_images_as_the_model_takes_them(tmp_path: pathlib.Path) -> None:
    keras.utils.set_random_seed(0)
    kernels = keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Conv2D(8, 3)
    last = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)
    model = keras.Sequential([keras.Input((6, 6, 1)), *kernels, *last])
    model.save(tmp_path / "net.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 1), dtype=np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    command = [
        *(sys.executable, "-m", "train.choose", f"--model={tmp_path / 'net.keras'}"),
        *("--budget=flash:200B", "--input_range=-1,1", "--sample=20"),
        *(f"--images={tmp_path / 'images.npy'}", f"--output={tmp_path / 'rules.json'}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    images = pixels[np.linspace(0, 39, 20).astype(int)] / np.float32(127.5) - 1
    choice = wrpn_tf.choose_bits(model, images, {"flash": 200}, [2, 3, 4, 6, 8])
    assert list(wrpn_tf.read_rules(tmp_path / "rules.json")) == choice.rules


def test_a_budget_is_named_once() -> None:
    with pytest.raises(ValueError, match="--budget=flash:9KiB,flash:90KiB names flash twice"):
        choose._budget(["flash:9KiB", "flash:90KiB"])
