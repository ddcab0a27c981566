"""What a model as a whole says that its quantized copy could not keep: refused by name."""

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

from wrpn_tf.graph.support import parts_of_weights, parts_that_are_not_copied
from wrpn_tf.tfmot.traversal import OPERATIONS, check_model, graph_nodes

_QUANTIZED = (quantize_wrapper.QuantizeWrapper, quantize_layer.QuantizeLayer)
_FLOAT32 = ("float32", "_infer")
_OWN_METHODS = frozenset(
    {
        *("call", "compute_loss", "compute_metrics", "train_step", "test_step", "predict_step"),
        *("make_train_function", "make_test_function", "make_predict_function", "fit", "evaluate"),
        *("train_on_batch", "test_on_batch", "predict_on_batch", "predict", "compile", "metrics"),
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
        elif _has_own_losses(layer):
            yield f"layer {layer.name!r} has losses from add_loss; pass a loss to compile"
        elif "call" in vars(layer) and not isinstance(layer, OPERATIONS):
            yield f"layer {layer.name!r} was given another call; make it a layer of its own"
        else:
            closures = map(inspect.getclosurevars, _loss_functions(layer))
            yield from parts_of_weights(layer, [c.nonlocals["regularizer"] for c in closures])
    yield from parts_that_are_not_copied(layers, keras)
    yield from _policy_problems(layers)
    yield from _input_problems(model)
    for tensor, name in zip(model.inputs, model.input_names, strict=True):
        if integer and None in tuple(tensor.shape)[1:]:
            yield (
                f"input {name!r} has the shape {tuple(tensor.shape)}, and an integer network has "
                "one size of images; build the model with keras.Input((height, width, channels))"
            )


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models nested in it, and these models."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def _input_problems(model: keras.Model) -> Iterator[str]:
    for layer in model._input_layers:
        for kind in ("sparse", "ragged"):
            if getattr(layer, kind, False):
                yield f"input {layer.name!r} is {kind}; a quantizer takes dense tensors"


def _nodes(model: keras.Model) -> Iterator[Any]:
    """Keras's nodes of the calls in a model and in the models nested in it."""
    for node in graph_nodes(model):
        yield node
        if isinstance(node.layer, keras.Model):
            yield from _nodes(node.layer)


def _model_problems(model: keras.Model) -> Iterator[str]:
    own = {
        name
        for cls in type(model).__mro__
        if cls.__module__.split(".", maxsplit=1)[0] not in ("tf_keras", "tensorflow", "builtins")
        for name in cls.__dict__
        if name in _OWN_METHODS
    } | (_OWN_METHODS & vars(model).keys())
    if own:
        yield (
            f"{type(model).__name__} {model.name!r} has its own {', '.join(sorted(own))}; quantize "
            "a tf_keras.Model(inputs, outputs) of the same layers, and train that in a model "
            "around it"
        )
    nodes = list(_nodes(model))
    if not nodes:
        yield f"{model.name!r} has no layers"
    reached = {id(weight) for node in nodes for weight in node.layer.weights}
    own_weights = [weight.name for weight in model.weights if id(weight) not in reached]
    if own_weights:
        yield f"{model.name!r} has weights of no layer of its graph ({', '.join(own_weights)})"
    if model._activity_regularizer is not None:
        yield (
            f"{model.name!r} has an activity_regularizer; put a tf_keras.layers."
            "ActivityRegularization behind it"
        )
    for node in nodes:
        if not isinstance(node.layer, OPERATIONS) and _has_constant_operand(node):
            yield (
                f"layer {node.layer.name!r} ({type(node.layer).__name__}) is called on a constant; "
                "write it as an operation, x + constant"
            )
    if model._callable_losses:
        yield f"{model.name!r} has losses from add_loss; pass a loss to compile"


def _has_constant_operand(node: Any) -> bool:
    """Whether a layer reads, among the tensors of its first argument, one that no layer gives."""
    first, *_ = node.layer._call_spec.split_out_first_arg(node.call_args, node.call_kwargs)
    tensors = {id(tensor) for tensor in node.keras_inputs}
    return any(id(part) not in tensors for part in tf.nest.flatten(first))


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


def _policy_problems(layers: list[keras.layers.Layer]) -> Iterator[str]:
    advice = "build and quantize the model under the policy 'float32'"
    policy = keras.mixed_precision.global_policy()
    if policy.name not in _FLOAT32:
        yield f"the global policy is {policy.name!r}; {advice}"
        return
    others = [
        f"{layer.name} ({layer.dtype_policy.name!r})"
        for layer in layers
        if not isinstance(layer, keras.layers.InputLayer | keras.Model)
        and layer.dtype_policy.name not in _FLOAT32
    ]
    if others:
        yield f"layers have other policies: {', '.join(others)}; {advice}"
