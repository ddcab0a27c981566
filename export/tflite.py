"""Exports a trained workdir as an integer-only .tflite file.

    python -m export.tflite --workdir=runs/w2a4 --output=model.tflite

`--graph=model.npz` also saves the integer graph: codes, scales and zero points.
`--transport=model.wrpn` saves it compressed, close to the entropy of the codes.
`--weights=int4` and `--weights=int2` make smaller files for LiteRT on CPUs, about as fast as int8:
the program measures both beside int8. `--int8_twin=int8.tflite` also writes an int8 file that gives
the same integers in the default interpreter. `--compress=lut` writes a file for TensorFlow Lite
Micro alone, with kernels of few codes as look-up tables that it decodes as it runs.
`--kernel_sets=tflm` aims at a microcontroller where no integers are exact with all kernels;
`export.verify` then takes the same flag.
"""

from __future__ import annotations

import os

from absl import flags

from export.ir import weight_dtypes
from export.kernel_sets.rules import TARGETS
from wrpn_tf import command_line
from wrpn_tf.files import require_writable, write_bytes

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished training.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The .tflite file to write.", required=True)
_WEIGHTS = flags.DEFINE_enum(
    "weights",
    "int8",
    list(weight_dtypes.WEIGHTS),
    "Narrowest type of the kernels. int4: dense layers of at most 4 bits, and convolutions that "
    "are about as fast as dense ones; int2: dense layers of at most 2 bits too. The rest is int8.",
)
_IO = flags.DEFINE_enum(
    "io",
    "uint8",
    ["int8", "uint8", "float32"],
    "Type of the input and output. uint8 takes pixels, as MediaPipe, the Task Library and code "
    "written for Coral do; int8 takes the pixel minus 128, without an operator at each end; "
    "float32 takes and gives real values.",
)
_GRAPH = flags.DEFINE_string("graph", None, "Also save the integer graph as this .npz file.")
_TRANSPORT = flags.DEFINE_string(
    "transport", None, "Also save the integer graph compressed, as this .wrpn file."
)
_TWIN = flags.DEFINE_string(
    "int8_twin",
    None,
    "With --weights=int4 or int2, also write the int8 file of the same network: in the default "
    "interpreter both give the same integers.",
)
_COMPRESS = flags.DEFINE_enum(
    "compress",
    None,
    ["lut"],
    "Write kernels as look-up tables, for TensorFlow Lite Micro only; needs the package "
    "tflite-micro.",
)
_KERNEL_SETS = flags.DEFINE_multi_enum(
    "kernel_sets",
    list(TARGETS),
    list(TARGETS),
    "Where no integers are exact with all kernels, they are with these, the first before the "
    "others; repeat the flag. For int8 weights.",
)
_CODES = {"int8": "is the code p - 128", "uint8": "is its own code", "float32": "is fed as"}


def main() -> None:
    """Runs the program."""
    if _COMPRESS.value and _WEIGHTS.value != "int8":
        raise ValueError("--compress=lut takes int8 kernels, so --weights=int8")
    files = [flag.value for flag in (_OUTPUT, _GRAPH, _TRANSPORT, _TWIN) if flag.value]
    if len({os.path.abspath(file) for file in files}) < len(files):
        raise ValueError("--output, --graph, --transport and --int8_twin must be different files")
    kernel_sets = tuple(_KERNEL_SETS.value)
    if kernel_sets != TARGETS and _WEIGHTS.value != "int8":
        raise ValueError("--kernel_sets is for --weights=int8: int4 and int2 are XNNPACK's alone")
    command_line.require_ending(_OUTPUT, ".tflite")
    command_line.require_ending(_TWIN, ".tflite")
    command_line.require_ending(_GRAPH, ".npz")
    command_line.require_ending(_TRANSPORT, ".wrpn")
    require_writable(*files)

    from export.flatbuffer.borders import with_borders
    from export.flatbuffer.writer import to_flatbuffer
    from export.ir.saving import save
    from export.proof.prover import prove
    from export.tflm import compression
    from export.tools import weight_report
    from export.verification.workdir import Workdir

    workdir = Workdir.load(_WORKDIR.value)
    graph = workdir.graph(_WEIGHTS.value, kernel_sets)
    content = with_borders(to_flatbuffer(graph), _IO.value)
    compressed = compression.compress(content) if _COMPRESS.value else None
    size = len(content)
    if compressed:
        content = compressed.content
    write_bytes(_OUTPUT.value, content)
    # The model is settled for both.
    int8_graph = graph if _WEIGHTS.value == "int8" else workdir.graph()
    int8_file = with_borders(to_flatbuffer(int8_graph), _IO.value)
    if _TWIN.value:
        write_bytes(_TWIN.value, int8_file)
    if _GRAPH.value:
        save(graph, _GRAPH.value)
    if _TRANSPORT.value:
        save(graph, _TRANSPORT.value, compressed=True)
    proof = prove(graph)
    first = ("xnnpack",) if kernel_sets == TARGETS else kernel_sets
    (exact, total), (everywhere, _) = (
        proof.share(targets, range(1, 9)) for targets in (first, TARGETS)
    )
    names = "XNNPACK" if first == ("xnnpack",) else " and ".join(first)
    print(
        f"{_OUTPUT.value}: {len(content):,} bytes, {len(graph.operators)} operators; of {total:,} "
        f"channels, {exact:,} are proven equal to the training with {names}, {everywhere:,} with "
        "every kernel (python -m export.prove says which)"
    )
    for name, pixels in graph.metadata["normalization"].items():
        print(
            f"{name}: pixel p {_CODES[_IO.value]} and stands for (p - {pixels['mean'][0]:g}) / "
            f"{pixels['std'][0]:.6g}"
        )
    if compressed:
        print(f"{_OUTPUT.value}: {compressed.report(size)}")
    if _TRANSPORT.value:
        print(weight_report.transport(graph, _TRANSPORT.value))
    if _WEIGHTS.value != "int8":
        print(weight_report.beside_int8(graph, content, int8_file, _WEIGHTS.value))


if __name__ == "__main__":
    command_line.run(main)
