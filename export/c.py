"""Exports an integer graph as C for microcontrollers.

    python -m export.tflite --workdir=runs/w2a4 --output=model.tflite --graph=model.npz
    python -m export.c --model-graph=model.npz --output=firmware/model

Writes two forms of the network into the folder, each complete by itself, which compute the same
integers:

  NAME_tflite.h, NAME_tflite.c  the .tflite file as an array, for TensorFlow
                                Lite Micro; with --compress=lut, its kernels
                                as look-up tables
  NAME.h, NAME.c                codes, biases, multipliers, scales and zero
                                points as arrays, and a function that runs the
                                network in plain C99 with the operators of
                                wrpn_kernels.h, wrpn_kernels.c; no other
                                library, no heap

Where an operator has no C form, the program says so and writes the array alone; where TensorFlow
Lite Micro does not run the file, the plain C alone, unless another export of the network would run.
"""

from __future__ import annotations

import pathlib

from absl import flags

from export.c99 import generator, literals
from export.flatbuffer.writer import to_flatbuffer
from export.ir.saving import load
from export.tflm import compression, limits
from wrpn_tf import command_line
from wrpn_tf.files import write_bytes

_GRAPH = flags.DEFINE_string(
    "model_graph", None, "The integer graph, from `export.tflite --graph`.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write into.", required=True)
_NAME = flags.DEFINE_string("name", "network", "Prefix of files and C names.")
_COMPRESS = flags.DEFINE_enum(
    "compress",
    None,
    ["lut"],
    "Write the array with its kernels as look-up tables, which TensorFlow Lite Micro decodes.",
)
flags.DEFINE_alias("model-graph", "model_graph")


def main() -> None:
    """Runs the program."""
    name = _NAME.value
    generator.check_name(name)
    graph = load(_GRAPH.value)
    refused, missing = limits.refusal(graph), generator.without_form(graph)
    if refused and (missing or refused.has_remedy or _COMPRESS.value):
        raise ValueError(refused.sentence)
    texts: dict[str, str] = {}
    if missing:
        said = f"{missing}: the array is written alone"
    else:
        source = generator.generate(graph, name)
        texts |= {f"{name}.h": source.header, f"{name}.c": source.body}
        texts |= {path.name: path.read_text() for path in sorted(generator.RUNTIME.glob("*.[ch]"))}
        said = (
            f"{name}_run: {source.arena:,} bytes of memory, {source.constants:,} bytes of constants"
        )
    if refused:
        said += f"; {refused.sentence}: the plain C is written alone"
    else:
        array, report = _array(f"{name}_tflite", to_flatbuffer(graph))
        texts = array | texts
        said += f"; {report}"
    for path, text in texts.items():
        write_bytes(pathlib.Path(_OUTPUT.value) / path, text.encode())
    print(f"{_OUTPUT.value}: {', '.join(texts)}\n{said}")


def _array(name: str, model: bytes) -> tuple[dict[str, str], str]:
    """The files of an array, by name, and its size in words."""
    report = f"{len(model):,} bytes"
    if _COMPRESS.value:
        compressed = compression.compress(model)
        report = compressed.report(len(model))
        model = compressed.content
    header, body = literals.file(name, model)
    return {f"{name}.h": header, f"{name}.c": body}, f"{name}: {report}"


if __name__ == "__main__":
    command_line.run(main, errors=(OSError, ValueError))
