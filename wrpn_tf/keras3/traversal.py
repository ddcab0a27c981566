"""Functional Keras 3 models as networks of nodes, and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.src.ops.core import Cast

from wrpn_tf.graph import nodes
from wrpn_tf.graph.acceptance import nested_layers
from wrpn_tf.graph.nodes import Element, Network, Node, Shape
from wrpn_tf.graph.reading import NodeCollector
from wrpn_tf.graph.support import check_calls
from wrpn_tf.keras3.operations import layer_of, parts_of

Call = Callable[[Node, Any], Any]
Visit = Callable[[Any, list[Any], Mapping[str, Any]], Any]


def check_model(model: Any, verb: str = "quantize") -> None:
    """Raises ValueError unless `model` is a built Sequential or Functional Keras 3 model.

    The `verb` is what the message says cannot be done.
    """
    if isinstance(model, keras.Model) and hasattr(functional(model), "_nodes_by_depth"):
        return
    kind = f"{type(model).__module__.split('.')[0]}.{type(model).__name__}"
    if isinstance(model, keras.Sequential):
        problem = "it is not built; begin it with keras.Input(shape)"
    elif isinstance(model, keras.Model):
        problem = "it is subclassed; rebuild it with keras.Model(inputs, outputs)"
    else:
        problem = "it is not a Keras model; build it with keras.Model(inputs, outputs)"
    raise ValueError(f"Cannot {verb} the {kind}: {problem}.")


def functional(model: Any) -> Any:
    """The functional model inside a Sequential one, or the model itself."""
    return model._functional if isinstance(model, keras.Sequential) else model


def graph_nodes(model: keras.Model) -> Iterator[Any]:
    """Keras's own nodes, inputs first, without those of the input layers."""
    by_depth = functional(model)._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        for node in by_depth[depth]:
            if not node.is_input:
                yield node


def output_tensors(model: keras.Model) -> dict[str, Any]:
    """The symbolic output of every layer of a model without nesting or sharing."""
    return {node.operation.name: node.outputs[0] for node in graph_nodes(model)}


def replay(
    model: keras.Model, inputs: list[Any], visit: Visit, around: Mapping[str, Any] | None = None
) -> list[Any]:
    """Computes a model's outputs with other values in the place of its tensors.

    Args:
      model: built Sequential or Functional model; nested models are entered, not visited.
      inputs: one value for each input of the model: tensors, or facts about them.
      visit: called in topological order with Keras's node of a call, the values of the tensors that
        it reads, and the other arguments of the call, with those of models around it; returns the
        value of the output (a list where there are several). What Keras casts for a nested model
        is a call too.
      around: the arguments of the call of `model`: in Keras 3 its `training` holds for what is
        inside, whatever the calls there say.

    Returns:
      The values of the model's outputs.
    """
    values = {id(old): value for old, value in zip(model.inputs, inputs, strict=True)}
    for node in graph_nodes(model):
        others = {**_other_arguments(node), **(around or {})}
        if isinstance(node.operation, keras.Model):
            results = replay(node.operation, _entering(node, values, visit), visit, others)
        else:
            results = visit(node, [values[id(tensor)] for tensor in node.input_tensors], others)
        for old, value in zip(node.outputs, _listed(results), strict=True):
            values[id(old)] = value
    return [values[id(tensor)] for tensor in model.outputs]


def first_argument(node: Any) -> Any:
    """What a layer is called on: tensors, nested as they were given."""
    if node.arguments.args:
        return node.arguments.args[0]
    return node.arguments.kwargs[next(iter(inspect.signature(node.operation.call).parameters))]


def _entering(node: Any, values: Mapping[int, Any], visit: Visit) -> list[Any]:
    """The values that a nested model is called on, in the order and the types of its inputs.

    As Keras has it, a dictionary is read by name, and what is superfluous is ignored.
    """
    nested, given = node.operation, first_argument(node)
    inputs = functional(nested)._inputs_struct
    if isinstance(given, dict) and not isinstance(inputs, dict):
        given = [given[tensor.name] for tensor in tree.flatten(inputs)]
    entering = []
    for tensor, inner in zip(tree.flatten(given), nested.inputs, strict=False):
        value = values[id(tensor)]
        if tensor.dtype != inner.dtype:
            cast = Cast(inner.dtype, name=f"{inner._keras_history.operation.name}_cast")
            cast(keras.KerasTensor(tensor.shape, tensor.dtype))
            (value,) = _listed(visit(cast._inbound_nodes[0], [value], {}))
        entering.append(value)
    return entering


def _listed(results: Any) -> list[Any]:
    return results if isinstance(results, list) else [results]


def _other_arguments(node: Any) -> dict[str, Any]:
    """The arguments of a call but for its tensors, by name; the constants of an operation.

    Not those that Keras adds: masks that are None, and the `training` that the layer's `call` has
    where none is given.
    """
    operation, (first, *others) = node.operation, node.arguments.args or (None,)
    if isinstance(operation, keras.layers.Layer):
        parameters = inspect.signature(operation.call).parameters
        given, *names = parameters
        named = dict(zip(names, others, strict=False)) | node.arguments.kwargs
        named.pop(given, None)
        if isinstance(named.get("training"), int | np.bool_):
            named["training"] = bool(named["training"])
        if "training" in parameters and named.get("training") is parameters["training"].default:
            named.pop("training", None)
        return {
            name: value
            for name, value in named.items()
            if any(part is not None for part in tree.flatten(value))
        }
    named = {f"argument {index}": value for index, value in enumerate([first, *others], start=1)}
    return {
        name: value
        for name, value in (named | node.arguments.kwargs).items()
        if value is not None
        and not any(isinstance(part, keras.KerasTensor) for part in tree.flatten(value))
    }


def read(model: keras.Model) -> Network:
    """The nodes of a model, flat: nested models are inlined, without what no output needs.

    A layer that is used several times is several nodes, and several layers of one name have
    different ones. Operations that layers stand for (`wrpn_tf.keras3.operations`) are read as those
    layers. Nothing is built, and no weight's value is read.
    """
    check_model(model)
    inputs = [(tensor._keras_history.operation, _shape(tensor)) for tensor in model.inputs]
    collector = NodeCollector(inputs, _names(model), _frozen_layers(model))

    def visit(
        keras_node: Any, sources: list[Node], arguments: Mapping[str, Any]
    ) -> Node | list[Node]:
        origin, layer = keras_node.operation, layer_of(keras_node)
        shapes = _output_shapes(keras_node, layer, [source.shape for source in sources])
        name, parts = origin.name, parts_of(keras_node)
        if parts:
            return collector.add_parts(origin, parts, name, sources, shapes)
        return collector.add_call(origin, layer, name, sources, shapes, arguments)

    return collector.network(model.name, replay(model, list(collector.nodes), visit))


def build(network: Network, call: Call, enter: Call | None = None) -> tuple[list[Any], list[Any]]:
    """The symbolic inputs and outputs of a network's nodes.

    Args:
      network: the nodes.
      call: called in execution order with each node but the inputs and the further uses of a layer,
        and the tensor that it reads (a list where there are several); returns the output.
      enter: called with each input and its tensor; returns what its readers get.

    Raises:
      ValueError: for an argument of a call that is not understood.
    """
    check_calls(network)
    values: dict[str, Any] = {}
    entered: dict[str, Any] = {}
    several = {node.use_of for node in network.nodes}
    layers: dict[str | None, Any] = {}
    inputs = []
    for node in network.nodes:
        tensors = [entered.get(name, values[name]) for name in node.inputs]
        if isinstance(node.layer, Element):
            values[node.name] = tensors[0][node.layer.index]
        elif node.inputs:
            given = tensors if len(tensors) > 1 else tensors[0]
            if node.use_of is None:
                results = tree.flatten(call(node, given))
                if node.name in several:
                    layers[node.name] = results[0]._keras_history.operation
            else:
                layer = layers[node.use_of]
                results = tree.flatten(layer(given, **call_arguments(node, layer)))
            values[node.name] = results if len(results) > 1 else results[0]
        else:
            values[node.name] = keras.Input(
                batch_shape=node.shape, dtype=node.layer.dtype, name=node.name
            )
            inputs.append(values[node.name])
            if enter is not None:
                entered[node.name] = enter(node, values[node.name])
    return inputs, [values[name] for name in network.results]


def call_arguments(node: Node, layer: keras.layers.Layer) -> dict[str, Any]:
    """The arguments of a node's call that a layer takes which stands for it or for a part of it."""
    return taken(node.arguments, layer)


def taken(arguments: Mapping[str, Any], layer: keras.layers.Layer) -> dict[str, Any]:
    """Those of the arguments of a call that a layer takes, as a part of what was called."""
    takes = "training" in inspect.signature(layer.call).parameters
    return {"training": arguments["training"]} if takes and "training" in arguments else {}


def operands(layer: Any, tensors: Any) -> tuple[Any, ...]:
    """A tensor, or a list of several, as the positional arguments of a call.

    A layer takes a list; an operation takes its tensors one by one, or a list that it joins.
    """
    if isinstance(layer, keras.layers.Layer) or not isinstance(tensors, list):
        return (tensors,)
    first, *others = inspect.signature(layer.call).parameters.values()
    return tuple(tensors) if others or first.kind is first.VAR_POSITIONAL else (tensors,)


def configured(layer: Any, config: Mapping[str, Any]) -> Any:
    """A new layer or operation of the class of `layer`, of another configuration.

    A Lambda has its functions themselves: Keras reads their code as that of a file that nobody
    trusts, and without the names around it.
    """
    if type(layer) is keras.layers.Lambda:
        functions = {"function": layer.function, "output_shape": layer._output_shape}
        own = {**functions, "mask": layer.mask, "arguments": layer.arguments}
        return keras.layers.Lambda(**{**config, **own})
    return type(layer).from_config(dict(config))


def new_layer(node: Node) -> Any:
    """A layer for a node, configured as the node's and not built.

    Raises:
      ValueError: for an activity regularizer that Keras does not save.
    """
    if not isinstance(node.layer, keras.layers.Layer):
        return configured(node.layer, node.layer.get_config())
    config = node.layer.get_config() | {"name": node.name}
    config.pop("trainable", None)  # SpatialDropout saves it, and does not take it.
    layer = configured(node.layer, config | dict(node.changes))
    layer.trainable = node.trainable
    lost = node.layer.activity_regularizer is not None and layer.activity_regularizer is None
    if lost and "activity_regularizer" not in node.changes:
        raise ValueError(
            f"Layer {node.name!r} ({type(node.layer).__name__}) has an activity_regularizer that "
            "Keras does not copy; put a keras.layers.ActivityRegularization behind it."
        )
    return layer


def copy_weights(node: Node, layer: Any) -> None:
    """`wrpn_tf.graph.nodes.copy_weights`, and what Normalization computes of its weights."""
    nodes.copy_weights(node, layer)
    if node.weights and isinstance(layer, keras.layers.Normalization):
        layer.finalize_state()  # It computes with copies of its weights.


def _names(model: keras.Model) -> Iterator[str]:
    """Names of the layers of a model and of the models nested in it."""
    for node in graph_nodes(model):
        if isinstance(node.operation, keras.Model):
            yield from _names(node.operation)
        else:
            yield node.operation.name


def _frozen_layers(model: keras.Model) -> Iterator[int]:
    """The ids of the layers and operations that do not train.

    A nested model that is frozen tells its layers once: one that is unfrozen later trains. Its
    operations, which have nothing of their own to freeze, are as frozen as the model.
    """
    layers = list(nested_layers(model, keras))
    for layer in [model, *layers]:
        if model.trainable and layer.trainable:
            continue
        yield id(layer)
        if isinstance(layer, keras.Model):
            called = (node.operation for node in graph_nodes(layer))
            yield from (id(each) for each in called if not isinstance(each, keras.layers.Layer))


def _output_shapes(node: Any, layer: Any, input_shapes: list[Shape]) -> list[Shape]:
    """Shapes of the outputs of a call on inputs of these shapes.

    In a nested model they may be more special than those of the call that Keras recorded.
    """
    recorded = [_shape(tensor) for tensor in node.input_tensors]
    if recorded == input_shapes or not isinstance(layer, keras.layers.Layer):
        return [_shape(tensor) for tensor in node.outputs]
    shapes = layer.compute_output_shape(input_shapes if len(input_shapes) > 1 else input_shapes[0])
    return [tuple(shape) for shape in (shapes if isinstance(shapes, list) else [shapes])]


def _shape(tensor: Any) -> Shape:
    return tuple(tensor.shape)
