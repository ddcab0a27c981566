"""What a model as a whole says that its quantized copy could not keep: refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_layer,
    quantize_wrapper,
)

from wrpn_tf.tfmot.traversal import check_model

_QUANTIZED = (quantize_wrapper.QuantizeWrapper, quantize_layer.QuantizeLayer)
_FLOAT32 = ("float32", "_infer")
_OWN_METHODS = frozenset(
    {
        *("call", "compute_loss", "compute_metrics", "train_step", "test_step", "predict_step"),
        *("make_train_function", "make_test_function", "make_predict_function", "fit", "evaluate"),
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
        if isinstance(layer, keras.Model):
            yield from _model_problems(layer)
        elif _has_own_losses(layer):
            yield f"layer {layer.name!r} has losses from add_loss; pass a loss to compile"
    yield from _policy_problems(layers)
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


def _model_problems(model: keras.Model) -> Iterator[str]:
    own = {
        name
        for cls in type(model).__mro__
        if cls.__module__.split(".", maxsplit=1)[0] not in ("tf_keras", "tensorflow", "builtins")
        for name in cls.__dict__
        if name in _OWN_METHODS
    }
    if own:
        yield (
            f"{type(model).__name__} {model.name!r} has its own {', '.join(sorted(own))}; quantize "
            "a tf_keras.Model(inputs, outputs) of the same layers, and train that in a model "
            "around it"
        )
    if model._callable_losses:
        yield f"{model.name!r} has losses from add_loss; pass a loss to compile"


def _has_own_losses(layer: keras.layers.Layer) -> bool:
    """Whether a layer was given losses beside those of its regularizers."""
    functions = [loss.args[0] for loss in layer._callable_losses]  # Keras tags each by a partial.
    functions = [getattr(function, "func", function) for function in functions]
    own = "_handle_weight_regularization"
    return any(own not in getattr(function, "__qualname__", "") for function in functions)


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
