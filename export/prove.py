"""Proves that exported integers compute the trained codes, for every possible input.

    python -m export.prove --model-graph=model.npz
    python -m export.prove --workdir=runs/w2a4
    python -m export.prove --workdir=runs/w2a4 --model-graph=model.npz

With `--model-graph` alone the proof is against the trained parameters that the graph carries;
with `--workdir` as well, these are first compared with the training's own. For each operator the
table says how many channels (code pairs of a sum, window sums of an average) can give another code
than the training for some input, with each kernel, and by how much at most. Exits with status 1 if
something is not as trained, or if a channel with weights of fewer than 8 bits is not proven under
`--kernels`. A graph of `--weights=int4` or `int2` is held against the training as `export.tflite`
settled it for these. `--kernel_sets` with `--workdir` is that of `export.tflite`: what it moves is
moved in the training too, and the default of `--kernels` is these.
"""

from __future__ import annotations

import signal
import sys
from typing import Any, NoReturn

from absl import flags

from export.ir.graph import IntegerGraph, stored_weights
from export.kernel_sets.rules import TARGETS
from wrpn_tf import command_line
from wrpn_tf.terminal import printable

_GRAPH = flags.DEFINE_string("model_graph", None, "The integer graph, an .npz file.")
flags.DEFINE_alias("model-graph", "model_graph")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the training.")
_KERNELS = flags.DEFINE_list(
    "kernels",
    None,
    f"Kernels that must be proven: {', '.join(TARGETS)}, or 'all'; xnnpack, or --kernel_sets.",
)
_KERNEL_SETS = flags.DEFINE_multi_enum(
    "kernel_sets",
    list(TARGETS),
    list(TARGETS),
    "The kernels that the graph was exported for, with --workdir; repeat the flag.",
)
_SECONDS = flags.DEFINE_integer("seconds", 1800, "What it may take, whatever the graph holds.", 1)


def main() -> int:
    """Runs the program; returns 1 if something is not proven."""
    kernel_sets = tuple(_KERNEL_SETS.value)
    aimed = kernel_sets != TARGETS
    targets = tuple(_KERNELS.value or (kernel_sets if aimed else ("xnnpack",)))
    targets = TARGETS if targets == ("all",) else targets
    unknown = [target for target in targets if target not in TARGETS]
    if unknown:
        raise ValueError(f"--kernels has {unknown[0]!r}; known are {', '.join(TARGETS)}, or 'all'.")
    if not (_GRAPH.value or _WORKDIR.value):
        raise ValueError("Name what to prove: --model-graph=model.npz, --workdir=…, or both.")
    if aimed and not _WORKDIR.value:
        raise ValueError("--kernel_sets needs --workdir: a graph alone carries what was moved.")
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_SECONDS.value)
    graph = _load(_GRAPH.value) if _GRAPH.value else None

    from export.proof.prover import prove
    from export.proof.report import show
    from export.proof.training import training_problems
    from export.verification.workdir import Workdir

    failures = []
    if _WORKDIR.value:
        weights = stored_weights(graph) if graph else "int8"
        trained = Workdir.load(_WORKDIR.value).graph(weights, kernel_sets)
        graph = graph or trained
        failures = training_problems(graph, trained)
    assert graph is not None
    proof = prove(graph)
    show(proof)
    failures += proof.failures(targets)
    for failure in failures:
        print(f"FAILED: {printable(failure)}", file=sys.stderr)
    print("not proven" if failures else "proven")
    return 1 if failures else 0


def _give_up(*_: Any) -> NoReturn:
    raise ValueError(f"not proven within {_SECONDS.value:,} seconds; --seconds gives it more.")


def _load(path: str) -> IntegerGraph:
    from export.ir.saving import load

    try:
        return load(path)
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror}.") from error


if __name__ == "__main__":
    command_line.run(main)
