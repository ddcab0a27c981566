"""What the nodes of a functional Keras 3 model say, for passes that know no Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from wrpn_tf.graph.calls import LayerCall
from wrpn_tf.keras3 import traversal
from wrpn_tf.keras3.model import with_interface_of
from wrpn_tf.keras3.operations import layer_of


def layer_call(node: Any) -> LayerCall:
    """A node of Keras's graph."""
    called = node.operation
    is_layer = isinstance(called, keras.layers.Layer)
    return LayerCall(
        called=called,
        layer=called if is_layer else layer_of(node),
        inputs=tuple(map(id, node.input_tensors)),
        outputs=tuple(map(id, node.outputs)),
        input_shape=tuple(node.input_tensors[0].shape),
        output_shapes=tuple(tuple(tensor.shape) for tensor in node.outputs),
        is_nested=isinstance(called, keras.Model),
        has_vectors=not is_layer and _has_vectors(node),
    )


def rebuild_calls(model: keras.Model, visit: traversal.Visit) -> keras.Model:
    """A new functional model: `visit` stands in for every call, see `traversal.replay`.

    Inputs and outputs are named and nested as those of `model`. It is of a class of Keras's own
    where Keras names the outputs so: by the layers that return them.
    """
    inputs = [
        keras.Input(
            batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor._keras_history.operation.name
        )
        for tensor in model.inputs
    ]
    outputs = traversal.replay(model, inputs, visit)
    user = traversal.functional(model)
    rebuilt = keras.Model(
        tree.pack_sequence_as(user._inputs_struct, inputs),
        tree.pack_sequence_as(user._outputs_struct, outputs),
        name=model.name,
    )
    is_named_so = rebuilt.output_names == user.output_names
    return rebuilt if is_named_so else with_interface_of(model, inputs, outputs)


def call_as(node: Any, layer: Any, tensors: list[Any], arguments: Mapping[str, Any]) -> Any:
    """Calls `layer` with the arguments of Keras's node, `tensors` in the place of its tensors.

    Of `arguments`, which `traversal.replay` tells, those of the models around it replace its own.
    """
    values = {id(old): new for old, new in zip(node.input_tensors, tensors, strict=True)}
    args, kwargs = node.arguments.fill_in(values)
    if isinstance(layer, keras.layers.Layer):
        kwargs = kwargs | traversal.taken(arguments, layer)
    return layer(*args, **kwargs)


def _has_vectors(node: Any) -> bool:
    constants = (
        argument
        for argument in (*node.arguments.args, *node.arguments.kwargs.values())
        if not any(isinstance(part, keras.KerasTensor) for part in tree.flatten(argument))
    )
    return any(argument is not None and np.size(argument) > 1 for argument in constants)
