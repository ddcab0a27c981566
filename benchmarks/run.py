"""What the project says of time and size, measured again: training, export, latency.

    python -m benchmarks.run --environments=peers --output=run.json --plot=run.svg
    python -m benchmarks.run --quick

Steps, relative to float: this package on tf_keras (also with packed activations) and on Keras 3
(TensorFlow and JAX), TF-MOT, and in environments of their own Keras 3 alone, Larq, QKeras and HGQ2,
all in turns. Memory of a step, by width and batch size, beside what the cost model says. Time of an
export beside TensorFlow's converter; latency and bytes of files beside those of TF-MOT, the
converter and AI Edge Quantizer. Networks have random weights.

The environments are made with venv and pip where --environments does not have them yet, about 2 GB
each. What cannot be installed or imported here has the reason in place of figures.
"""

from __future__ import annotations

import json
import pathlib
import sys

from absl import flags

from wrpn_tf import command_line

_CLAIMS = ("training step", "memory", "export", "latency")

_NETWORKS = flags.DEFINE_list(
    "networks", ["resnet20", "resnet18", "mobilenet_v2"], "Of these and 'digits'."
)
_MEASURED = flags.DEFINE_list("claims", list(_CLAIMS), "What to measure.")
_ROUNDS = flags.DEFINE_integer("rounds", 15, "Rounds; everything has its turn in each.", 1)
_STEPS = flags.DEFINE_integer("steps", 3, "Training steps, or runs of a file, in a turn.", 1)
_EXPORTS = flags.DEFINE_integer("exports", 3, "How often each export is timed.", 1)
_ENVIRONMENTS = flags.DEFINE_string(
    "environments", None, "Folder of the peers' environments; left out: no peers."
)
_QUICK = flags.DEFINE_bool(
    "quick", False, "Whether it works at all: digits, one round, nothing outside this process."
)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_PLOT = flags.DEFINE_string("plot", None, ".svg or .png to draw.")


def main() -> None:
    """Runs the program."""
    from benchmarks.suite.networks import NETWORKS

    networks = ["digits"] if _QUICK.value else _NETWORKS.value
    for given, known, what in (
        (networks, NETWORKS, "networks"),
        (_MEASURED.value, _CLAIMS, "claims"),
    ):
        if unknown := set(given) - set(known):
            raise ValueError(f"{what} are {', '.join(known)}, not {', '.join(sorted(unknown))}")

    from rich.console import Console

    from benchmarks.suite import conditions, deployment, memory, report, training
    from benchmarks.suite.settings import Settings

    folder = pathlib.Path(_ENVIRONMENTS.value) if _ENVIRONMENTS.value else None
    settings = Settings(
        rounds=1 if _QUICK.value else _ROUNDS.value,
        steps=1 if _QUICK.value else _STEPS.value,
        exports=1 if _QUICK.value else _EXPORTS.value,
        environments=folder,
        alone=_QUICK.value,
    )
    claims = dict(
        zip(
            _CLAIMS,
            (
                training.step_rows,
                memory.memory_rows,
                deployment.export_rows,
                deployment.latency_rows,
            ),
            strict=True,
        )
    )
    before = conditions.load()
    rows = {
        claim: [row for network in networks for row in claims[claim](network, settings)]
        for claim in _MEASURED.value
    }
    loads = (before, conditions.load())
    warning = conditions.warning(before)
    report.show(rows, Console())
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    if _OUTPUT.value:
        found = {
            "versions": conditions.versions(),
            "peers": conditions.peer_versions(folder),
            "processor": conditions.processor(),
            "load": loads,
            "warning": warning,
            "rounds": settings.rounds,
            "steps": settings.steps,
            "rows": rows,
        }
        pathlib.Path(_OUTPUT.value).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if _PLOT.value:
        from wrpn_tf.reporting import plots

        plots.save(report.figure(rows), _PLOT.value)


if __name__ == "__main__":
    command_line.run(main)
