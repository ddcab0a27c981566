"""What a model as a whole says that its quantized copy could not keep: refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from wrpn_tf.keras3.layers import QuantizedAveragePooling2D, QuantizedInput, QuantizedLayer
from wrpn_tf.keras3.traversal import check_model

_QUANTIZED = (QuantizedLayer, QuantizedInput, QuantizedAveragePooling2D)
_OWN_METHODS = frozenset(
    {
        *("call", "compute_loss", "compute_metrics", "train_step", "test_step", "predict_step"),
        *("make_train_function", "make_test_function", "make_predict_function", "fit", "evaluate"),
        *("stateless_compute_loss", "compute_loss_and_updates", "train_on_batch"),
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
    yield from _policy_problems(layers)
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


def _model_problems(model: keras.Model) -> Iterator[str]:
    own = {
        name
        for cls in type(model).__mro__
        if cls.__module__.split(".", maxsplit=1)[0] not in ("keras", "tensorflow", "builtins")
        for name in cls.__dict__
        if name in _OWN_METHODS
    }
    if own:
        yield (
            f"{type(model).__name__} {model.name!r} has its own {', '.join(sorted(own))}; quantize "
            "a keras.Model(inputs, outputs) of the same layers, and train that in a model around it"
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
