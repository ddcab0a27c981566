"""Exports a trained workdir as an integer-only .tflite file.

    python -m export.tflite --workdir=runs/w2a4 --output=model.tflite

``--graph=model.npz`` also saves the integer graph: codes, scales and zero points.
"""

from __future__ import annotations

import sys

from absl import app, flags

from export.files import write_bytes
from export.kernels import TARGETS
from export.proving import prove
from export.workdir import Workdir
from export.writer import to_flatbuffer

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished training.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The .tflite file to write.", required=True)
_GRAPH = flags.DEFINE_string("graph", None, "Also save the integer graph as this .npz file.")


def main(argv: list[str]) -> None:
    """Runs the program."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected argument {argv[1]!r}; options are written --name=value")
    try:
        graph = Workdir.load(_WORKDIR.value).graph()
        content = to_flatbuffer(graph)
        write_bytes(_OUTPUT.value, content)
        if _GRAPH.value:
            graph.save(_GRAPH.value)
    except ValueError as error:
        sys.exit(f"error: {error}")
    proof = prove(graph)
    (xnnpack, total), (everywhere, _) = (
        proof.share(targets, range(1, 9)) for targets in (("xnnpack",), TARGETS)
    )
    print(
        f"{_OUTPUT.value}: {len(content):,} bytes, {len(graph.operators)} operators; of {total:,} "
        f"channels, {xnnpack:,} are proven equal to the training with XNNPACK, {everywhere:,} with "
        "every kernel (python -m export.prove says which)"
    )


if __name__ == "__main__":
    app.run(main)
