"""The quantized model: a functional one that keeps the interface of the user's."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import tree
from keras.src.models.functional import Functional

from wrpn_tf.keras3.traversal import functional


@keras.saving.register_keras_serializable("wrpn_tf")
class QuantizedModel(Functional):
    """A functional model whose outputs have names that are saved, and not those of its layers."""

    def get_config(self) -> dict[str, Any]:
        """The configuration with the names of the outputs."""
        return super().get_config() | {"output_names": list(self.output_names)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> QuantizedModel:
        """The model that `get_config` tells of."""
        config = dict(config)
        names = config.pop("output_names")
        model = super().from_config(config, custom_objects)
        model.output_names = names
        return model


def with_interface_of(model: Any, inputs: list[Any], outputs: list[Any]) -> QuantizedModel:
    """The model of some tensors, with inputs and outputs as `model` names and nests them."""
    user = functional(model)
    quantized = QuantizedModel(
        tree.pack_sequence_as(user._inputs_struct, inputs),
        tree.pack_sequence_as(user._outputs_struct, outputs),
        name=model.name,
    )
    quantized.output_names = list(user.output_names)
    return quantized


def float_with_interface_of(model: Any, inputs: list[Any], outputs: list[Any]) -> keras.Model:
    """The same of a float model: of Keras's own class where that gives the outputs their names."""
    user = functional(model)
    plain = keras.Model(
        tree.pack_sequence_as(user._inputs_struct, inputs),
        tree.pack_sequence_as(user._outputs_struct, outputs),
        name=model.name,
    )
    if list(plain.output_names) == list(user.output_names):
        return plain
    return with_interface_of(model, inputs, outputs)


def interface_of(model: keras.Model) -> Any:
    """What `with_interface_of` of either front reads of a model."""
    user = functional(model)
    return types.SimpleNamespace(
        name=model.name,
        output_names=list(user.output_names),
        _inputs_struct=user._inputs_struct,
        _outputs_struct=user._outputs_struct,
        _nested_inputs=user._inputs_struct,
        _nested_outputs=user._outputs_struct,
    )


def input_names(model: keras.Model) -> list[str]:
    """Names of a model's inputs, in the order of `model.inputs`."""
    return [tensor._keras_history.operation.name for tensor in model.inputs]


def nested_inputs(model: keras.Model) -> Any:
    """The inputs as the model nests them."""
    return functional(model)._inputs_struct


def packed_inputs(model: keras.Model, inputs: Sequence[Any]) -> Any:
    """One value for each input, nested as the model takes them."""
    return tree.pack_sequence_as(nested_inputs(model), list(inputs))


def packed_outputs(model: keras.Model, outputs: Sequence[Any]) -> Any:
    """One value for each output, nested as the model returns them: of one in a list, the value."""
    packed = tree.pack_sequence_as(functional(model)._outputs_struct, list(outputs))
    return packed[0] if isinstance(packed, list | tuple) and len(packed) == 1 else packed


def flat_inputs(model: keras.Model, inputs: Any) -> list[Any]:
    """What a model is called with, in the order and in the types of `model.inputs`."""
    return functional(model)._standardize_inputs(inputs)


def without_updates(model: keras.Model) -> Callable[[], contextlib.AbstractContextManager]:
    """Makes contexts in which calls of the model's layers change no variable."""
    return keras.StatelessScope


def flat_outputs(model: keras.Model, outputs: Any) -> list[Any]:
    """What a model returned, in the order of `model.outputs`, as arrays."""
    return [keras.ops.convert_to_numpy(value) for value in tree.flatten(outputs)]
