"""What a model takes and returns: names and structure, whatever its layers are called."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tf_keras.src.engine.functional import Functional


@keras.saving.register_keras_serializable("wrpn_tf")
class QuantizedModel(Functional):
    """A functional model whose outputs have names that are saved, and not those of its layers."""

    def get_config(self):
        return super().get_config() | {"output_names": list(self.output_names)}

    def _updated_config(self):
        """What `to_json` writes: with the registered name, by which the class is found."""
        name = keras.saving.get_registered_name(type(self))
        return super()._updated_config() | {"class_name": name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        names = config.pop("output_names")
        model = super().from_config(config, custom_objects)
        _name_outputs(model, names)
        return model


def with_interface_of(model: keras.Model, quantized: keras.Model) -> keras.Model:
    """The quantized model with inputs and outputs as `model` names and nests them."""
    quantized = QuantizedModel(
        tf.nest.pack_sequence_as(model._nested_inputs, quantized.inputs),
        tf.nest.pack_sequence_as(model._nested_outputs, quantized.outputs),
        name=quantized.name,
    )
    _name_outputs(quantized, model.output_names)
    return quantized


def float_with_interface_of(model: keras.Model, network: keras.Model) -> keras.Model:
    """The same of a float model: of Keras's own class where that gives the outputs their names."""
    plain = keras.Model(
        tf.nest.pack_sequence_as(model._nested_inputs, network.inputs),
        tf.nest.pack_sequence_as(model._nested_outputs, network.outputs),
        name=network.name,
    )
    if list(plain.output_names) == list(model.output_names):
        return plain
    return with_interface_of(model, network)


@tf.__internal__.tracking.no_automatic_dependency_tracking
def _name_outputs(model: keras.Model, names: Sequence[str]) -> None:
    model.output_names = list(names)


def interface_of(model: keras.Model) -> Any:
    """What `with_interface_of` of either front reads of a model."""
    return types.SimpleNamespace(
        name=model.name,
        output_names=list(model.output_names),
        _inputs_struct=model._nested_inputs,
        _outputs_struct=model._nested_outputs,
        _nested_inputs=model._nested_inputs,
        _nested_outputs=model._nested_outputs,
    )


def input_names(model: keras.Model) -> list[str]:
    """Names of a model's inputs, in the order of `model.inputs`."""
    return list(model.input_names)


def nested_inputs(model: keras.Model) -> Any:
    """The inputs as the model nests them."""
    return model._nested_inputs


def packed_inputs(model: keras.Model, inputs: Sequence[Any]) -> Any:
    """One value for each input, nested as the model takes them."""
    return tf.nest.pack_sequence_as(model._nested_inputs, list(inputs))


def packed_outputs(model: keras.Model, outputs: Sequence[Any]) -> Any:
    """One value for each output, nested as the model returns them."""
    return tf.nest.pack_sequence_as(model._nested_outputs, list(outputs))


def flat_outputs(model: keras.Model, outputs: Any) -> list[Any]:
    """What a model returned, in the order of `model.outputs`."""
    return tf.nest.flatten(outputs)
