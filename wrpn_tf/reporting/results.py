"""Records of trained networks, one JSON object a line: what a cost-accuracy plot is drawn from."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from statistics import fmean
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One trained network.

    Attributes:
      name: for the plot's legend: points of one name are drawn alike.
      arch: a key of `models.ARCHITECTURES`.
      width: factor on the filters.
      wbits: weight bits, 1 to 8 or 32.
      abits: activation bits, 1 to 8 or 32.
      cost: relative to float32 at width 1.
      accuracy: top-1, 0 to 1.
    """

    name: str
    arch: str
    width: float
    wbits: int
    abits: int
    cost: float
    accuracy: float


def read_results(path: str | pathlib.Path) -> list[Result]:
    """The records of a JSON-lines file; fields that a `Result` has not are ignored.

    Raises:
      ValueError: naming the file, and the line of what is not a record.
      OSError: if the file cannot be read.
    """
    fields = dataclasses.fields(Result)
    results = []
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no JSON-lines file of results: {error}.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            result = Result(**{field.name: _field(record, field) for field in fields})
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number}: not a record of a result with "
                f"{', '.join(field.name for field in fields)} "
                f"({type(error).__name__}: {error})."
            ) from error
        if not (result.cost > 0 and 0 <= result.accuracy <= 1):
            raise ValueError(
                f"{path}, line {number}: cost must be positive and accuracy between 0 and 1; got "
                f"{result.cost} and {result.accuracy}."
            )
        results.append(result)
    if not results:
        raise ValueError(f"{path} holds no results.")
    return results


def _field(record: dict[str, Any], field: dataclasses.Field[Any]) -> Any:
    """A record's value of a field; a whole number may stand for a float."""
    value = record[field.name]
    wanted = {"str": (str,), "int": (int,), "float": (int, float)}[str(field.type)]
    if type(value) not in wanted:
        raise TypeError(f"{field.name} must be {field.type}, not {value!r}")
    if float in wanted and not math.isfinite(value):
        raise ValueError(f"{field.name} must be finite, not {value!r}")
    return value


def by_network(results: Sequence[Result]) -> list[list[Result]]:
    """The results in groups that differ in nothing but accuracy: the seeds of each network."""
    groups: dict[Result, list[Result]] = {}
    for result in results:
        groups.setdefault(dataclasses.replace(result, accuracy=0.0), []).append(result)
    return list(groups.values())


def mean_results(results: Sequence[Result]) -> list[Result]:
    """One result for each group of `by_network`, with the mean accuracy."""
    return [
        dataclasses.replace(group[0], accuracy=fmean(result.accuracy for result in group))
        for group in by_network(results)
    ]


def pareto_front(results: Sequence[Result]) -> list[Result]:
    """The results that none surpasses: cheaper ones are all less accurate. By rising cost."""
    front: list[Result] = []
    for result in sorted(results, key=lambda r: (r.cost, -r.accuracy)):
        if not front or result.accuracy > front[-1].accuracy:
            front.append(result)
    return front
