"""Settling: what was trained moves, by a hair, to where the device computes what Keras does."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

import wrpn_tf
from export.alignment.kernel_scales import settle_scales
from export.alignment.offsets import recoded, settled
from export.alignment.report import LayerMoves, Settlement
from export.alignment.sums import settle_output_scales
from export.ir.graph import IntegerGraph
from export.ir.operators import Weighted
from export.kernel_sets.rules import TARGETS, is_per_tensor
from export.lowering.network import lower
from export.realization.network import check_kernel_sets, whole
from wrpn_tf import Fusion, Group, Kind, LayerView, class_name
from wrpn_tf.progress import ProgressLine

MANY = 0.01
"""The share of images with another top-1 from which on `settle` warns."""


def settle(
    model: Any,
    *,
    weights: str = "int8",
    kernel_sets: Sequence[str] = TARGETS,
    images: Any = None,
    progress: bool | None = None,
) -> Settlement:
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

    Output scales of sums move first, and of Rescaling where no kernel is before it, and those that
    a tensor of another scale is brought to, as for a concatenation, by at most a 256th
    (`export.alignment.sums`, `export.alignment.lines`), and where a
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
      images: see `wrpn_tf.calibrate`: a few hundred, to count those whose top-1 changes.
      progress: whether to show how far it is; None: where the standard error is a terminal.

    Returns:
      What moved; print it for a table.

    Raises:
      LoweringError: if the model has no integer form.
      ValueError: if there are no such kernel sets, or the images do not fit the model.

    Warns:
      UserWarning: if top-1 changes on more than one of a hundred images.
    """
    check_kernel_sets(kernel_sets)
    trained = lower(model)
    before = None if images is None else _top1(model, images)
    moves = []
    fusion = wrpn_tf.fusion_groups(model)
    if factors := settle_output_scales(model, trained, _lines(fusion)):
        trained = lower(model)
        moves = [
            LayerMoves(name=name, channels=1, recoded=1, largest_gain=abs(factor - 1))
            for name, factor in factors.items()
        ]
    graph = whole(trained, weights=weights, split_groups=True, kernel_sets=tuple(kernel_sets))
    is_move = graph.provenance.is_move
    operators = [each for each in graph.weighted if not is_move(each.inputs[0], each.output)]
    channels = sum(len(each.bias) for each in operators)
    with ProgressLine("settle", channels, shown=progress) as line:
        for operator in operators:
            line.begin(f"settle {operator.output}")
            moved = _settle_operator(model, fusion, graph, operator, kernel_sets)
            moves += [] if moved is None else [moved]
            line.advance(len(operator.bias))
    if before is None:
        return Settlement(layers=tuple(moves))
    if trained.tensors[trained.outputs[0]].shape[-1] < 2:  # One channel has no classes.
        return Settlement(layers=tuple(moves), images=len(before))
    changed = float(np.mean(before != _top1(model, images)))
    if changed > MANY:
        warnings.warn(
            f"settle: top-1 changed on {changed:.1%} of {len(before)} images. A hair decides in "
            "this network; evaluate it after settling, as it is deployed (docs/proof.md).",
            stacklevel=2,
        )
    return Settlement(layers=tuple(moves), images=len(before), top1_changed=changed)


def _lines(fusion: Fusion[LayerView]) -> list[str]:
    """The layers at the ends of lines: see `export.alignment.lines`."""
    return [
        group.end.name
        for group in fusion.groups
        if _bias_owner(group) is None
        and (group.affine is group.body or group.body.kind is Kind.RELU)
    ]


def _settle_operator(
    model: Any,
    fusion: Fusion[LayerView],
    graph: IntegerGraph,
    operator: Weighted,
    kernel_sets: Sequence[str],
) -> LayerMoves | None:
    """Settles the layers of one operator; returns what moved, or None where nothing can."""
    group = fusion.group(graph.provenance.layers[operator.output])
    if (owner := _bias_owner(group)) is not None:
        return _settle_offset(graph, operator, group, owner, kernel_sets)
    kernel = wrpn_tf.named_kernel_quantizers(model).get(group.body.name)
    return None if kernel is None else _settle_kernel(graph, operator, kernel, kernel_sets)


def _settle_kernel(
    graph: IntegerGraph,
    operator: Weighted,
    kernel: tuple[Any, Any, dict[str, Any]],
    kernel_sets: Sequence[str],
) -> LayerMoves:
    """Settles the scales of a kernel without an offset behind it.

    Args:
      graph: the graph.
      operator: the kernel's.
      kernel: its entry in `wrpn_tf.named_kernel_quantizers`.
      kernel_sets: see `settle`.
    """
    quantizer, weights, variables = kernel
    before = quantizer.codes(weights.numpy(), variables)[1]
    settle_scales(graph, operator, quantizer, weights, variables, kernel_sets)
    after = quantizer.codes(weights.numpy(), variables)[1]
    factors = np.broadcast_to((after / before).reshape(-1), len(operator.bias))
    return LayerMoves(
        name=operator.output,
        channels=len(factors),
        recoded=int(np.count_nonzero(factors != 1)),
        largest_gain=float(np.abs(factors - 1).max()),
    )


def _settle_offset(
    graph: IntegerGraph,
    operator: Weighted,
    group: Group[LayerView],
    owner: LayerView,
    kernel_sets: Sequence[str],
) -> LayerMoves:
    """Settles the offset of an operator, and its gain where that trains.

    Args:
      graph: the graph.
      operator: the operator.
      group: the layers of the operator.
      owner: the one of them that has the offset.
      kernel_sets: see `settle`.
    """
    old = operator.trained
    assert old is not None
    # Gains that move would be no single scale any more.
    one_scale = is_per_tensor(type(operator), operator.kernel_scale, operator.dtype_bits)
    has_gain = owner.kind is Kind.AFFINE and owner.layer.scale and not one_scale
    new = settled(graph, operator, gains=has_gain, kernel_sets=kernel_sets)
    if owner.kind is Kind.USE:
        move = new["offset"] - old["offset"]
        owner.layer.offset.assign(np.asarray(owner.layer.offset, np.float64) + move)
    else:
        offset = owner.layer.bias if owner.kind is Kind.KERNEL else owner.layer.beta
        before_line = owner.kind is Kind.KERNEL and group.affine is not None
        offset.assign(_bias(operator, new["offset"]) if before_line else new["offset"])
        if has_gain:
            owner.layer.gamma.assign(new["gain"])
    scale = graph.tensors[operator.output].quantization.scale
    safe = np.where(old["gain"] == 0, 1, np.abs(old["gain"]))
    return LayerMoves(
        name=operator.output,
        channels=len(new),
        recoded=int(np.count_nonzero(recoded(graph, operator, new))),
        largest_offset=float((np.abs(new["offset"] - old["offset"]) / scale).max()),
        largest_gain=float((np.abs(new["gain"] - old["gain"]) / safe).max()),
    )


def _bias(operator: Weighted, offset: np.ndarray) -> np.ndarray:
    """The bias of a kernel with which what a Rescaling behind it gives has moved to `offset`."""
    trained = operator.trained
    assert trained is not None
    gain = np.where(trained["gain"] == 0, np.inf, trained["gain"])
    return trained["shift"] + (offset - trained["offset"]) / gain


def _bias_owner(group: Group[LayerView]) -> LayerView | None:
    """The layer whose offset the operator of a group has as its bias, or None."""
    if group.use is not None:
        return group.use
    view = group.affine or group.body
    if class_name(view.layer) == "Rescaling":
        view = group.body
    has_offset = (view.kind is Kind.KERNEL and view.layer.use_bias) or (
        class_name(view.layer) == "BatchNormalization" and view.layer.center
    )
    return view if has_offset else None


def _top1(model: Any, images: Any) -> np.ndarray:
    """The class of each image in the first output, or of all its positions, as bytes."""
    tops = []
    for inputs, _ in wrpn_tf.batches(model, images):
        top = wrpn_tf.infer(model, inputs)[0].argmax(axis=-1)
        tops += [each.tobytes() for each in top.reshape(len(top), -1)]
    if not tops:
        raise ValueError("settle needs at least one batch of images; got none.")
    return np.array(tops, object)
