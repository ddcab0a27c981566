"""Rules of bits for single layers as a JSON file, for people and programs to write.

    [
      {"name": "stage3_*", "weight_bits": 4},
      {"layer_class": "Dense", "weight_bits": 8, "activation_bits": 8}
    ]

A list of objects with the fields of `wrpn_tf.Rule`, classes by their names; the first rule that
matches a layer wins.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from wrpn_tf.files import write_bytes
from wrpn_tf.graph.rules import Rule


def read_rules(path: str | os.PathLike[str]) -> tuple[Rule, ...]:
    """Reads rules from a JSON file: a list of objects with the fields of `wrpn_tf.Rule`.

    Args:
      path: the file. A `layer_class` in it is the name of a class of either Keras, as 'Dense'.

    Returns:
      The rules, in the file's order; none for an empty list. Whether each of them decides for a
      layer shows where they are used: `wrpn_tf.quantize_model` names those that do not.

    Raises:
      ValueError: if the file cannot be read, is no such list, or a rule in it says something that
        `Rule` does not know; names the file and the rule.
    """
    try:
        content = pathlib.Path(path).read_text(encoding="utf-8")
        entries = json.loads(content, object_pairs_hook=_object)
    except OSError as error:
        raise ValueError(f"Cannot read the rules in {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file of rules: {error}.") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path} must hold a JSON list of rules, not {json.dumps(entries)[:60]}.")
    rules = []
    for number, values in enumerate(entries, start=1):
        try:
            rules.append(Rule.from_json(values))
        except ValueError as error:
            raise ValueError(f"{path}, rule {number}: {error}") from error
    return tuple(rules)


def write_rules(path: str | os.PathLike[str], rules: Iterable[Rule]) -> None:
    """Writes rules as the JSON file that `read_rules` reads, one rule a line.

    Args:
      path: the file; one that is there is replaced.
      rules: in the order in which they are asked. A `layer_class` is written as its name, which
        matches the same layers, and those of the other Keras.

    Raises:
      WriteError: if the file cannot be written.
    """
    lines = ",\n ".join(json.dumps(rule.as_json()) for rule in rules)
    write_bytes(path, f"[{lines}]\n".encode())


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; its names must differ, where JSON would take the last."""
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"an object has {twice[0]!r} twice")
    return dict(pairs)
