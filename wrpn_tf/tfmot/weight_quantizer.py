"""The TF-MOT quantizer of kernels: a serializable shell around pure functions and a scale."""

from __future__ import annotations

import tf_keras as keras
from tensorflow_model_optimization.quantization.keras import quantizers as tfmot_quantizers

from wrpn_tf.arithmetic import quantizers, related_work
from wrpn_tf.arithmetic.quantizer_state import KernelState
from wrpn_tf.graph.roles import class_name


@keras.saving.register_keras_serializable("wrpn_tf")
class WeightQuantizer(KernelState, tfmot_quantizers.Quantizer):
    """k-bit weights, see `wrpn_tf.arithmetic.quantizer_state.KernelState`."""

    def build(self, tensor_shape, name, layer):
        """Adds the variables to `layer`, a wrapper, and returns them by name."""
        shape = tuple(int(size) for size in tensor_shape)
        self.axes = self.shared_axes(len(shape), class_name(getattr(layer, "layer", layer)))
        if not self.has_variable:
            return {}
        scale = layer.add_weight(
            name=f"{name}_scale",
            shape=self.scale_shape(shape),
            initializer=keras.initializers.Constant(1.0 / self.levels),
            trainable=self.method == "learned",
        )
        self.gradient_scale = self.lsq_gradient_scale(shape)
        return {"scale": scale}

    def __call__(self, inputs, training, weights, **kwargs):
        """Quantizes `inputs`."""
        if self.method == "xnor":
            return related_work.xnor_weights(inputs, self.axes)
        if self.bits == 1:
            return quantizers.binarize(inputs, quantizers.mean_magnitude(inputs, self.axes))
        if self.method == "dorefa":
            return related_work.dorefa_weights(inputs, self.bits)
        if self.method == "dynamic":
            scale = related_work.dynamic_scale(inputs, self.levels, self.axes)
            return quantizers.fake_quantize(inputs, scale, -self.levels, self.levels)
        return quantizers.fake_quantize(
            inputs,
            quantizers.positive(weights["scale"]),
            -self.levels,
            self.levels,
            self.gradient_scale,
        )
