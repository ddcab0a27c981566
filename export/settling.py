"""Settling: the trained biases move onto the grid that the device has for them."""

from __future__ import annotations

import numpy as np
import tf_keras as keras

import wrpn_tf
from export import folding
from export.graph import Weighted
from export.lowering import lower
from wrpn_tf import Kind, LayerView


def settle(model: keras.Model) -> None:
    """Moves each bias to the nearest value that an int32 bias represents, in place.

    A device's bias is a whole number of accumulator steps, so where an output has 8 bits, or the
    weights have, the Keras graph rounds a few codes in ten thousand otherwise than the device; over
    many layers that shows in the results. After settling, both compute the same real number before
    rounding. Offsets of batch normalization and biases of convolutions and dense layers move by
    less than one such step. Call it when training has ended, before the last evaluation.

    Args:
      model: see `export.lower`.

    Raises:
      LoweringError: if the model has no integer form.
    """
    graph = lower(model, split_groups=False)
    views = {view.name: view for view in wrpn_tf.view(model)}
    layers = graph.metadata["keras_layers"]
    for operator in graph.operators:
        if not isinstance(operator, Weighted):
            continue
        source, target = layers[operator.inputs[0]], layers[operator.output]
        owner = _bias_owner(views[target], views) if source != target else None
        if owner is None:
            continue
        input_scale = graph.tensors[operator.inputs[0]].grid.scale
        offset = operator.bias * operator.kernel_scale.astype(np.float64) * input_scale
        if owner.kind is Kind.KERNEL:
            owner.layer.bias.assign(offset.astype(np.float32))
        else:
            change = offset - _folded_offset(owner, views)
            owner.layer.beta.assign((owner.layer.beta.numpy() + change).astype(np.float32))


def _folded_offset(view: LayerView, views: dict[str, LayerView]) -> np.ndarray:
    """The offset of a batch normalization with the bias of the layer that fuses with it."""
    affine = folding.batch_normalization(view.layer)
    inner = views[view.inputs[0]]
    if inner.kind is Kind.KERNEL and inner.grid is None:
        affine = folding.own_bias(inner.layer, len(affine.gain)).then(affine)
    return affine.offset


def _bias_owner(view: LayerView, views: dict[str, LayerView]) -> LayerView | None:
    """The layer whose offset the operator behind `view` has as its bias, or None."""
    if view.kind is Kind.RELU:
        view = views[view.inputs[0]]
        if view.grid is not None:
            return None
    has_offset = (view.kind is Kind.KERNEL and view.layer.use_bias) or (
        isinstance(view.layer, keras.layers.BatchNormalization) and view.layer.center
    )
    return view if has_offset else None
