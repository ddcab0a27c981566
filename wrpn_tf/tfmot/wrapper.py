"""TF-MOT's wrapper around a quantized layer, with Keras's meaning of `trainable`."""

from __future__ import annotations

from typing import Any

from tensorflow_model_optimization.python.core.quantization.keras import quantize_wrapper


class FreezableWrapper(quantize_wrapper.QuantizeWrapperV2):
    """A wrapper that freezes with its layer: TF-MOT's trains frozen layers and their scales.

    A frozen layer has no trainable weights, and its observed range stays. Activity regularizers
    see quantized outputs. Frozen or not, the
    layer's weights come first: a loaded wrapper of TF-MOT would list the scales before them, and
    HDF5 files match weights by position.
    """

    _trainable_weights: list[Any]

    @classmethod
    def adopt(cls, wrapper: quantize_wrapper.QuantizeWrapperV2) -> None:
        """Turns a built wrapper that TF-MOT made, which lets no other class be named, into one."""
        wrapper.__class__ = cls
        wrapper._list_layer_first()
        wrapper.layer._losses = []  # Of when it was called itself; from now on only the wrapper is.

    def build(self, input_shape):
        """Builds the layer before the wrapper."""
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True
        super().build(input_shape)
        self._list_layer_first()

    def _list_layer_first(self) -> None:
        # Keras forgets a kernel, a layer's first weight, once its quantized value takes its place.
        kernels = [kernel for kernel, _, _ in self._weight_vars]
        weights = [*kernels, *self.layer._trainable_weights, *self._trainable_weights]
        self._trainable_weights = self._dedup_weights(weights)

    @property
    def _activity_regularizer(self):
        """The layer's: Keras applies it to what the wrapper returns."""
        return self.layer._activity_regularizer

    @_activity_regularizer.setter
    def _activity_regularizer(self, value):
        """Keras sets None."""

    @property
    def trainable_weights(self) -> list[Any]:
        return super().trainable_weights if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Any]:
        if self.trainable:
            return super().non_trainable_weights
        others = self.layer.non_trainable_weights + self._non_trainable_weights
        return self._dedup_weights(self._trainable_weights + others)

    def _make_quantizer_fn(self, quantizer, x, training, quantizer_vars):
        return super()._make_quantizer_fn(quantizer, x, training and self.trainable, quantizer_vars)
