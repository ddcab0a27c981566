"""Rewrites that keep what a network computes and leave fewer kinds of structure to quantize."""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras as keras
from tf_keras import layers

from wrpn_tf.graph.nodes import consumers
from wrpn_tf.graph.roles import Kind, activation_name, is_elementwise, is_gain, kind, relu_maximum
from wrpn_tf.tfmot import traversal
from wrpn_tf.tfmot.operations import rescaling


def rewrite(model: keras.Model) -> keras.Model:
    """A copy in which constants are applied as early and in as few layers as possible.

    * Rescaling after Rescaling is one layer.
    * Rescaling by a positive factor after a ReLU comes before it, with the ReLU's maximum
      multiplied: ``relu6(x + 3) / 6`` is ``relu(x / 6 + 1 / 2, maximum=1)``.
    * Sums, products, maxima and minima of more than two tensors have two operands each.

    Args:
      model: from `traversal.flatten`.
    """
    nodes = traversal.topology(model)
    readers = consumers(nodes)
    results = {tensor._keras_history.layer.name for tensor in model.outputs}

    def rescale(layer: layers.Rescaling, tensor: Any) -> Any:
        before = tensor._keras_history.layer
        if len(readers[before.name]) > 1 or before.name in results:
            return traversal.call_copy(layer, tensor)
        if type(before) is layers.Rescaling:
            return _composed(before, layer)(before.input)
        if kind(before) is Kind.RELU and _is_plain_relu(before) and is_gain(layer):
            maximum = relu_maximum(before)
            scaled = None if maximum is None else maximum * float(np.ravel(layer.scale)[0])
            return layers.ReLU(scaled, name=before.name)(rescale(layer, before.input))
        return traversal.call_copy(layer, tensor)

    def apply(layer: keras.layers.Layer, inputs: Any) -> Any:
        if type(layer) is layers.Rescaling and layer.name not in results:
            return rescale(layer, inputs)
        if is_elementwise(layer) and isinstance(inputs, list):
            *others, last = inputs
            total = others[0]
            for index, other in enumerate(others[1:], start=1):
                name = f"{layer.name}_part{index}"
                total = traversal.call_copy(layer, [total, other], name=name)
            return traversal.call_copy(layer, [total, last])
        return traversal.call_copy(layer, inputs)

    return traversal.rebuild(model, apply)


def _composed(first: layers.Rescaling, second: layers.Rescaling) -> layers.Rescaling:
    scale = np.multiply(first.scale, second.scale)
    offset = np.multiply(first.offset, second.scale) + np.asarray(second.offset)
    return rescaling(scale, offset, second.name)


def _is_plain_relu(layer: keras.layers.Layer) -> bool:
    return type(layer) is layers.ReLU or activation_name(layer) in ("relu", "relu6")
