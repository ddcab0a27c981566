"""One random graph of one operator through the NumPy executor and through LiteRT."""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.extreme_operators import one_operator
from export.executor.execution import execute
from export.flatbuffer.writer import to_flatbuffer
from export.runtime import runner

OUTCOMES = ("compared", "different", "aborted", "hung", "refused by LiteRT", "refused")
"""What becomes of a graph: compared and equal; compared and not; the kernel ends its process, or
does not end; the Interpreter gives an error; the graph's own checks, or the executor, do."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one graph with one kernel set.

    Attributes:
      seed: of the graph.
      what: one of `OUTCOMES`.
      integers: how many were compared.
      wrong: how many of them differed.
      message: the first difference, or the error.
    """

    seed: int
    what: str
    integers: int = 0
    wrong: int = 0
    message: str = ""


class Trial:
    """`try_graph` as an object that `Isolated` makes, for chunks of graphs."""

    def __call__(self, kind: str, seeds: list[int], kernel_set: str) -> list[Outcome]:
        """What becomes of the graphs with these seeds."""
        return [try_graph(kind, seed, kernel_set) for seed in seeds]


def try_graph(kind: str, seed: int, kernel_set: str) -> Outcome:
    """Runs one graph in both, in this process."""
    graph, inputs = one_operator(kind, seed)
    try:
        content = to_flatbuffer(graph)
        ours = execute(graph, inputs, kernel_set)["output"]
    except ValueError as error:
        return Outcome(seed, "refused", message=str(error))
    try:
        theirs = runner.run(content, inputs, kernel_set)["output"]
    except ValueError as error:
        return Outcome(seed, "refused by LiteRT", message=str(error))
    wrong = np.argwhere(ours != theirs)
    if not len(wrong):
        return Outcome(seed, "compared", ours.size)
    at = tuple(wrong[0].tolist())
    message = f"at {at} executor {ours[at]}, LiteRT {theirs[at]}"
    return Outcome(seed, "different", ours.size, len(wrong), message)
