"""Exports an integer graph as C for microcontrollers.

    python -m export.tflite --workdir=runs/w2a4 --output=model.tflite --graph=model.npz
    python -m export.c --model-graph=model.npz --output=firmware/model

Writes two forms of the network into the folder, each complete by itself:

  NAME_tflite.h, NAME_tflite.c  the .tflite file as an array, for TensorFlow
                                Lite Micro
  NAME.h, NAME.c                codes, biases, multipliers, scales and zero
                                points as arrays, and a function that runs the
                                network in plain C99 with the operators of
                                wrpn_kernels.h, wrpn_kernels.c; no other
                                library, no heap
"""

from __future__ import annotations

import pathlib

import numpy as np
from absl import flags

from export.c99 import generator, literals
from export.flatbuffer.writer import to_flatbuffer
from export.ir.files import write_bytes
from export.ir.saving import load
from wrpn_tf import command_line

_GRAPH = flags.DEFINE_string(
    "model_graph", None, "The integer graph, from `export.tflite --graph`.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write into.", required=True)
_NAME = flags.DEFINE_string("name", "network", "Prefix of files and C names.")
flags.DEFINE_alias("model-graph", "model_graph")


def main() -> None:
    """Runs the program."""
    graph = load(_GRAPH.value)
    source = generator.generate(graph, _NAME.value)
    model = to_flatbuffer(graph)
    header, body = literals.file(f"{_NAME.value}_tflite", model)
    texts = {
        f"{_NAME.value}.h": source.header,
        f"{_NAME.value}.c": source.body,
        f"{_NAME.value}_tflite.h": header,
        f"{_NAME.value}_tflite.c": body,
    }
    texts |= {path.name: path.read_text() for path in sorted(generator.RUNTIME.glob("*.[ch]"))}
    for name, text in texts.items():
        write_bytes(pathlib.Path(_OUTPUT.value) / name, text.encode())
    constants = sum(
        value.nbytes
        for operator in graph.operators
        for value in vars(operator).values()
        if isinstance(value, np.ndarray)
    )
    print(
        f"{_OUTPUT.value}: {', '.join(texts)}\n"
        f"{_NAME.value}_run: {source.arena:,} bytes of memory, {constants:,} bytes of constants; "
        f"{_NAME.value}_tflite: {len(model):,} bytes"
    )


if __name__ == "__main__":
    command_line.run(main, errors=(OSError, ValueError))
