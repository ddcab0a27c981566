"""The training that a graph carries with it, and whether that is the model's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from export.ir.graph import IntegerGraph
from export.ir.operators import Operator
from wrpn_tf import QuantizationParameters

Trained = Mapping[str, QuantizationParameters]
"""The quantization parameters of each tensor as trained."""


def trained_quantization(graph: IntegerGraph) -> Trained:
    """The quantization parameters of each tensor as trained.

    Raises:
      ValueError: if the graph does not carry all of its training.
    """
    found = graph.provenance.quantization
    if set(graph.tensors) - set(found) or any(each.trained is None for each in graph.weighted):
        raise ValueError(
            "The graph does not carry what was trained, so there is nothing to prove it against: "
            "write it again with python -m export.tflite --graph=…, or name the training's "
            "--workdir."
        )
    return found


def training_problems(graph: IntegerGraph, trained: IntegerGraph) -> list[str]:
    """What a graph carries as its training that another graph, made anew, does not.

    Args:
      graph: the graph to be proven.
      trained: the training's own, from `export.lower` and `export.realize`.

    Returns:
      A sentence for each difference; empty where a proof against what `graph` carries is one
      against the training.
    """
    wanted = trained_quantization(trained)
    problems = [
        f"{name}: the training has no such tensor, or another grid for it."
        for name, quantization in trained_quantization(graph).items()
        if wanted.get(name) != quantization
    ]
    problems += [
        f"{name}: its shape is {tensor.shape}, and in the training {trained.tensors[name].shape}."
        for name, tensor in graph.tensors.items()
        if name in trained.tensors and trained.tensors[name].shape != tensor.shape
    ]
    if (graph.inputs, graph.outputs) != (trained.inputs, trained.outputs):
        problems.append("The training has other inputs or outputs, or has them in another order.")
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
    """Whether two operators are the same but for what realization chooses."""
    chosen = {"kernel", "kernel_scale", "bias", "code_multiplier"}
    if type(one) is not type(other):
        return False
    for field in dataclasses.fields(one):
        mine, yours = getattr(one, field.name), getattr(other, field.name)
        if field.name in chosen:
            mine, yours = np.shape(mine), np.shape(yours)
        if not np.array_equal(mine, yours):
            return False
    return True
