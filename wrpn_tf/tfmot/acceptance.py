"""What a model as a whole says that its copy could not keep: refused by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_layer,
    quantize_wrapper,
)

from wrpn_tf.graph import acceptance
from wrpn_tf.tfmot.operations import layer_of
from wrpn_tf.tfmot.traversal import (
    OPERATIONS,
    QuantizeAnnotate,
    check_model,
    first_argument,
    graph_nodes,
    own_name,
)

_QUANTIZED = (quantize_wrapper.QuantizeWrapper, quantize_layer.QuantizeLayer)
_FLOAT32 = ("float32", "_infer")
_OF_KERAS = ("tf_keras", "tensorflow", "builtins")


def check_accepted(model: Any, integer: bool) -> None:
    """Raises one ValueError that says what of a model would be lost, if anything would.

    Args:
      model: the user's.
      integer: whether it becomes an integer network, which has one size of images.
    """
    check_model(model)
    acceptance.refuse(model, _problems(model, integer))


def _problems(model: keras.Model, integer: bool) -> Iterator[str]:
    layers = list(acceptance.nested_layers(model, keras))
    quantized = list(acceptance.quantized_already(layers, _QUANTIZED))
    if quantized:
        yield from quantized
        return
    yield from lost(model, "quantize")
    for layer in [model, *layers]:
        if isinstance(layer, keras.Model):
            yield from _graph_problems(layer)
            continue
        yield from acceptance.own_metrics(layer, layer.metrics)
        if not _has_own_losses(layer):
            closures = map(inspect.getclosurevars, _loss_functions(layer))
            parts = [closure.nonlocals["regularizer"] for closure in closures]
            yield from acceptance.parts_of_weights(layer, parts)
    yield from acceptance.parts_that_are_not_copied(layers, keras)
    policy = keras.mixed_precision.global_policy()
    yield from acceptance.other_policies(layers, keras, policy, _FLOAT32)
    yield from acceptance.unusual_inputs(model._input_layers)
    if integer:
        yield from acceptance.sizes_of_images(zip(model.input_names, model.inputs, strict=True))


def _nodes(model: keras.Model) -> Iterator[Any]:
    """Keras's nodes of the calls in a model and in the models nested in it."""
    for node in graph_nodes(model):
        yield node
        if isinstance(node.layer, keras.Model):
            yield from _nodes(node.layer)


def lost(model: Any, verb: str) -> Iterator[str]:
    """What no copy has of a model and of the layers and models in it: sentences.

    Args:
      model: the user's.
      verb: what is done with it.
    """
    yield from acceptance.shared_weights(acceptance.nested_layers(model, keras), keras)
    for layer in [model, *acceptance.nested_layers(model, keras)]:
        if isinstance(layer, keras.Model):
            yield from acceptance.own_metrics(layer, layer._metrics)
            yield from acceptance.own_methods(layer, keras, _OF_KERAS, acceptance.OWN_METHODS, verb)
            yield from acceptance.weights_beside(layer, (node.layer for node in _nodes(layer)))
            yield from acceptance.regularizer_of_outputs(layer, layer._activity_regularizer, keras)
            if layer._callable_losses:
                yield f"{layer.name!r} has losses from add_loss; pass a loss to compile"
        elif _has_own_losses(layer):
            yield f"layer {layer.name!r} has losses from add_loss; pass a loss to compile"
        elif "call" in vars(layer) and not isinstance(layer, OPERATIONS):
            yield acceptance.called_otherwise(layer)


def _graph_problems(model: keras.Model) -> Iterator[str]:
    nodes = list(_nodes(model))
    if not nodes:
        yield f"{model.name!r} has no layers"
    for node in nodes:
        if not isinstance(node.layer, OPERATIONS) and _has_constant_operand(node):
            yield acceptance.called_on_a_constant(node.layer)
        if _is_annotated(node.layer) and _reads_a_mask(node):
            yield acceptance.reads_a_mask(own_name(node.layer))
        read = [tensor.dtype.name for tensor in tf.nest.flatten(node.keras_inputs)]
        made, *_ = tf.nest.flatten(node.outputs)
        yield from acceptance.computes_in_integers(
            layer_of(node), node.layer.name, read, made.dtype.name
        )


def _has_constant_operand(node: Any) -> bool:
    """Whether a layer reads, among the tensors of its first argument, one that no layer gives."""
    tensors = {id(tensor) for tensor in node.keras_inputs}
    return any(id(part) not in tensors for part in tf.nest.flatten(first_argument(node)))


def _is_annotated(layer: keras.layers.Layer) -> bool:
    """Whether a layer is annotated, or a model that has such layers."""
    if isinstance(layer, keras.Model):
        return any(map(_is_annotated, acceptance.nested_layers(layer, keras)))
    return isinstance(layer, QuantizeAnnotate)


def _reads_a_mask(node: Any) -> bool:
    tensors = tf.nest.flatten(node.keras_inputs)
    return any(getattr(tensor, "_keras_mask", None) is not None for tensor in tensors)


def _loss_functions(layer: keras.layers.Layer) -> list[Callable]:
    """What computes the losses of a layer beside that of its activity."""
    functions = [loss.args[0] for loss in layer._callable_losses]  # Keras tags each by a partial.
    return [getattr(function, "func", function) for function in functions]


def _has_own_losses(layer: keras.layers.Layer) -> bool:
    """Whether a layer was given losses beside those of its regularizers."""
    own = "_handle_weight_regularization"
    return any(
        own not in getattr(function, "__qualname__", "") for function in _loss_functions(layer)
    )
