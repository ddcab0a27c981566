"""Figures from the command line, PNG or SVG by the output's suffix.

    python -m wrpn_tf.plot memory --output=memory.svg --arch=alexnet,resnet50_post
    python -m wrpn_tf.plot cost_accuracy --results=results.jsonl --output=results.png
    python -m wrpn_tf.plot codes --model=runs/cifar10/model.h5 --output=codes.svg

`memory`: activations' share of the memory footprint by batch size (WRPN's figure 1).
`cost_accuracy`: results (see `wrpn_tf.reporting.results.Result`) with their Pareto front.
`codes`: how often each weight code occurs, by layer, in a trained model.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from absl import flags

from wrpn_tf import command_line, models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OUTPUT = flags.DEFINE_string("output", None, "File to write: .png or .svg.", required=True)
_ARCHS = flags.DEFINE_list(
    "arch", ["alexnet", "resnet50_post", "resnet101_post"], "memory: networks, with commas."
)
_RESULTS = flags.DEFINE_string("results", None, "cost_accuracy: JSON-lines file of results.")
_MODEL = flags.DEFINE_string("model", None, "codes: model.h5 of a quantized model.")

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


def _memory() -> Figure:
    unknown = [arch for arch in _ARCHS.value if arch not in models.ARCHITECTURES]
    if unknown:
        known = ", ".join(models.ARCHITECTURES)
        raise ValueError(f"--arch: unknown network {unknown[0]!r}; known: {known}")
    from wrpn_tf.costs.network_cost import measure_cost
    from wrpn_tf.reporting import plots

    networks = {}
    for arch in _ARCHS.value:
        model = models.skeleton(arch)
        networks[arch] = [measure_cost(model, batch).memory for batch in _BATCHES]
    return plots.memory_shares(networks)


def _cost_accuracy() -> Figure:
    from wrpn_tf.reporting import plots
    from wrpn_tf.reporting.results import read_results

    return plots.cost_accuracy(read_results(_existing(_RESULTS)))


def _codes() -> Figure:
    model = _existing(_MODEL)

    from wrpn_tf.quantization.loading import load_model
    from wrpn_tf.reporting import plots

    return plots.code_histograms(load_model(model))


def _existing(flag: flags.FlagHolder) -> str:
    if not flag.value:
        raise ValueError(f"this figure needs --{flag.name}")
    if not pathlib.Path(flag.value).is_file():
        raise ValueError(f"--{flag.name}: no file {flag.value}")
    return flag.value


_FLAGS = {"memory": _ARCHS, "cost_accuracy": _RESULTS, "codes": _MODEL}
"""What each figure is drawn of."""
_FIGURES = {"memory": _memory, "cost_accuracy": _cost_accuracy, "codes": _codes}


def main(arguments: list[str]) -> None:
    """Runs the program."""
    if len(arguments) != 1 or arguments[0] not in _FIGURES:
        raise ValueError(f"name one figure: {', '.join(_FIGURES)}; options are --name=value")

    for figure, flag in _FLAGS.items():
        if flag.present and figure != arguments[0]:
            raise ValueError(f"--{flag.name} is of the figure {figure}, not of {arguments[0]}")

    from wrpn_tf.reporting import plots

    command_line.require_ending(_OUTPUT, *plots.SUFFIXES)
    plots.save(_FIGURES[arguments[0]](), _OUTPUT.value)
    print(f"Wrote {_OUTPUT.value}")


if __name__ == "__main__":
    command_line.run(main, arguments="|".join(_FIGURES), errors=(OSError, ValueError))
