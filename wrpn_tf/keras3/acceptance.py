"""What a model as a whole says that its quantized copy could not keep: refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras import tree

from wrpn_tf.graph.support import parts_of_weights, parts_that_are_not_copied
from wrpn_tf.keras3.layers import QuantizedAveragePooling2D, QuantizedInput, QuantizedLayer
from wrpn_tf.keras3.traversal import check_model, graph_nodes

_QUANTIZED = (QuantizedLayer, QuantizedInput, QuantizedAveragePooling2D)
_OF_KERAS = ("keras", "tensorflow", "torch", "builtins")
"""Packages that have a part in every model: on PyTorch, its Module too."""
_OWN_METHODS = frozenset(
    {
        *("call", "compute_loss", "compute_metrics", "train_step", "test_step", "predict_step"),
        *("make_train_function", "make_test_function", "make_predict_function", "fit", "evaluate"),
        *("train_on_batch", "test_on_batch", "predict_on_batch", "predict", "compile", "metrics"),
        *("stateless_compute_loss", "compute_loss_and_updates"),
    }
)


def check_accepted(model: Any, integer: bool) -> None:
    """Raises one ValueError that says what of a model would be lost, if anything would.

    Args:
      model: the user's.
      integer: whether it becomes an integer network, which has one size of images.
    """
    check_model(model)
    problems = list(dict.fromkeys(_problems(model, integer)))
    if problems:
        raise ValueError(f"Cannot quantize model {model.name!r}: {'; '.join(problems)}.")


def _problems(model: keras.Model, integer: bool) -> Iterator[str]:
    layers = list(_layers(model))
    quantized = [layer.name for layer in layers if isinstance(layer, _QUANTIZED)]
    if quantized:
        yield f"it is quantized already ({', '.join(quantized)}); quantize the float model"
        return
    for layer in [model, *layers]:
        is_model = isinstance(layer, keras.Model)
        metrics = [metric.name for metric in (layer._metrics if is_model else layer.metrics)]
        if metrics:
            yield (
                f"{layer.name!r} has metrics of its own ({', '.join(metrics)}); "
                "pass metrics to compile"
            )
        if is_model:
            yield from _model_problems(layer)
            continue
        if "call" in vars(layer):
            yield f"layer {layer.name!r} was given another call; make it a layer of its own"
        variables = [*layer._trainable_variables, *layer._non_trainable_variables]
        parts = [part for weight in variables for part in (weight.regularizer, weight.constraint)]
        yield from parts_of_weights(layer, parts)
        frozen = [weight.path for weight in layer._trainable_variables if not weight.trainable]
        if layer.trainable and frozen:
            yield f"weights are frozen by themselves ({', '.join(frozen)}); freeze whole layers"
    yield from parts_that_are_not_copied(layers, keras)
    yield from _policy_problems(layers)
    yield from _input_problems(model)
    adapted = [layer.name for layer in layers if getattr(layer, "lora_enabled", False)]
    if adapted:
        yield f"layers have LoRA weights ({', '.join(adapted)}); merge them into the kernels first"
    for tensor in model.inputs:
        if integer and None in tuple(tensor.shape)[1:]:
            yield (
                f"input {tensor._keras_history.operation.name!r} has the shape "
                f"{tuple(tensor.shape)}, and an integer network has one size of images; build the "
                "model with keras.Input((height, width, channels))"
            )


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models nested in it, and these models."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def _input_problems(model: keras.Model) -> Iterator[str]:
    for tensor in model.inputs:
        layer = tensor._keras_history.operation
        for kind in ("sparse", "ragged", "optional"):
            if getattr(layer, kind, False):
                yield f"input {layer.name!r} is {kind}; a quantizer takes dense tensors"


def _nodes(model: keras.Model) -> Iterator[Any]:
    """Keras's nodes of the calls in a model and in the models nested in it."""
    for node in graph_nodes(model):
        yield node
        if isinstance(node.operation, keras.Model):
            yield from _nodes(node.operation)


def _has_constant_operand(node: Any) -> bool:
    """Whether a layer reads, among the tensors of its first argument, one that no layer gives."""
    arguments = (*node.arguments.args, *node.arguments.kwargs.values())
    parts = tree.flatten(arguments[0])
    return not all(isinstance(part, keras.KerasTensor) for part in parts)


def _model_problems(model: keras.Model) -> Iterator[str]:
    own = {
        name
        for cls in type(model).__mro__
        if cls.__module__.split(".", maxsplit=1)[0] not in _OF_KERAS
        for name in cls.__dict__
        if name in _OWN_METHODS
    } | (_OWN_METHODS & vars(model).keys())
    if own:
        yield (
            f"{type(model).__name__} {model.name!r} has its own {', '.join(sorted(own))}; quantize "
            "a keras.Model(inputs, outputs) of the same layers, and train that in a model around it"
        )
    nodes = list(_nodes(model))
    if not nodes:
        yield f"{model.name!r} has no layers"
    called = [node.operation for node in nodes]
    reached = {id(weight) for each in called for weight in getattr(each, "weights", ())}
    own_weights = [weight.path for weight in model.weights if id(weight) not in reached]
    if own_weights:
        yield f"{model.name!r} has weights of no layer of its graph ({', '.join(own_weights)})"
    if model.activity_regularizer is not None:
        yield (
            f"{model.name!r} has an activity_regularizer; put a keras.layers."
            "ActivityRegularization behind it"
        )
    for node in nodes:
        if isinstance(node.operation, keras.layers.Layer) and _has_constant_operand(node):
            yield (
                f"layer {node.operation.name!r} ({type(node.operation).__name__}) is called on a "
                "constant; write it as an operation, x + constant"
            )


def _policy_problems(layers: list[keras.layers.Layer]) -> Iterator[str]:
    advice = "build and quantize the model under the policy 'float32'"
    policy = keras.config.dtype_policy()
    if policy.name != "float32":
        yield f"the global policy is {policy.name!r}; {advice}"
        return
    others = [
        f"{layer.name} ({layer.dtype_policy.name!r})"
        for layer in layers
        if not isinstance(layer, keras.layers.InputLayer | keras.Model)
        and layer.dtype_policy.name != "float32"
    ]
    if others:
        yield f"layers have other policies: {', '.join(others)}; {advice}"
