"""What the nodes of a functional tf_keras model say, for passes that know no Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras.src.layers.core.tf_op_layer import TFOpLambda

from wrpn_tf.graph.calls import LayerCall
from wrpn_tf.tfmot.operations import layer_of


def layer_call(node: Any) -> LayerCall:
    """A node of Keras's graph."""
    called = node.layer
    read, made = tf.nest.flatten(node.keras_inputs), tf.nest.flatten(node.outputs)
    return LayerCall(
        called=called,
        layer=layer_of(node) if isinstance(called, TFOpLambda) else called,
        inputs=tuple(map(id, read)),
        outputs=tuple(map(id, made)),
        input_shape=tuple(read[0].shape),
        output_shapes=tuple(tuple(tensor.shape) for tensor in made),
        is_nested=isinstance(called, keras.Model),
        has_vectors=isinstance(called, TFOpLambda) and _has_vectors(node),
    )


def _has_vectors(node: Any) -> bool:
    tensors = {id(tensor) for tensor in node.keras_inputs}
    for argument in (*node.call_args, *node.call_kwargs.values()):
        if isinstance(argument, list | tuple):
            if len(argument) > 1 and not any(id(item) in tensors for item in argument):
                return True
        elif isinstance(argument, np.ndarray | tf.Tensor) and np.size(argument) > 1:
            return True
    return False
