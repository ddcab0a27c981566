"""Settling: what was trained moves, by a hair, to where the device computes what Keras does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import wrpn_tf
from export.alignment.kernel_scales import settle_scales
from export.alignment.offsets import settled
from export.alignment.sums import settle_sums
from export.kernel_sets.rules import TARGETS, is_per_tensor
from export.lowering.network import lower
from export.realization.network import check_kernel_sets, realize
from wrpn_tf import Group, Kind, LayerView, class_name


def settle(model: Any, *, weights: str = "int8", kernel_sets: Sequence[str] = TARGETS) -> None:
    """Moves offsets and scales, in place, so that the device computes the trained codes.

    A device's bias is a whole number of accumulator steps and its kernels round, so where an output
    has 8 bits, or the weights have, the Keras graph rounds a few codes in ten thousand otherwise
    than the device; over many layers that shows in the results. Here the offsets of batch
    normalization, and the biases of convolutions and dense layers without it, move to the middle of
    an interval in which the trained thresholds are the device's, for every possible input:

    * Channels that are exact with all kernels, and have room (below), keep all their codes.
    * Where some bias near by suits all kernels, the offset moves there, by at most half a step of
      the trained accumulator. A gain of batch normalization may move as well, by at most a 256th,
      half a code at 128 codes from the offset: thresholds that are spread evenly over the steps
      leave no room for a bias, and a slightly different distance between them does.
    * Else a place is sought that suits all kernels but the reference, then one that suits those
      that run by default on x86 and on ARM, and at least the former, by up to half a code.

    Output scales of sums move first, by at most a 256th (`export.alignment.sums`), and where a
    kernel is followed by no offset, its scales by at most a 1024th
    (`export.alignment.kernel_scales`).

    An accumulator that is next to a threshold would be rounded one way in exact arithmetic and the
    other way in Keras, whose float32 sums are not exact. So thresholds are to have room: a distance
    from all accumulators, `export.alignment.bias_candidates.threshold_margin`. It is kept where a
    place is found that has it: seldom with weights of 8 bits, whose accumulators lie close
    together.

    Of a layer that is used several times each use has an offset for this, which training leaves at
    0.

    A model that is to be stored as 'int4' or 'int2' moves to where its int8 file, which other
    kernels run, is exact by default as well.

    The time is bounded by the channels, whatever was trained: for each, at most 4,096 biases are
    looked at and about a hundred tried exactly, twice, and in a dense layer with a single scale at
    each of 9 scales: some hundredths of a second for a channel with 255 thresholds at the most.

    Call it when training has ended, before the last evaluation.

    Args:
      model: see `export.lower`.
      weights: see `export.realize`: whose grid to settle on.
      kernel_sets: see `export.realize`. Where no place suits all kernels, one is sought that suits
        these, then one that suits the first of them; for a microcontroller, ``("tflm",)``.

    Raises:
      LoweringError: if the model has no integer form.
      ValueError: if there are no such kernel sets.
    """
    check_kernel_sets(kernel_sets)
    trained = lower(model)
    if settle_sums(model, trained):
        trained = lower(model)
    graph = realize(trained, weights=weights, split_groups=False, kernel_sets=kernel_sets)
    fusion = wrpn_tf.fusion_groups(model)
    quantized = wrpn_tf.named_kernel_quantizers(model)
    layers = graph.provenance.layers
    for operator in graph.weighted:
        split = graph.provenance.split_convolutions.get(operator.output)
        (name,) = (split.source,) if split else operator.inputs
        source, target = layers[name], layers[operator.output]
        if source == target:
            continue
        group = fusion.group(target)
        owner = _bias_owner(group)
        if owner is None:
            if (kernel := group.body.name) in quantized:
                settle_scales(graph, operator, *quantized[kernel], kernel_sets)
            continue
        if owner.kind is Kind.USE:
            assert operator.trained is not None
            move = settled(graph, operator)["offset"] - operator.trained["offset"]
            owner.layer.offset.assign(np.asarray(owner.layer.offset, np.float64) + move)
            continue
        if owner.kind is Kind.KERNEL:
            owner.layer.bias.assign(settled(graph, operator, kernel_sets=kernel_sets)["offset"])
            continue
        # Gains that move would be no single scale any more.
        one_scale = is_per_tensor(type(operator), operator.kernel_scale, operator.dtype_bits)
        has_gain = owner.layer.scale and not one_scale
        moved = settled(graph, operator, gains=has_gain, kernel_sets=kernel_sets)
        owner.layer.beta.assign(moved["offset"])
        if has_gain:
            owner.layer.gamma.assign(moved["gain"])


def _bias_owner(group: Group[LayerView]) -> LayerView | None:
    """The layer whose offset the operator of a group has as its bias, or None."""
    if group.use is not None:
        return group.use
    view = group.affine or group.body
    has_offset = (view.kind is Kind.KERNEL and view.layer.use_bias) or (
        class_name(view.layer) == "BatchNormalization" and view.layer.center
    )
    return view if has_offset else None
