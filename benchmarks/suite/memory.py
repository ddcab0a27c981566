"""The claim on memory: what a training step keeps and needs, by width and batch size."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile

from benchmarks.suite import environments
from benchmarks.suite.networks import NETWORKS
from benchmarks.suite.settings import Row, Settings

_ROOT = pathlib.Path(__file__).parents[2]
_PROGRAMS = ("float32", "bfloat16", "float32 recomputed", "quantized", "quantized packed")
_PREDICTED = {
    "float32": "training",
    "float32 recomputed": "packed_training",
    "quantized packed": "packed_training",
}
"""What the cost model says of a program, of its `Memory`; of others it says nothing."""


def memory_rows(network: str, settings: Settings) -> list[Row]:
    """Bytes and seconds of a step, by `benchmarks.training_memory`.

    Kept bytes are an image's; the peak and what the cost model predicts of it are a batch's.
    """
    chosen = NETWORKS[network]
    programs, bits = (_PROGRAMS[-1:], "4") if settings.alone else (_PROGRAMS, "4,2")
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder, "memory.json")
        command = [
            *(sys.executable, "-m", "benchmarks.training_memory", f"--output={output}"),
            *(f"--arch={chosen.arch}", f"--image_size={chosen.pixels}"),
            f"--classes={chosen.classes}",
            f"--widths={','.join(map(str, chosen.widths))}",
            f"--batches={','.join(map(str, chosen.batches))}",
            *(f"--programs={','.join(programs)}", f"--abits={bits}"),
        ]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
        if done.returncode:
            reason = environments.last_line(done.stderr)
            return [{"network": network, "program": chosen.arch, "reason": reason}]
        found = json.loads(output.read_text(encoding="utf-8"))
    return [_row(network, measured) for measured in found]


def _row(network: str, measured: Row) -> Row:
    program, bits = measured["program"], measured["abits"]
    predicted = _PREDICTED.get(program)
    return {
        "network": network,
        "program": program if bits == 32 else f"{program}, {bits} bits",
        "width": measured["width"],
        "batch": measured["batch"],
        "kept": measured["stored_per_image"],
        "peak": measured["peak"],
        "predicted": None if predicted is None else measured["predicted"][predicted],
        "seconds": measured["seconds"],
    }
