"""What a file computes otherwise than Keras, counted without data: see `export.to_tflite`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import wrpn_tf
from export.ir.graph import IntegerGraph
from export.ir.operators import Multiply
from export.ir.trained import TrainedGraph, TrainedKernel
from export.kernel_sets import ideal
from export.kernel_sets.ideal import BEYOND
from export.realization.accumulator_range import AccumulatorRange

# Of the largest number in a sum and in the batch normalization behind: an estimate, a few times
# what sums of hundreds of products have.
_FLOAT32_DOUBT = 2.0**-21
_NAMED = 4
_INT16 = np.iinfo(np.int16)


def sentences(model: Any, trained: TrainedGraph, graph: IntegerGraph) -> list[str]:
    """What is known to differ for some inputs, with the numbers of channels and what to do.

    Args:
      model: the model.
      trained: from `export.lower`.
      graph: from `export.realize`.
    """
    found = []
    inexact = {
        name: count
        for name, targets in graph.provenance.inexact_channels.items()
        if (count := targets["xnnpack"])
    }
    channels = {kernel.output: len(kernel.codes) for kernel in trained.kernels}
    total = sum(channels.values())
    if inexact:
        found.append(
            f"For some inputs {sum(inexact.values()):,} of {total:,} channels give another code in "
            f"the file (with XNNPACK) than what was trained: {_named(inexact)}."
        )
    cancelled = cancelling(model, trained)
    if cancelled:
        found.append(
            f"In {sum(cancelled.values()):,} of {total:,} channels so large numbers cancel that "
            "Keras's float32 may give codes several steps from the exact ones, which the file has: "
            f"{_named(cancelled)}."
        )
    jumping = [
        operator.output
        for operator in graph.operators
        if isinstance(operator, Multiply) and _leaves_16_bits(graph, operator)
    ]
    if jumping:
        found.append(
            "Steps of more than half an output code, and the zero point, leave 16 bits in "
            f"{', '.join(map(repr, jumping[:_NAMED]))}, where the optimized kernels (without "
            "XNNPACK) then give the code at the other end."
        )
    return found


def _leaves_16_bits(graph: IntegerGraph, operator: Multiply) -> bool:
    """Whether steps of a product and the zero point add up to more than 16 bits."""
    grids = [graph.tensors[name].quantization for name in (*operator.inputs, operator.output)]
    left, right, output = grids
    step = left.scale * right.scale / output.scale
    ends = [one * other for one in (left.low, left.high) for other in (right.low, right.high)]
    shift = output.zero_point
    above = shift > 0 and max(ends) * step + shift > _INT16.max
    return above or (shift < 0 and min(ends) * step + shift < _INT16.min)


def cancelling(model: Any, trained: TrainedGraph) -> dict[str, int]:
    """Channels in which Keras's float32 may be off by more than one code.

    Sums, biases and means that are large beside the result leave of it what their own last bits
    are. Only channels count that have an accumulator so near to a threshold.

    Args:
      model: the model.
      trained: from `export.lower`.

    Returns:
      By the output of an operator, how many of its channels, where there are any.
    """
    fusion = wrpn_tf.fusion_groups(model)
    found = {}
    for kernel in trained.kernels:
        group = fusion.group(trained.provenance.layers[kernel.output])
        layers = [view.layer for view in (group.body, group.affine) if view is not None]
        own = np.sum([_largest(layer, len(kernel.codes)) for layer in layers], axis=0)
        if count := _off(trained, kernel, own if kernel.has_weights else np.zeros(1)):
            found[kernel.output] = count
    return found


def _largest(layer: Any, count: int) -> np.ndarray:
    """Magnitudes of a layer's bias and mean, which may cancel each other; float64 ``[count]``."""
    values = [getattr(layer, name, None) for name in ("bias", "moving_mean")]
    arrays = [np.abs(np.asarray(value, np.float64)) for value in values if value is not None]
    return np.sum([np.broadcast_to(array, count) for array in arrays], axis=0) + np.zeros(count)


def _off(trained: TrainedGraph, kernel: TrainedKernel, own: np.ndarray) -> int:
    """How many channels of an operator may be off by more than a code.

    Args:
      trained: the graph.
      kernel: one of its operators.
      own: magnitudes of what its layers add and subtract, ``[channels]``.
    """
    source = trained.tensors[kernel.inputs[0]].quantization
    target = trained.provenance.quantization[kernel.output]
    parameters, codes = kernel.parameters, kernel.codes.astype(np.int64)
    slope, start = ideal.line(parameters, source.scale)
    sums = np.abs(codes).sum(axis=1) * max(source.high, -source.low)
    gain = np.abs(parameters["gain"]) / np.sqrt(parameters["variance"])
    before = parameters["scale"] * source.scale * sums + np.maximum(
        own, np.abs(parameters["shift"])
    )
    error = _FLOAT32_DOUBT * (gain * before + np.abs(parameters["offset"]))
    chosen = np.flatnonzero((error > target.scale / 2) & (slope > 0))
    if not chosen.size:
        return 0
    rows = codes[chosen] * ideal.signs(parameters)[chosen]
    accumulators = AccumulatorRange(rows, source.low, source.high)
    ties = (np.arange(target.low + 1, target.high + 1)[:, None] - 0.5) * target.scale
    place = (ties - start[chosen]) / slope[chosen]
    reach = error[chosen] / slope[chosen]
    first, last = (
        np.clip(each, -BEYOND, BEYOND).astype(np.int64)
        for each in (np.ceil(place - reach), np.floor(place + reach))
    )
    return int((accumulators.at_or_above(first) <= last).any(axis=0).sum())


def _named(counts: Mapping[str, int]) -> str:
    """Operators and their numbers, the largest first."""
    order = sorted(counts, key=lambda name: -counts[name])
    shown = ", ".join(f"{name!r} {counts[name]:,}" for name in order[:_NAMED])
    left = len(order) - _NAMED
    return f"{shown} and {left} more operators" if left > 0 else shown
