"""Functional Keras models as networks of nodes, and back; walking and rebuilding their graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras.quantize_annotate import (
    QuantizeAnnotate,
)
from tf_keras.src.layers.core import tf_op_layer
from tf_keras.src.layers.core.tf_op_layer import TFOpLambda

from wrpn_tf.graph.nodes import Element, Network, Node, Shape, copy_weights
from wrpn_tf.graph.reading import NodeCollector
from wrpn_tf.graph.support import check_calls
from wrpn_tf.tfmot.interface import with_interface_of
from wrpn_tf.tfmot.operations import layer_of, parts_of

Call = Callable[[Node, Any], Any]
Enter = Callable[[Node, Any], Any]
Visit = Callable[[Any, list[Any], Mapping[str, Any]], Any]
OPERATIONS = (tf_op_layer.ClassMethod, tf_op_layer.InstanceProperty, TFOpLambda)


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


def graph_nodes(model: keras.Model) -> Iterator[Any]:
    """Keras's own nodes, inputs first, without those of the input layers."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                yield node


def rebuild_calls(model: keras.Model, visit: Visit) -> keras.Model:
    """A new functional model: `visit` stands in for every call of a layer, see `replay`.

    Inputs and outputs are named and nested as those of `model`. It is of a class of Keras's own
    where Keras names the outputs so: by the layers that return them.
    """
    inputs = [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=layer.name)
        for tensor, layer in zip(model.inputs, model._input_layers, strict=True)
    ]
    outputs = replay(model, inputs, visit)
    rebuilt = keras.Model(
        tf.nest.pack_sequence_as(model._nested_inputs, inputs),
        tf.nest.pack_sequence_as(model._nested_outputs, outputs),
        name=model.name,
    )
    is_named_so = rebuilt.output_names == model.output_names
    return rebuilt if is_named_so else with_interface_of(model, rebuilt)


def replay(
    model: keras.Model, inputs: list[Any], visit: Visit, around: Mapping[str, Any] | None = None
) -> list[Any]:
    """Computes a model's outputs with other values in the place of its tensors.

    Args:
      model: built Sequential or Functional model; nested models are entered, not visited.
      inputs: one value for each input of the model: tensors, or facts about them.
      visit: called in topological order with Keras's node of a layer's call, the values of the
        tensors that it reads, and the other arguments of the call, with those of models around it;
        returns the value of the output (a list where there are several). What Keras casts for a
        nested model is a call too.
      around: the arguments of the call of `model`: `training` holds for what is inside.

    Returns:
      The values of the model's outputs.
    """
    values = {id(old): value for old, value in zip(model.inputs, inputs, strict=True)}
    for node in graph_nodes(model):
        others = {**(around or {}), **_other_arguments(node)}
        if isinstance(node.layer, keras.Model):
            results = replay(node.layer, _entering(node, values, visit), visit, others)
        else:
            read = tf.nest.flatten(node.keras_inputs)
            results = visit(node, [values[id(tensor)] for tensor in read], others)
        for old, value in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(results), strict=True):
            values[id(old)] = value
    return [values[id(tensor)] for tensor in model.outputs]


def first_argument(node: Any) -> Any:
    """What a layer is called on: tensors, nested as they were given."""
    first, *_ = node.layer._call_spec.split_out_first_arg(node.call_args, node.call_kwargs)
    return first


def _entering(node: Any, values: Mapping[int, Any], visit: Visit) -> list[Any]:
    """The values that a nested model is called on, in the order and the types of its inputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of what is superfluous, which Keras ignores.
        given = node.layer._flatten_to_reference_inputs(first_argument(node))
    entering = []
    for tensor, inner in zip(given, node.layer.inputs, strict=False):
        value = values[id(tensor)]
        if tensor.dtype != inner.dtype:
            cast = TFOpLambda(tf.cast, name=f"{inner.name}_cast")
            source = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=inner.name)
            cast(source, inner.dtype)
            (value,) = tf.nest.flatten(visit(cast._inbound_nodes[0], [value], {}))
        entering.append(value)
    return entering


def flat_inputs(model: keras.Model, inputs: Any) -> list[tf.Tensor]:
    """What a model is called with, in the order and in the types of `model.inputs`."""
    return [
        model._conform_to_reference_input(tensor, ref_input=reference)
        for tensor, reference in zip(
            model._flatten_to_reference_inputs(inputs), model.inputs, strict=True
        )
    ]


def _other_arguments(node: Any) -> dict[str, Any]:
    """The arguments of a layer's call but for the first, by name; an operation's constants."""
    if isinstance(node.layer, OPERATIONS):
        named = {f"argument {index}": value for index, value in enumerate(node.call_args, start=1)}
        named |= node.call_kwargs
        tensors = {id(tensor) for tensor in node.keras_inputs}
        return {
            name: value
            for name, value in named.items()
            if name != "name"
            and value is not None
            and not any(id(part) in tensors for part in tf.nest.flatten(value))
        }
    spec = node.layer._call_spec
    _, args, kwargs = spec.split_out_first_arg(node.call_args, node.call_kwargs)
    named = dict(zip(spec.arg_names[1:], args, strict=False)) | kwargs
    if isinstance(named.get("training"), int | np.bool_):
        named["training"] = bool(named["training"])
    return {name: value for name, value in named.items() if value is not None}


def call_as(
    node: Any, layer: keras.layers.Layer, tensors: list[Any], arguments: Mapping[str, Any]
) -> Any:
    """Calls `layer` with the arguments of Keras's node, `tensors` in the place of its tensors.

    Of `arguments`, which `replay` tells, those of the models around it are added.
    """
    new = {id(old): tensor for old, tensor in zip(node.keras_inputs, tensors, strict=True)}
    args, kwargs = tf.nest.map_structure(
        lambda argument: new.get(id(argument), argument), (node.call_args, node.call_kwargs)
    )
    own = _other_arguments(node)
    around = {name: value for name, value in arguments.items() if name not in own}
    return layer(*args, **kwargs | _taken(around, layer))


def read(model: keras.Model) -> Network:
    """The nodes of a model, flat: nested models are inlined, without what no output needs.

    A layer that is used several times is several nodes, and several layers of one name have
    different ones. Operations of TensorFlow that layers stand for (`wrpn_tf.tfmot.operations`) are
    read as those layers. Nothing is built, and no weight's value is read.
    """
    check_model(model)
    inputs = zip(model._input_layers, map(_shape, model.inputs), strict=True)
    collector = NodeCollector(inputs, _layer_names(model), _frozen_layers(model))

    def visit(
        keras_node: Any, sources: list[Node], arguments: Mapping[str, Any]
    ) -> Node | list[Node]:
        origin, layer = keras_node.layer, layer_of(keras_node)
        shapes = _output_shapes(keras_node, layer, [source.shape for source in sources])
        name, parts = own_name(origin), parts_of(keras_node)
        if parts:
            return collector.add_parts(origin, parts, name, sources, shapes)
        return collector.add_call(origin, layer, name, sources, shapes, arguments)

    return collector.network(model.name, replay(model, list(collector.nodes), visit))


def build(network: Network, call: Call | None = None, enter: Enter | None = None) -> keras.Model:
    """A functional model of a network's nodes, with the weights that they come from.

    Args:
      network: the nodes.
      call: called in execution order with each node but the inputs and the further uses of a layer,
        and the tensor that it reads (a list where there are several); returns the output. None:
        `call_node`.
      enter: called with each input and its tensor; returns what its readers get.

    Raises:
      ValueError: for an argument of a call that is not understood.
    """
    check_calls(network)
    call = call or call_node
    values: dict[str, Any] = {}
    entered: dict[str, Any] = {}
    several = {node.use_of for node in network.nodes}
    layers: dict[str | None, keras.layers.Layer] = {}
    inputs = []
    for node in network.nodes:
        tensors = [entered.get(name, values[name]) for name in node.inputs]
        if isinstance(node.layer, Element):
            values[node.name] = tensors[0][node.layer.index]
        elif node.inputs:
            inputs_of_node = tensors if len(tensors) > 1 else tensors[0]
            if node.use_of is None:
                results = tf.nest.flatten(call(node, inputs_of_node))
                if node.name in several:
                    layers[node.name] = results[0]._keras_history.layer
            else:
                layer = layers[node.use_of]
                outputs_of_node = layer(inputs_of_node, **call_arguments(node, layer))
                results = tf.nest.flatten(outputs_of_node)
            values[node.name] = results if len(results) > 1 else results[0]
        else:
            values[node.name] = keras.Input(
                batch_shape=node.shape, dtype=node.layer.dtype, name=node.name
            )
            inputs.append(values[node.name])
            if enter is not None:
                entered[node.name] = enter(node, values[node.name])
    outputs = [values[name] for name in network.results]
    return keras.Model(inputs, outputs[0] if len(outputs) == 1 else outputs, name=network.name)


def call_node(node: Node, inputs: Any) -> Any:
    """Calls a new layer for a node, with the node's weights."""
    layer = new_layer(node)
    outputs = layer(inputs, **call_arguments(node, layer))
    copy_weights(node, layer)
    return outputs


def call_arguments(node: Node, layer: keras.layers.Layer) -> dict[str, Any]:
    """The arguments of a node's call that a layer takes which stands for it or for a part of it."""
    return _taken(node.arguments, layer)


def _taken(arguments: Mapping[str, Any], layer: keras.layers.Layer) -> dict[str, Any]:
    takes = getattr(layer, "layer", layer)._call_spec.expects_training_arg
    return {"training": arguments["training"]} if takes and "training" in arguments else {}


def configured(layer: keras.layers.Layer, config: Mapping[str, Any]) -> keras.layers.Layer:
    """A new layer of the class of `layer`, of another configuration."""
    return type(layer).from_config(dict(config))


def new_layer(node: Node) -> keras.layers.Layer:
    """A layer for a node, configured as the node's and not built.

    Raises:
      ValueError: for an activity regularizer that Keras does not save.
    """
    config = node.layer.get_config() | {"name": node.name, "trainable": node.trainable}
    layer = configured(node.layer, config | dict(node.changes))
    lost = node.layer._activity_regularizer is not None and layer._activity_regularizer is None
    if lost and "activity_regularizer" not in node.changes:
        raise ValueError(
            f"Layer {node.name!r} ({type(node.layer).__name__}) has an activity_regularizer that "
            "Keras does not copy; put a tf_keras.layers.ActivityRegularization behind it."
        )
    return layer


def _layer_names(model: keras.Model) -> Iterator[str]:
    """Names of the layers of a model and of the models nested in it."""
    for node in graph_nodes(model):
        if isinstance(node.layer, keras.Model):
            yield from _layer_names(node.layer)
        else:
            yield own_name(node.layer)


def own_name(layer: keras.layers.Layer) -> str:
    """A layer's name; of one that is annotated the name without the mark."""
    return layer.layer.name if isinstance(layer, QuantizeAnnotate) else layer.name


def _frozen_layers(model: keras.Model, frozen: bool = False) -> Iterator[int]:
    """The ids of the layers that do not train: a model that is frozen freezes all its layers."""
    frozen = frozen or not model.trainable
    for layer in model._self_tracked_trackables:
        if isinstance(layer, keras.Model):
            yield from _frozen_layers(layer, frozen)
        elif frozen or not getattr(layer, "trainable", True):
            yield id(layer)


def _output_shapes(
    keras_node: Any, layer: keras.layers.Layer, input_shapes: list[Shape]
) -> list[Shape]:
    """Shapes of the outputs of a layer's call on inputs of these shapes.

    In a nested model they may be more special than those of the call that Keras recorded.
    """
    recorded = [_shape(tensor) for tensor in tf.nest.flatten(keras_node.keras_inputs)]
    if recorded == input_shapes or type(layer) is TFOpLambda:
        return [_shape(tensor) for tensor in tf.nest.flatten(keras_node.outputs)]
    shapes = layer.compute_output_shape(input_shapes if len(input_shapes) > 1 else input_shapes[0])
    return [tuple(shape) for shape in (shapes if isinstance(shapes, list) else [shapes])]


def _shape(tensor: Any) -> Shape:
    """A tensor's shape; () where not even its rank is known."""
    return () if tensor.shape.rank is None else tuple(tensor.shape)


def output_tensors(model: keras.Model) -> dict[str, Any]:
    """The symbolic output of every layer of a model without nesting or sharing.

    `layer.output` may be that of an earlier model that the layer was built in.
    """
    return {node.layer.name: node.outputs for node in graph_nodes(model)}
