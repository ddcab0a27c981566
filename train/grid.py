"""Grids of trainings, written as a JSON file.

    {
      "base": {"dataset": "cifar10", "arch": "resnet8_slim", "epochs": 6},
      "grids": [
        {"name": "float", "seed": [0, 1, 2]},
        {"name": "WRPN", "method": "calibrated", "width": [1, 2], "bits": ["4/4", "4/2"],
         "seed": [0, 1, 2]},
        {"name": "warm", "bits": "4/2", "epochs": 2, "init_from": "grid:float"}
      ]
    }

`base` and each grid set fields of `train.config.Config`; `bits` sets two of them as the paper
writes them, activations before weights. A list gives a field several values, and a grid is every
combination of them; each value of `decay_epochs` is a list itself. `init_from` and `teacher` may
name another grid: they are its training of the same architecture, seed and width, or of the one
width that it has. `rules` is the path of a file that `wrpn_tf.read_rules` reads. `"report": false`
leaves a grid out of table and plots. A row of the table is a mean over seeds, so that trainings of
one name, architecture, width and bits must be alike in all but the seed, `rules` and the networks
that they start or learn from.
"""

import dataclasses
import itertools
import json
import os
import pathlib
import re
from typing import Any

import wrpn_tf
from train.config import LOCATION_FIELDS, REFERENCES, Config, UserError, require_effect
from train.experiments import experiment_name

_FIELDS = {field.name for field in dataclasses.fields(Config)} - set(LOCATION_FIELDS)
_GRID = "grid:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One training of a grid.

    Attributes:
        grid: The grid's name.
        config: The training; its workdir is named by grid, architecture, width, bits and seed.
        report: Whether it is in the table and the plots.
    """

    grid: str
    config: Config
    report: bool = True

    @property
    def name(self) -> str:
        """As in 'WRPN-resnet8-2x-w2a4-s0'."""
        return pathlib.Path(self.config.workdir).name


def read_grids(
    path: str | os.PathLike[str], workdir: str | os.PathLike[str], data_dir: str | None
) -> list[Run]:
    """The trainings of a file, all of one seed before those of the next.

    Args:
        path: The JSON file.
        workdir: Folder of the trainings' workdirs.
        data_dir: Where the data set is.

    Raises:
        UserError: The file cannot be read, or says something that is no training; names it.
    """
    try:
        contents = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        base, grids = contents["base"], contents["grids"]
        options = [(grid.pop("name"), base | grid, grid.keys()) for grid in grids]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} must be a JSON file with 'base' and 'grids', each grid with a 'name' "
            f"({type(error).__name__}: {error})"
        ) from error
    runs: list[Run] = []
    for name, fields, own in options:
        try:
            found = [_run(name, point, workdir, data_dir) for point in _points(fields)]
            for run in found:
                require_effect(run.config, sorted(own & _FIELDS))
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: grid {name!r}: {error}") from error
        runs += found
    if not runs:
        raise UserError(f"{path}: 'grids' is empty; give at least one training")
    _require_alike(runs, path)
    runs.sort(key=lambda run: run.config.seed)
    runs = [_resolve(run, runs, path) for run in runs]
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: {name} is there twice; give its grids different names")
    return runs


def _require_alike(runs: list[Run], path: str | os.PathLike[str]) -> None:
    """Raises UserError where a row of the table would be of trainings that differ."""
    rows: dict[tuple, Run] = {}
    for run in runs:
        if not run.report:
            continue
        config = run.config
        row = (run.grid, config.arch, config.width, config.abits, config.wbits)
        first = rows.setdefault(row, run)
        may_differ = {name: getattr(config, name) for name in ("seed", "rules", *REFERENCES)}
        recorded = dataclasses.replace(first.config, **may_differ).as_json()
        difference = config.difference(recorded)
        if difference:
            raise UserError(
                f"{path}: {run.name} would be in one row of the table with {first.name}, which has "
                f"{difference}; give their grids different names"
            )


def _points(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the fields' values."""
    empty = [name for name, value in fields.items() if value == []]
    if empty:
        raise ValueError(f"{empty[0]} is an empty list, which makes no training; give a value")
    values = [value if isinstance(value, list) else [value] for value in fields.values()]
    return [dict(zip(fields, point, strict=True)) for point in itertools.product(*values)]


def _run(
    grid: str, point: dict[str, Any], workdir: str | os.PathLike[str], data_dir: str | None
) -> Run:
    if not isinstance(grid, str):
        raise ValueError("its name must be a text")
    report = point.pop("report", True)
    if not isinstance(report, bool):
        raise ValueError(f"report must be true or false, not {report!r}")
    bits = point.pop("bits", None)
    if bits is not None:
        if not re.fullmatch(r"\d+/\d+", str(bits)):
            raise ValueError(f"bits must be activations/weights, as in '4/2', not {bits!r}")
        twice = sorted({"abits", "wbits"} & point.keys())
        if twice:
            raise ValueError(f"bits and {twice[0]} are both given, here or in base; give one")
        point["abits"], point["wbits"] = map(int, bits.split("/"))
    unknown = sorted(point.keys() - _FIELDS)
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a field of a training")
    epochs = point.get("decay_epochs", [])
    if not isinstance(epochs, list):
        raise ValueError(f"decay_epochs must be a list in a list, as [[30, 60]], not {epochs!r}")
    rules = point.pop("rules", None)
    if rules is not None:
        if not isinstance(rules, str):
            raise ValueError(f"rules must be the path of a file, not {rules!r}")
        point["rules"] = wrpn_tf.read_rules(rules)
    point = {name: tuple(v) if isinstance(v, list) else v for name, v in point.items()}
    config = Config(workdir="", data_dir=data_dir, **point)
    network = experiment_name(config.arch, config.width, config.wbits, config.abits)
    folder = f"{re.sub(r'[^A-Za-z0-9]+', '_', grid)}-{network}-s{config.seed}"
    config = dataclasses.replace(config, workdir=pathlib.Path(workdir, folder))
    return Run(grid=grid, config=config, report=report)


def _resolve(run: Run, runs: list[Run], path: str | os.PathLike[str]) -> Run:
    """Puts workdirs in the place of the names of grids."""
    found: dict[str, Any] = {}
    for field in REFERENCES:
        value = getattr(run.config, field)
        if not str(value).startswith(_GRID):
            continue
        name = value.removeprefix(_GRID)
        like = (run.config.arch, run.config.seed)
        sources = [
            other.config
            for other in runs[: runs.index(run)]
            if other.grid == name and (other.config.arch, other.config.seed) == like
        ]
        if len({source.width for source in sources}) > 1:
            sources = [source for source in sources if source.width == run.config.width]
        if len(sources) != 1:
            raise UserError(
                f"{path}: {field} of {run.name} must be one training of a grid above it with the "
                f"same arch and seed, and the same width if it has several; {name!r} has "
                f"{len(sources)}"
            )
        found[field] = sources[0].workdir
    return dataclasses.replace(run, config=dataclasses.replace(run.config, **found))
