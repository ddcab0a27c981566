"""Malformed integer graphs through the tools: each a clear ValueError, or a result.

    python -m benchmarks.fuzz_graphs --mutations=10000 seed.npz [seed.wrpn ...]

Three in four files are seeds whose structure or arrays hold hostile values (numbers at which sizes
break, other types, names that are markup or code), the others are seeds with other bytes. Each is
loaded, written as a .tflite file that is read again, generated as C, and proven. Exits with status
1 if anything but a ValueError comes out, or a file takes more than the limits of docs/security.md.
"""

from __future__ import annotations

import bz2
import copy
import io
import json
import lzma
import pathlib
import tempfile
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import fuzzing
from benchmarks.fuzzing import NO_NUMBERS, NUMBERS, REALS, TEXTS, pick
from export.c99 import generator
from export.flatbuffer import reader, writer
from export.ir.saving import load
from export.proof import report
from export.proof.prover import prove
from wrpn_tf import command_line

SECONDS, MEMORY = 60, 4 * 2**30
_DEEP = 10_000
_ZEROS = 2**26
_PLAUSIBLE = 0.6  # Changes after which a file may still be a graph.
_DTYPES = ("int8", "int32", "int64", "float32", "float64", "bool", "<U4", "complex64", ">i4", "O")

Parts = tuple[dict[str, Any], dict[str, np.ndarray]]
"""Structure and arrays."""


def read_parts(path: pathlib.Path) -> Parts:
    """A seed, whatever it is compressed with."""
    content = path.read_bytes()
    if content.startswith(b"\xfd7zXZ\0"):
        content = lzma.decompress(content)
    with np.load(io.BytesIO(content)) as members:
        structure = json.loads(str(members["graph"]))
        return structure, {name: members[name] for name in members.files if name != "graph"}


def write_parts(parts: Parts, random: np.random.Generator) -> bytes:
    """A file, compressed or not."""
    structure, arrays = parts
    text = json.dumps(structure)
    if random.random() < 0.02:
        text = text.replace("0", "[" * _DEEP + "]" * _DEEP, 1)
    content = io.BytesIO()
    safe = {name: array for name, array in arrays.items() if not array.dtype.hasobject}
    np.savez_compressed(content, graph=np.array(text), **safe)  # type: ignore[arg-type]
    data = content.getvalue()
    kind = random.integers(100)
    if kind < 3:
        data = _with_false_header(data, random)
    if kind == 3:
        data = _with_zeros(data, random)
    return lzma.compress(data) if random.random() < 0.2 else data


def _with_false_header(content: bytes, random: np.random.Generator) -> bytes:
    """The file with an array whose header tells another shape than its bytes have."""
    shape = tuple(int(pick(NUMBERS, random)) for _ in range(int(random.integers(4))))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|i1", "fortran_order": False, "shape": shape}
    )
    return _with_member(content, "0.kernel.npy", header.getvalue() + bytes(64), zipfile.ZIP_STORED)


def _with_zeros(content: bytes, random: np.random.Generator) -> bytes:
    """The file with a member that expands a thousandfold."""
    if random.random() < 0.5:
        return _with_member(content, "zeros.npy", bytes(_ZEROS), zipfile.ZIP_DEFLATED)
    return _with_member(content, "zeros.npy", bz2.compress(bytes(_ZEROS)), zipfile.ZIP_BZIP2)


def _with_member(content: bytes, name: str, data: bytes, kind: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        for member in old.infolist():
            if member.filename != name:
                new.writestr(member.filename, old.read(member), zipfile.ZIP_DEFLATED)
        new.writestr(name, data, kind)
    return stream.getvalue()


def mutate(parts: Parts, random: np.random.Generator) -> Parts:
    """A variant with some hostile values in the structure or the arrays."""
    structure, arrays = copy.deepcopy(parts[0]), dict(parts[1])
    for _ in range(int(pick((1, 1, 1, 2, 3), random))):
        if arrays and random.random() < 0.6:
            name = pick(sorted(arrays), random)
            changed = _array(arrays[name], random)
            if changed is None:
                del arrays[name]
            else:
                arrays[name] = changed
        else:
            _value(pick((structure, structure.get("operators", structure)), random), random)
    return structure, arrays


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in the structure with one of its keys."""
    if not isinstance(value, dict | list):
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        yield from _places(item)


def _value(structure: Any, random: np.random.Generator) -> None:
    places = list(_places(structure))
    if not places:
        return
    container, key = pick(places, random)
    old, kind = container[key], random.integers(10)
    if random.random() < _PLAUSIBLE:
        if isinstance(old, str):
            rename(structure, old, pick(TEXTS, random))
        elif isinstance(old, float):
            container[key] = pick([real for real in REALS if 0 < real <= 3.5e38], random)
        elif isinstance(old, int):
            container[key] = pick((old + 1, old - 1, old, 1, 2, 3, 8, 127, -128), random)
    elif kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[pick(TEXTS, random)] = container.pop(key)
    elif kind == 2:
        container[key] = pick([None, True, [], {}, [[]], "x", 1.5, [0] * 9], random)
    elif kind == 3:
        container[key] = copy.deepcopy(pick(places, random)[0])
    elif isinstance(old, str):
        if random.random() < 0.5:  # The same name everywhere: the graph stays whole.
            rename(structure, old, pick(TEXTS, random))
        else:
            container[key] = pick(TEXTS, random)
    elif isinstance(old, float):
        container[key] = pick((*REALS, *NO_NUMBERS), random)
    elif isinstance(old, int):
        container[key] = pick((*NUMBERS, old + 1, old - 1, 2 * old), random)
    else:
        container[key] = pick((*NUMBERS, *REALS), random)


def rename(value: Any, old: str, new: str) -> None:
    """Replaces a name wherever it stands, as a key too."""
    for container, key in list(_places(value)):
        if container[key] == old:
            container[key] = new
    for container in [value, *(c[k] for c, k in _places(value) if isinstance(c[k], dict))]:
        if isinstance(container, dict) and old in container:
            items = [(new if key == old else key, item) for key, item in container.items()]
            container.clear()
            container.update(items)


def _array(array: np.ndarray, random: np.random.Generator) -> np.ndarray | None:
    kind = random.integers(4, 8) if random.random() < _PLAUSIBLE else random.integers(8)
    if kind == 0:
        return None
    if kind == 1:
        with np.errstate(all="ignore"):
            dtype = pick(_DTYPES, random)
            return array if array.dtype.names else array.astype(dtype)
    if kind == 2:
        return array.reshape(-1)[: int(random.integers(array.size + 1))]
    if kind == 3:
        return array[..., None] if array.ndim < 30 else array
    changed = array.copy()
    if not changed.size:
        return changed
    at = int(random.integers(changed.size))
    flat = changed.reshape(-1)
    if changed.dtype.names:
        field = pick(changed.dtype.names, random)
        part = flat[field]
        value = pick((*REALS, *NO_NUMBERS), random) if part.dtype.kind == "f" else 0
        part[slice(None) if kind == 4 else at] = value
    elif changed.dtype.kind == "f":
        with np.errstate(over="ignore"):
            flat[slice(None) if kind == 4 else at] = pick((*REALS, *NO_NUMBERS), random)
    else:
        limits = np.iinfo(changed.dtype) if changed.dtype.kind in "iu" else None
        numbers = [] if limits is None else [limits.min, limits.min + 1, limits.max, 0, 1]
        value = pick(numbers, random) if numbers else flat[0]
        flat[slice(None) if kind == 4 else at] = value
    return changed


class Tools:
    """What the tools do with a graph from a file."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._file = folder / "graph.npz"

    def try_file(self, content: bytes, number: int) -> str:
        """What becomes of a file; raises whatever is not a clear refusal."""
        self._file.write_bytes(content)
        try:
            graph = load(self._file)
        except ValueError as error:
            assert str(error) and "\n" not in str(error)
            return "refused when loaded"
        console, refused = Console(file=io.StringIO()), []
        for name, step in (
            ("prove", lambda: report.show(prove(graph), console)),
            ("C", lambda: generator.generate(graph, "network")),
            (".tflite", lambda: reader.read(writer.to_flatbuffer(graph))),
        ):
            try:
                step()
            except ValueError as error:
                assert str(error)
                refused.append(name)
        return f"loaded; refused by {', '.join(refused)}" if refused else "went through all"


def files(seeds: list[pathlib.Path], mutations: int, seed: int) -> Iterator[bytes]:
    """The files to try."""
    random = np.random.default_rng(seed)
    contents, parts = [path.read_bytes() for path in seeds], [read_parts(path) for path in seeds]
    for number in range(mutations):
        place = number // 4 % len(seeds)
        if number % 4 == 3:
            yield fuzzing.mutate_bytes(contents[place], random)
        else:
            yield write_parts(mutate(parts[place], random), random)


def fuzz(seeds: list[pathlib.Path], mutations: int, seed: int = 0) -> fuzzing.Report:
    """Tries mutations of the seeds in turn."""
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(pathlib.Path(folder))
        keep = fuzzing.keep()
        return fuzzing.fuzz(
            files(seeds, mutations, seed),
            tools.try_file,
            seconds=SECONDS,
            memory=MEMORY,
            keep=keep,
        )


def main(paths: list[str]) -> int:
    """Runs the program."""
    if not paths:
        raise ValueError("name .npz or .wrpn files to mutate")
    started = time.perf_counter()
    report = fuzz(
        [pathlib.Path(path) for path in paths], fuzzing.MUTATIONS.value, fuzzing.SEED.value
    )
    return report.show(time.perf_counter() - started)


if __name__ == "__main__":
    command_line.run(main, arguments="graph.npz ...", groups=fuzzing.FLAGS)
