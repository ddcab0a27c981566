"""Malformed .tflite files through the tools: each a clear ValueError, or read, or run.

    python -m benchmarks.fuzz_tflite --mutations=10000 seed.tflite [...]

Half of the files are seeds with hostile fields (shapes, types, buffers, scales, indices, options,
names, appended archives, loops without end), the others are seeds with other bytes. Every one goes
through what the programs share: the checked reader, the preflight and its table, the classifier's
interface, verification's constants and exposed variant, and LiteRT in a process of its own with one
of the kernel sets. Exits with status 1 if anything but a ValueError comes out, or a file takes more
than the limits of docs/security.md.
"""

from __future__ import annotations

import collections
import functools
import io
import pathlib
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from rich.console import Console

from benchmarks import fuzzing
from benchmarks.fuzzing import NO_NUMBERS, NUMBERS, REALS, TEXTS, pick
from export.edge_tpu import tables
from export.edge_tpu.preflight import predict
from export.flatbuffer import archive, editing, reader
from export.kernel_sets.rules import KERNEL_SETS
from export.runtime import runner
from export.runtime.isolation import Isolated
from export.runtime.latency import Timed
from export.tools import classifier
from wrpn_tf import command_line

SECONDS, MEMORY = 60, 4 * 2**30
_RUN_SECONDS = 5
_TIMED = 50  # One file in so many is also benchmarked.
_ZEROS = 2**26


def mutate(content: bytes, random: np.random.Generator) -> bytes:
    """A variant with some hostile fields."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for _ in range(int(random.integers(1, 4))):
        change = pick((_tensor, _tensor, _operator, _operator, _buffer, _model), random)
        change(model, random)
    if random.random() < 0.01:
        add_loop(model)
    try:
        data = editing.pack(model)
    except Exception:  # A number that its field does not hold.
        return fuzzing.mutate_bytes(content, random)
    if random.random() < 0.05:
        name = pick(("labels.txt", "../x", "\x1b[2J"), random)
        kind = pick((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA), random)
        data += _archive_of_zeros(name, kind)
    return data


@functools.cache
def _archive_of_zeros(name: str, kind: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as archive_file:
        archive_file.writestr(name, bytes(_ZEROS))
    return stream.getvalue()


def _integer(random: np.random.Generator, low: int = -(2**31), high: int = 2**31 - 1) -> int:
    return int(pick([number for number in NUMBERS if low <= number <= high], random))


def _tensor(model: Any, random: np.random.Generator) -> None:
    graph = model.subgraphs[0]
    tensor = pick(graph.tensors, random)
    kind = random.integers(9)
    if kind < 3 and tensor.shape is not None and len(tensor.shape):
        shape = [int(size) for size in tensor.shape]
        shape[int(random.integers(len(shape)))] = _integer(random)
        tensor.shape = shape
    elif kind == 3:
        tensor.shape = [_integer(random, 0) for _ in range(int(random.integers(6)))]
    elif kind == 4:
        tensor.type = int(random.integers(0, 20))
    elif kind == 5:
        tensor.buffer = int(random.integers(len(model.buffers) + 1))
    elif kind == 6:
        tensor.name = pick(TEXTS, random)
    elif kind == 7:
        tensor.isVariable = not tensor.isVariable
    elif tensor.quantization is not None and tensor.quantization.scale is not None:
        count = pick((0, 1, 2, len(tensor.quantization.scale)), random)
        value = pick((*REALS[:-2], *NO_NUMBERS), random)
        tensor.quantization.scale = np.full(count, value, np.float32)
        tensor.quantization.zeroPoint = np.full(count, _integer(random), np.int64)
        tensor.quantization.quantizedDimension = _integer(random)


def _operator(model: Any, random: np.random.Generator) -> None:
    graph = model.subgraphs[0]
    if not graph.operators:
        return
    operator = pick(graph.operators, random)
    kind = random.integers(7)
    if kind < 2 and operator.builtinOptions is not None:
        fields = sorted(vars(operator.builtinOptions))
        if fields:
            name = pick(fields, random)
            old = getattr(operator.builtinOptions, name)
            value = _integer(random, -128, 127) if random.random() < 0.5 else _integer(random)
            if isinstance(old, float):
                value = pick((*REALS[:-2], *NO_NUMBERS), random)
            setattr(operator.builtinOptions, name, value if np.ndim(old) == 0 else [value] * 3)
    elif kind == 2 and operator.inputs is not None:
        inputs = [int(index) for index in operator.inputs]
        if inputs:
            place = int(random.integers(len(inputs)))
            inputs[place] = int(random.integers(-1, len(graph.tensors)))
        operator.inputs = inputs
    elif kind == 3:
        code = pick(model.operatorCodes, random)
        code.builtinCode = code.deprecatedBuiltinCode = int(random.integers(127))
        code.version = int(random.integers(1, 6))
    elif kind == 4:
        operator.outputs = [int(random.integers(len(graph.tensors)))]
    elif kind == 5:
        graph.operators.remove(operator)
    else:
        graph.operators.insert(int(random.integers(len(graph.operators) + 1)), operator)


def _buffer(model: Any, random: np.random.Generator) -> None:
    """Other values in a constant, most of all in one that is a parameter."""
    small = [b for b in model.buffers if b.data is not None and 0 < len(b.data) <= 64]
    some = [b for b in model.buffers if b.data is not None and len(b.data)]
    if not some:
        return
    buffer = pick(small or some, random)
    data = np.array(buffer.data, np.uint8)
    if len(data) % 4 or random.random() < 0.2:
        data = data[: int(random.integers(len(data) + 1))]
    else:
        values = data.view(np.int32).copy()
        values[int(random.integers(len(values)))] = _integer(random)
        data = values.view(np.uint8)
    buffer.data = data


def _model(model: Any, random: np.random.Generator) -> None:
    graph, kind = model.subgraphs[0], random.integers(6)
    if kind == 0:
        graph.inputs = [int(random.integers(len(graph.tensors))) for _ in range(random.integers(3))]
    elif kind == 1:
        graph.outputs = [
            int(random.integers(len(graph.tensors))) for _ in range(random.integers(3))
        ]
    elif kind == 2:
        model.subgraphs.append(graph)
    elif kind == 3 and model.metadata:
        pick(model.metadata, random).buffer = int(random.integers(len(model.buffers)))
    elif kind == 4:
        model.description = pick(TEXTS, random)
    else:
        graph.tensors = graph.tensors[: int(random.integers(1, len(graph.tensors) + 1))]


def add_loop(model: Any) -> None:
    """A WHILE without end over the first input."""
    graph = model.subgraphs[0]
    if graph.inputs is None or not len(graph.inputs):
        return
    place = int(graph.inputs[0])
    state = graph.tensors[place]
    always, content = schema.TensorT(), schema.BufferT()
    always.name, always.shape, always.type = "always", [1], schema.TensorType.BOOL
    content.data = np.ones(1, np.uint8)
    model.buffers.append(content)
    always.buffer = len(model.buffers) - 1
    condition, body = schema.SubGraphT(), schema.SubGraphT()
    condition.tensors, condition.inputs, condition.outputs = [state, always], [0], [1]
    body.tensors, body.inputs, body.outputs = [state], [0], [0]
    condition.operators, body.operators = [], []
    model.subgraphs += [condition, body]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.WHILE
    code.version = 1
    model.operatorCodes.append(code)
    loop, options = schema.OperatorT(), schema.WhileOptionsT()
    count = len(model.subgraphs)
    options.condSubgraphIndex, options.bodySubgraphIndex = count - 2, count - 1
    loop.opcodeIndex, loop.builtinOptions = len(model.operatorCodes) - 1, options
    loop.builtinOptionsType = schema.BuiltinOptions.WhileOptions
    copy = schema.TensorT()
    copy.name, copy.shape, copy.type, copy.buffer = "after", state.shape, state.type, 0
    copy.quantization = state.quantization
    graph.tensors.append(copy)
    loop.inputs, loop.outputs = [place], [len(graph.tensors) - 1]
    graph.operators.insert(0, loop)


class Tools:
    """The tools' common path; keeps one child process while it lives."""

    def __init__(self) -> None:
        self._child: Isolated | None = None

    def try_file(self, content: bytes, number: int) -> str:
        """What becomes of a file; raises whatever is not a clear refusal."""
        kernel_set = KERNEL_SETS[number % len(KERNEL_SETS)]
        try:
            model = reader.read(content)
        except ValueError as error:
            assert str(error)
            return "refused by the reader"
        console = Console(file=io.StringIO())
        for step in (
            lambda: tables.show(console, "file", predict(model), None, {0}, every=True),
            lambda: classifier.interface(model),
            lambda: reader.kernels(content),
            lambda: reader.float_tensors(content),
            lambda: reader.weights(content),
            lambda: archive.appended_files(content),
            lambda: editing.expose_tensors(content),
        ):
            try:
                step()
            except ValueError as error:
                assert str(error)
        if number % _TIMED == 0:
            self._benchmark(model, kernel_set)
        inputs = {}
        try:
            for tensor in model.inputs:
                inputs[tensor.name] = np.zeros(tensor.shape, tensor.dtype)
        except ValueError:
            return "refused: inputs of a type without arrays"
        try:
            if self._child is None:
                self._child = Isolated(runner.Trial, seconds=_RUN_SECONDS)
            self._child(content, inputs, kernel_set)
        except ValueError as error:
            if "did not finish" in str(error) or "died" in str(error):
                self.close()
                return "killed LiteRT, in its own process"
            return "refused by LiteRT"
        return "ran"

    def _benchmark(self, model: reader.Model, kernel_set: str) -> None:
        constants = frozenset(i for i, t in enumerate(model.main.tensors) if t.data is not None)
        try:
            with Isolated(
                Timed, model.content, constants, kernel_set, 1, seconds=_RUN_SECONDS
            ) as timed:
                timed(1)
        except ValueError as error:
            assert str(error)

    def close(self) -> None:
        """Ends the child process."""
        if self._child is not None:
            self._child.close()
            self._child = None


def _files(seeds: list[bytes], mutations: int, seed: int) -> Iterator[bytes]:
    random = np.random.default_rng(seed)
    for number in range(mutations):
        change = fuzzing.mutate_bytes if number % 2 else mutate
        yield change(seeds[number // 2 % len(seeds)], random)


def measure(seeds: list[bytes], mutations: int, seed: int = 0) -> fuzzing.Report:
    """Tries mutations of the seeds in turn."""
    tools = Tools()
    keep = fuzzing.keep()
    try:
        return fuzzing.fuzz(
            _files(seeds, mutations, seed),
            tools.try_file,
            seconds=SECONDS,
            memory=MEMORY,
            failed=tools.close,
            keep=keep,
        )
    finally:
        tools.close()


def fuzz(
    seeds: list[bytes], mutations: int, seed: int = 0
) -> tuple[collections.Counter[str], list[str]]:
    """Tries mutations of the seeds in turn.

    Returns:
      How often each outcome came, and what was no clear refusal or over the limits.
    """
    report = measure(seeds, mutations, seed)
    return report.counts, report.failures + report.over


def main(paths: list[str]) -> int:
    """Runs the program."""
    if not paths:
        raise ValueError("name .tflite files to mutate")
    seeds = [pathlib.Path(path).read_bytes() for path in paths]
    started = time.perf_counter()
    report = measure(seeds, fuzzing.MUTATIONS.value, fuzzing.SEED.value)
    return report.show(time.perf_counter() - started)


if __name__ == "__main__":
    command_line.run(main, arguments="model.tflite ...", groups=fuzzing.FLAGS)
