"""Rules as JSON files: what is written is read, and anything else is named."""

import pathlib

import keras
import pytest
import tf_keras

import wrpn_tf
from wrpn_tf import Rule

RULES = (
    Rule(name="stage3_*", weight_bits=4),
    Rule(layer_class="Dense", weight_bits=8, activation_bits=8),
    Rule(name="last", layer_class="Conv2D", activation_bits=32),
)


def test_what_is_written_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "rules.json"
    wrpn_tf.write_rules(path, RULES)
    assert wrpn_tf.read_rules(path) == RULES
    assert path.read_text().splitlines() == [
        '[{"name": "stage3_*", "weight_bits": 4},',
        ' {"layer_class": "Dense", "weight_bits": 8, "activation_bits": 8},',
        ' {"name": "last", "layer_class": "Conv2D", "activation_bits": 32}]',
    ]
    wrpn_tf.write_rules(path, [])
    assert wrpn_tf.read_rules(path) == ()


@pytest.mark.parametrize("layers", [keras.layers, tf_keras.layers], ids=["keras", "tf_keras"])
def test_a_class_by_name_matches_as_the_class_does(tmp_path: pathlib.Path, layers) -> None:
    class Own(layers.Dense):
        pass

    rule = Rule(layer_class=layers.Dense, weight_bits=4)
    wrpn_tf.write_rules(tmp_path / "rules.json", [rule])
    (read,) = wrpn_tf.read_rules(tmp_path / "rules.json")
    assert read == Rule(layer_class="Dense", weight_bits=4)
    for layer in (layers.Dense(1), Own(1), layers.Conv2D(1, 1), layers.Conv2DTranspose(1, 1)):
        assert read.matches(layer) == rule.matches(layer) == isinstance(layer, layers.Dense)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"is not a JSON file of rules: Expecting"),
        ("[" * 100_000, r"is not a JSON file of rules"),
        ('{"name": "a", "weight_bits": 4}', r"must hold a JSON list of rules, not \{"),
        ("[4]", r"rule 1: A rule is a JSON object, not 4\.$"),
        ('[{"name": "a", "bits": 4}]', r"rule 1: A rule has no field 'bits'; it has name, lay"),
        ('[{"name": "a", "name": "b", "weight_bits": 4}]', r"an object has 'name' twice\.$"),
        ('[{"name": "a", "weight_bits": 4}, {"name": "b"}]', r"rule 2: .* sets nothing"),
        ('[{"weight_bits": 4}]', r"rule 1: .* selects no layer"),
        ('[{"name": 3, "weight_bits": 4}]', r"rule 1: name of a rule must be a string, not 3\.$"),
        ('[{"name": "a", "weight_bits": 9}]', r"rule 1: bits of .* must be 1 to 8, or 32"),
        ('[{"name": "a", "weight_bits": 4.0}]', r"weight_bits of .* a whole number, not 4\.0"),
        ('[{"name": "a", "activation_bits": true}]', r"activation_bits of .*, not true"),
    ],
)
def test_what_is_no_list_of_rules_is_named(
    tmp_path: pathlib.Path, content: str, message: str
) -> None:
    path = tmp_path / "rules.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        wrpn_tf.read_rules(path)
    assert str(path) in str(caught.value)


def test_files_that_are_not_there_and_cannot_be_written_are_named(tmp_path: pathlib.Path) -> None:
    missing = tmp_path / "no" / "rules.json"
    with pytest.raises(ValueError, match=r"Cannot read the rules in .*rules\.json: No such file"):
        wrpn_tf.read_rules(missing)
    with pytest.raises(ValueError, match=r"Cannot write .*: Is a directory"):
        wrpn_tf.write_rules(tmp_path, RULES)
