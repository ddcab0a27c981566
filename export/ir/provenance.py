"""The training that a graph carries with it, and whether that is the model's."""

from __future__ import annotations

import dataclasses

import numpy as np

from export.ir.graph import IntegerGraph, Operator, Weighted

TRAINED = np.dtype(
    [(name, np.float64) for name in ("scale", "shift", "gain", "variance", "offset")]
    + [("digest", np.uint64)]
)
"""What one channel was trained to compute, and so what it is proven against:

``real = gain * (scale * input_scale * sum(codes * input steps) + shift) / sqrt(variance) + offset``

with `codes` as trained: before the code multiplier, and before they are negated where the gain is
negative. Batch normalization has its gamma in `gain`, its beta in `offset`, its variance with
epsilon in `variance`; `shift` is the layer's own bias less the mean. All are sums or copies of
trained float32 numbers, so that nothing was rounded. `digest` is `digest` of the codes.
"""


def trained_grids(graph: IntegerGraph) -> dict[str, tuple[float, int, int]]:
    """Scale, smallest and largest code of each tensor as trained.

    Raises:
      ValueError: if the graph carries no training.
    """
    try:
        found = graph.metadata["trained_grids"]
        grids = {name: (float(a), int(b), int(c)) for name, (a, b, c) in found.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        grids = {}
    weighted = [operator for operator in graph.operators if isinstance(operator, Weighted)]
    if set(graph.tensors) - set(grids) or any(operator.trained is None for operator in weighted):
        raise ValueError(
            "The graph does not carry what was trained, so there is nothing to prove it against: "
            "write it again with python -m export.tflite --graph=…, or name the training's "
            "--workdir."
        )
    return grids


def training_problems(graph: IntegerGraph, trained: IntegerGraph) -> list[str]:
    """What a graph carries as its training that another graph, lowered anew, does not.

    Args:
      graph: the graph to be proven.
      trained: the graph of the training itself, from `export.lower`.

    Returns:
      A sentence for each difference; empty where a proof against what `graph` carries is one
      against the training.
    """
    grids, wanted = trained_grids(graph), trained_grids(trained)
    problems = [
        f"{name}: the training has no such tensor, or another grid for it."
        for name, grid in grids.items()
        if wanted.get(name) != grid
    ]
    theirs = {operator.output: operator for operator in trained.operators}
    for operator in graph.operators:
        other = theirs.get(operator.output)
        if other is None or not _same_training(operator, other):
            problems.append(
                f"{operator.output}: what it carries as trained is not what the model has."
            )
    if len(theirs) != len(graph.operators):
        problems.append(f"The training has {len(theirs)} operators, not {len(graph.operators)}.")
    return problems


def _same_training(one: Operator, other: Operator) -> bool:
    """Whether two operators are the same but for what lowering chooses."""
    chosen = {"kernel", "kernel_scale", "bias", "code_multiplier"}
    if type(one) is not type(other):
        return False
    for field in dataclasses.fields(one):
        mine, yours = getattr(one, field.name), getattr(other, field.name)
        if field.name not in chosen and not np.array_equal(mine, yours):
            return False
    return True
