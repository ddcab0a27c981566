"""Small files that ask for much, through the programs: seconds, and memory of the largest process.

    python -m benchmarks.hostile_files

Builds each file and runs the program that it is meant for. Exits with status 1 where a program
gives no single sentence, or takes more than the limits of docs/security.md.
"""

from __future__ import annotations

import dataclasses
import io
import json
import lzma
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from benchmarks.fuzz_tflite import add_loop
from export.flatbuffer import editing
from wrpn_tf import command_line

SECONDS, MEMORY = 120, 5 * 2**30
"""What a program may take: its start, and the limits on what it reads and runs."""
FLOAT, INT8, INT32 = (getattr(schema.TensorType, name) for name in ("FLOAT32", "INT8", "INT32"))
_BLOCK = 2**24

Tensor = tuple[str, Sequence[int], int, int]
"""Name, shape, type, and number of the buffer."""
Operator = tuple[int, Any, list[int], list[int]]
"""Builtin code, options, inputs, outputs."""


def tflite(
    *operators: Operator,
    tensors: Sequence[Tensor],
    inputs: Sequence[int] = (0,),
    outputs: Sequence[int] | None = None,
    buffers: Sequence[bytes] = (),
) -> bytes:
    """A file of one subgraph; buffer 0 is empty."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    for data in buffers:
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(data, np.uint8)
    model.operatorCodes, graph.operators, graph.tensors = [], [], []
    for name, shape, kind, buffer in tensors:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, buffer
        graph.tensors.append(tensor)
    for index, (code, options, read, written) in enumerate(operators):
        model.operatorCodes.append(schema.OperatorCodeT())
        model.operatorCodes[-1].builtinCode = code
        model.operatorCodes[-1].deprecatedBuiltinCode = min(code, 127)
        model.operatorCodes[-1].version = 1
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = index, read, written
        if options is not None:
            operator.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        graph.operators.append(operator)
    graph.inputs = list(inputs)
    graph.outputs = list(graph.operators[-1].outputs if outputs is None else outputs)
    return editing.pack(model)


def relu(shape: Sequence[int], kind: int = FLOAT) -> bytes:
    """A RELU of an image of a shape."""
    tensors = [("image", shape, kind, 0), ("out", shape, kind, 0)]
    return tflite((schema.BuiltinOperator.RELU, None, [0], [1]), tensors=tensors)


def padded(size: int) -> bytes:
    """One pixel that PAD makes an image of `size` by `size`; the file says that it stays one."""
    paddings = np.array([[0, 0], [0, size - 1], [0, size - 1], [0, 0]], np.int32)
    one = (1, 1, 1, 1)
    tensors = [("image", one, FLOAT, 0), ("pad", (4, 2), INT32, 1), ("out", one, FLOAT, 0)]
    return tflite(
        (schema.BuiltinOperator.PAD, schema.PadOptionsT(), [0, 1], [2]),
        tensors=tensors,
        buffers=[paddings.tobytes()],
    )


def endless() -> bytes:
    """A loop without end."""
    model = schema.ModelT.InitFromPackedBuf(relu((1, 4)), 0)
    add_loop(model)
    return editing.pack(model)


def with_archive(content: bytes, name: str, size: int, kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A file with an archive of so many zeros behind it."""
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", kind) as archive, archive.open(name, "w") as member:
        for start in range(0, size, _BLOCK):
            member.write(bytes(min(_BLOCK, size - start)))
    return stream.getvalue()


def shared(count: int) -> bytes:
    """A list of `count` tensors that are one table, with a name of 100,000 characters."""
    builder = flatbuffers.Builder(0)

    def vector(items: Sequence[int]) -> int:
        builder.StartVector(4, len(items), 4)
        for item in items:
            builder.PrependUOffsetTRelative(item)
        return builder.EndVector()

    name = builder.CreateString("n" * 100_000)
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    tensors = vector([schema.TensorEnd(builder)] * count)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graphs = vector([schema.SubGraphEnd(builder)])
    schema.BufferStart(builder)
    buffers = vector([schema.BufferEnd(builder)])
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def xz_of_zeros(size: int) -> bytes:
    """So many zeros, compressed by LZMA."""
    compressor = lzma.LZMACompressor()
    parts = [compressor.compress(bytes(_BLOCK)) for _ in range(size // _BLOCK)]
    return b"".join([*parts, compressor.flush()])


def averaged(size: int, window: int, high: int = 127) -> bytes:
    """A graph of one average over `window` by `window` pixels of an image of `size` by `size`."""
    places = size - window + 1
    grid = {"scale": 0.5, "low": -128, "high": high, "bits": 8}
    structure = {
        "format_version": 2,
        "tensors": {
            "image": {"shape": [1, size, size, 1], "quantization": grid | {"high": 127}},
            "out": {"shape": [1, places, places, 1], "quantization": grid | {"high": 127}},
        },
        "operators": [
            {
                **{"type": "Pool2D", "inputs": ["image"], "output": "out", "kind": "average"},
                **{"window": [window] * 2, "strides": [1, 1], "padding": "VALID"},
            }
        ],
        "inputs": ["image"],
        "outputs": ["out"],
        "metadata": {},
        "provenance": {
            **{"layers": {}, "quantization": {"image": grid, "out": grid}},
            **{"inexact_channels": {}, "split_convolutions": {}},
        },
    }
    content = io.BytesIO()
    np.savez_compressed(content, graph=np.array(json.dumps(structure)))
    return content.getvalue()


def wide_model(path: pathlib.Path) -> None:
    """A model.h5 whose configuration names a layer of 8 GB."""
    import h5py

    layers = [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 2], "name": "in"}},
        {"class_name": "Dense", "config": {"name": "wide", "units": 10**9}},
    ]
    model = {"class_name": "Sequential", "config": {"name": "model", "layers": layers}}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.21.0"
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps(model)
        file.create_group("model_weights").attrs["layer_names"] = []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A file and its program."""

    name: str
    suffix: str
    build: Callable[[], bytes] | Callable[[pathlib.Path], None]
    command: tuple[str, ...]


_EDGETPU = ("export.edgetpu", "{}")
_BENCHMARK = ("export.benchmark", "{}", "--kernels=reference", "--threads=1", "--rounds=1")
_EVALUATE = ("export.evaluate", "--model={}", "--folder=.")
_PROVE = ("export.prove", "--model-graph={}")
CASES = (
    Case(
        name="an input of 20,000 x 20,000",
        suffix=".tflite",
        build=lambda: relu((1, 20_000, 20_000, 3)),
        command=_EDGETPU,
    ),
    Case(
        name="one pixel padded to 40,000 x 40,000",
        suffix=".tflite",
        build=lambda: padded(40_000),
        command=_BENCHMARK,
    ),
    Case(name="a WHILE without end", suffix=".tflite", build=endless, command=_BENCHMARK),
    Case(
        name="an archive of 1 GiB of zeros behind it",
        suffix=".tflite",
        build=lambda: with_archive(relu((1, 8, 8, 3), INT8), "labels.txt", 2**30),
        command=(*_EDGETPU, "--fix", "--output={}.tflite"),
    ),
    Case(
        name="20,000 tensors with one long name",
        suffix=".tflite",
        build=lambda: shared(20_000),
        command=_EVALUATE,
    ),
    Case(name="2 GiB of zeros", suffix=".wrpn", build=lambda: xz_of_zeros(2**31), command=_PROVE),
    Case(
        name="an average over 8,000 x 8,000",
        suffix=".npz",
        build=lambda: averaged(16_000, 8_000),
        command=_PROVE,
    ),
    Case(
        name="a trained range of 2**31 codes",
        suffix=".npz",
        build=lambda: averaged(8, 2, 2**31 - 1),
        command=_PROVE,
    ),
    Case(
        name="a Dense layer of 8 GB",
        suffix=".h5",
        build=wide_model,
        command=("wrpn_tf.plot", "codes", "--model={}", "--output={}.png"),
    ),
)


def run(case: Case, folder: pathlib.Path) -> tuple[int, str, float, int]:
    """Size of the file, what its program says, its seconds, and bytes of its largest process."""
    path = folder / f"file{case.suffix}"
    if case.build is wide_model:
        wide_model(path)
    else:
        path.write_bytes(case.build())  # type: ignore[call-arg,arg-type]
    command = [sys.executable, "-m", *(part.format(path) for part in case.command)]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        said.seek(0)
        text = said.read().decode(errors="replace")
    return path.stat().st_size, text, seconds, usage.ru_maxrss * 1024


def main() -> int:
    """Runs the program."""
    failures = 0
    print("| file | bytes | program | seconds | MiB | what it says |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            size, text, seconds, memory = run(case, pathlib.Path(folder))
            sentence = text.replace(folder, "").strip()
            wrong = not sentence.startswith("error: ") or "\n" in sentence
            failures += wrong or seconds > SECONDS or memory > MEMORY
            print(
                f"| {case.suffix}: {case.name} | {size:,} | {case.command[0]} | {seconds:.1f} | "
                f"{memory / 2**20:,.0f} | {sentence} |",
                flush=True,
            )
    return 1 if failures else 0


if __name__ == "__main__":
    command_line.run(main)
