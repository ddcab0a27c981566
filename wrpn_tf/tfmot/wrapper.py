"""TF-MOT's two layers that hold quantizers, such that every format of Keras restores them."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_layer,
    quantize_wrapper,
)

from wrpn_tf.graph.roles import is_replaced

# Both classes keep TF-MOT's names: a .keras archive finds a layer's variables by its class's name.


@keras.saving.register_keras_serializable("wrpn_tf")
class QuantizeLayer(quantize_layer.QuantizeLayer):
    """TF-MOT's quantizer of an input, built once.

    TF-MOT's own forgets that it is built: one that is built when it is read from a configuration is
    built again when it is called, and has every variable twice.
    """

    def call(self, inputs, training=False):
        """Quantizes; what is traced here needs no AutoGraph, which takes long."""
        return tf.autograph.experimental.do_not_convert(super().call)(inputs, training)

    def build_from_config(self, config):
        """Nothing: the call that follows builds the layer, and names its variables after it."""


@keras.saving.register_keras_serializable("wrpn_tf")
class QuantizeWrapperV2(quantize_wrapper.QuantizeWrapperV2):
    """TF-MOT's wrapper, with Keras's meaning of `trainable`, and with one order of variables.

    A frozen layer has no trainable weights, scales included, and its observed range stays. Activity
    regularizers see quantized outputs.

    Variables are the kernel, what else the layer trains, and the trained scales; then all others.
    TF-MOT's own order depends on whether the layer was built and trainable when it was wrapped,
    and a layer that is frozen later has variables twice; HDF5 files match them by position.
    """

    def build(self, input_shape):
        """Builds the layer before its quantizers."""
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True
        super().build(input_shape)
        self.sort_weights()

    def sort_weights(self) -> None:
        """Puts the variables in the order that the class names."""
        kernels = [kernel for kernel, _, _ in self._weight_vars]
        layer = [weight for weight in self.layer.weights if weight.trainable]
        trained = [*kernels, *layer, *self._trainable_weights]
        self._trainable_weights[:] = self._dedup_weights(trained)

    @property
    def _activity_regularizer(self):
        """The layer's: Keras applies it to what the wrapper returns."""
        return self.layer._activity_regularizer

    @_activity_regularizer.setter
    def _activity_regularizer(self, value):
        """Keras sets None."""

    def call(self, inputs, training=False, **kwargs):
        """Calls the layer: Keras's, which like all here needs no AutoGraph, and that takes long."""
        return tf.autograph.experimental.do_not_convert(self._call)(inputs, training, **kwargs)

    def _call(self, inputs, training, **kwargs):
        """Calls the layer, unless it is a ReLU whose quantizer clips all that it would."""
        quantizer = next(iter(self._output_quantizers), None)
        if quantizer is not None and is_replaced(self.layer, quantizer):
            return quantizer(inputs, training, self._output_quantizer_vars)
        return super().call(inputs, training=training, **kwargs)

    def _make_quantizer_fn(self, quantizer, x, training, quantizer_vars):
        return super()._make_quantizer_fn(quantizer, x, training and self.trainable, quantizer_vars)

    @property
    def trainable_weights(self):
        """All that the layer and its quantizers train; none in a frozen layer."""
        return list(self._trainable_weights) if self.trainable else []

    @property
    def non_trainable_weights(self):
        """The others, so that all together have one order, frozen or not."""
        frozen = [] if self.trainable else self._trainable_weights
        return self._dedup_weights(
            [*frozen, *self.layer.non_trainable_weights, *self._non_trainable_weights]
        )

    def build_from_config(self, config):
        """Nothing: the call that follows builds the layer, and names its variables after it."""

    def save_own_variables(self, store):
        """Stores the variables that the wrapped layer does not store itself, by name."""
        for name, variable in self._own_variables().items():
            store[name] = variable.numpy()

    def load_own_variables(self, store):
        """Loads what `save_own_variables` or TF-MOT's wrapper, which counts them, stored."""
        if "0" in store:
            return super().load_own_variables(store)
        own = self._own_variables()
        if set(store) != set(own):
            raise ValueError(
                f"Layer {self.name!r} has the variables {', '.join(sorted(own))}; the file has "
                f"{', '.join(sorted(store)) or 'none'}. Was the model quantized otherwise?"
            )
        for name, variable in own.items():
            variable.assign(store[name])
        return None

    def _own_variables(self) -> dict[str, tf.Variable]:
        others = {id(variable) for variable in self.layer.weights}
        return {
            self._weight_name(variable.name): variable
            for variable in [*self._trainable_weights, *self._non_trainable_weights]
            if id(variable) not in others
        }
