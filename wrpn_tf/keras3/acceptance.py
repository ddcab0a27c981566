"""What a model as a whole says that its copy could not keep: refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras import tree

from wrpn_tf.graph import acceptance
from wrpn_tf.keras3.layers import (
    AnnotatedLayer,
    QuantizedAveragePooling2D,
    QuantizedInput,
    QuantizedLayer,
)
from wrpn_tf.keras3.operations import layer_of
from wrpn_tf.keras3.traversal import check_model, first_argument, graph_nodes

_QUANTIZED = (QuantizedLayer, QuantizedInput, QuantizedAveragePooling2D)
_OF_KERAS = ("keras", "tensorflow", "torch", "builtins")
"""Packages that have a part in every model: on PyTorch, its Module too."""
_OWN_METHODS = acceptance.OWN_METHODS | {"stateless_compute_loss", "compute_loss_and_updates"}


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
        variables = [*layer._trainable_variables, *layer._non_trainable_variables]
        parts = [part for weight in variables for part in (weight.regularizer, weight.constraint)]
        yield from acceptance.parts_of_weights(layer, parts)
    yield from acceptance.parts_that_are_not_copied(layers, keras)
    yield from acceptance.other_policies(layers, keras, keras.config.dtype_policy(), ("float32",))
    inputs = [(tensor._keras_history.operation, tensor) for tensor in model.inputs]
    yield from acceptance.unusual_inputs(layer for layer, _ in inputs)
    if integer:
        yield from acceptance.sizes_of_images((layer.name, tensor) for layer, tensor in inputs)


def _nodes(model: keras.Model) -> Iterator[Any]:
    """Keras's nodes of the calls in a model and in the models nested in it."""
    for node in graph_nodes(model):
        yield node
        if isinstance(node.operation, keras.Model):
            yield from _nodes(node.operation)


def _has_constant_operand(node: Any) -> bool:
    """Whether a layer reads, among the tensors of its first argument, one that no layer gives."""
    parts = tree.flatten(first_argument(node))
    return not all(isinstance(part, keras.KerasTensor) for part in parts)


def _is_annotated(operation: Any) -> bool:
    """Whether a layer is annotated, or a model that has such layers."""
    if isinstance(operation, keras.Model):
        return any(map(_is_annotated, acceptance.nested_layers(operation, keras)))
    return isinstance(operation, AnnotatedLayer)


def _reads_a_mask(node: Any) -> bool:
    return any(getattr(tensor, "_keras_mask", None) is not None for tensor in node.input_tensors)


def lost(model: Any, verb: str) -> Iterator[str]:
    """What no copy has of a model and of the layers and models in it: sentences.

    Args:
      model: the user's.
      verb: what is done with it.
    """
    layers = list(acceptance.nested_layers(model, keras))
    yield from acceptance.shared_weights(layers, keras)
    adapted = [layer.name for layer in layers if getattr(layer, "lora_enabled", False)]
    if adapted:
        yield f"layers have LoRA weights ({', '.join(adapted)}); merge them into the kernels first"
    by_keras = [layer.name for layer in layers if layer.quantization_mode]
    if by_keras:
        yield f"layers are quantized by Keras ({', '.join(by_keras)}); {verb} the float model"
    for layer in [model, *layers]:
        if isinstance(layer, keras.Model):
            yield from acceptance.own_metrics(layer, layer._metrics)
            yield from acceptance.own_methods(layer, keras, _OF_KERAS, _OWN_METHODS, verb)
            yield from acceptance.weights_beside(layer, (node.operation for node in _nodes(layer)))
            yield from acceptance.regularizer_of_outputs(layer, layer.activity_regularizer, keras)
            continue
        if "call" in vars(layer):
            yield acceptance.called_otherwise(layer)
        frozen = [weight.path for weight in layer._trainable_variables if not weight.trainable]
        if layer.trainable and frozen:
            yield f"weights are frozen by themselves ({', '.join(frozen)}); freeze whole layers"


def _graph_problems(model: keras.Model) -> Iterator[str]:
    nodes = list(_nodes(model))
    if not nodes:
        yield f"{model.name!r} has no layers"
    for node in nodes:
        if isinstance(node.operation, keras.layers.Layer) and _has_constant_operand(node):
            yield acceptance.called_on_a_constant(node.operation)
        if _is_annotated(node.operation) and _reads_a_mask(node):
            yield acceptance.reads_a_mask(node.operation.name)
        read = [tensor.dtype for tensor in node.input_tensors]
        yield from acceptance.computes_in_integers(
            layer_of(node), node.operation.name, read, node.outputs[0].dtype
        )
