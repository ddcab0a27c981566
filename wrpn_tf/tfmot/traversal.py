"""Walking and rebuilding functional Keras graphs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tf_keras as keras

from wrpn_tf.graph.nodes import Node
from wrpn_tf.tfmot.operations import layer_of

Apply = Callable[[keras.layers.Layer, Any], Any]
Visit = Callable[[Any, list[Any]], Any]


def check_model(model: Any, verb: str = "quantize") -> None:
    """Raises ValueError unless `model` is a built Sequential or Functional tf_keras model.

    The `verb` is what the message says cannot be done.
    """
    if isinstance(model, keras.Model) and model._is_graph_network:
        return
    kind = f"{type(model).__module__.split('.')[0]}.{type(model).__name__}"
    if isinstance(model, keras.Sequential):
        problem = "it is not built; give its first layer an input_shape"
    elif isinstance(model, keras.Model):
        problem = "it is subclassed; rebuild it with tf_keras.Model(inputs, outputs)"
    else:
        problem = "it is not a tf_keras model; build it with `import tf_keras as keras`"
    raise ValueError(f"Cannot {verb} the {kind}: {problem}.")


def _graph_nodes(model: keras.Model) -> Iterator[Any]:
    """Keras's own nodes, inputs first, without those of the input layers."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                yield node


def rebuild(model: keras.Model, apply: Apply) -> keras.Model:
    """A new functional model: `apply(layer, inputs)` stands in for every call of a layer.

    Nested models are flattened: `apply` sees their layers, never the models. Operations of
    TensorFlow that layers stand for (`wrpn_tf.tfmot.operations`) are seen as those layers.

    Args:
      model: built Sequential or Functional model.
      apply: called in topological order with the original layer and the new input tensor (a list
        where there are several); returns the new output.
    """

    def visit(node, arguments):
        return apply(layer_of(node), arguments if len(arguments) > 1 else arguments[0])

    return rebuild_calls(model, visit)


def rebuild_calls(model: keras.Model, visit: Visit) -> keras.Model:
    """As `rebuild`, with calls as Keras's nodes have them: see `replay` and `call_as`."""
    inputs = [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=layer.name)
        for tensor, layer in zip(model.inputs, model._input_layers, strict=True)
    ]
    outputs = replay(model, inputs, visit)
    return keras.Model(inputs, outputs[0] if len(outputs) == 1 else outputs, name=model.name)


def replay(model: keras.Model, inputs: list[Any], visit: Visit) -> list[Any]:
    """Computes a model's outputs with other values in the place of its tensors.

    Args:
      model: built Sequential or Functional model; nested models are entered, not visited.
      inputs: one value for each input of the model: tensors, or facts about them.
      visit: called in topological order with Keras's node of a layer's call and the values of the
        tensors that it reads; returns the value of the output (a list where there are several).

    Returns:
      The values of the model's outputs.
    """
    values = {id(old): value for old, value in zip(model.inputs, inputs, strict=True)}
    for node in _graph_nodes(model):
        arguments = [values[id(tensor)] for tensor in tf.nest.flatten(node.keras_inputs)]
        if isinstance(node.layer, keras.Model):
            results = replay(node.layer, arguments, visit)
        else:
            results = visit(node, arguments)
        for old, value in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(results), strict=True):
            values[id(old)] = value
    return [values[id(tensor)] for tensor in model.outputs]


def call_as(node: Any, layer: keras.layers.Layer, tensors: list[Any]) -> Any:
    """Calls `layer` with the arguments of Keras's node, `tensors` in the place of its tensors."""
    new = {id(old): tensor for old, tensor in zip(node.keras_inputs, tensors, strict=True)}
    args, kwargs = tf.nest.map_structure(
        lambda argument: new.get(id(argument), argument), (node.call_args, node.call_kwargs)
    )
    return layer(*args, **kwargs)


def walk(model: keras.Model) -> Iterator[Node]:
    """Every use of a layer in the model and in the models nested in it, without their inputs."""
    for node in _graph_nodes(model):
        if isinstance(node.layer, keras.Model):
            yield from walk(node.layer)
        else:
            yield Node(name=node.layer.name, layer=layer_of(node), inputs=())


def call_copy(layer: keras.layers.Layer, inputs: Any, **changes: Any) -> Any:
    """Calls a copy of `layer`, with its weights, its configuration updated by `changes`."""
    copy = type(layer).from_config(layer.get_config() | changes)
    outputs = copy(inputs)
    copy.set_weights(layer.get_weights())
    return outputs


def flatten(model: keras.Model) -> keras.Model:
    """A copy without nested models and with every layer used once.

    A layer without weights that is used several times becomes several layers.

    Raises:
      ValueError: if a layer with weights is used more than once; all such layers are named.
    """
    uses: dict[str, int] = {}
    shared = []

    def apply(layer, inputs):
        count = uses[layer.name] = uses.get(layer.name, 0) + 1
        name = layer.name
        if count > 1:
            if layer.weights:
                shared.append(name)
            name = next(n for i in itertools.count(count) if (n := f"{name}_{i}") not in names)
            names.add(name)
        return call_copy(layer, inputs, name=name)

    check_model(model)
    names = {node.name for node in walk(model)}
    flat = rebuild(model, apply)
    if shared:
        raise ValueError(
            f"Layers with weights that are used more than once (or names that occur twice) cannot "
            f"be quantized: {', '.join(sorted(set(shared)))}. Give each use a layer of its own."
        )
    return flat


def topology(model: keras.Model) -> list[Node]:
    """The layers of a model without nesting or sharing, in execution order, input layers first."""
    nodes = [Node(name=layer.name, layer=layer, inputs=()) for layer in model._input_layers]
    for node in _graph_nodes(model):
        origins = [t._keras_history.layer.name for t in tf.nest.flatten(node.keras_inputs)]
        nodes.append(Node(name=node.layer.name, layer=node.layer, inputs=tuple(origins)))
    return nodes


def output_tensors(model: keras.Model) -> dict[str, Any]:
    """The symbolic output of every layer of a model without nesting or sharing.

    `layer.output` may be that of an earlier model that the layer was built in.
    """
    return {node.layer.name: node.outputs for node in _graph_nodes(model)}
