"""The quantizer of kernels: it keeps its scale in the layer that holds it."""

from __future__ import annotations

from typing import Any

import keras

from wrpn_tf.arithmetic import portable
from wrpn_tf.arithmetic.quantizer_state import KernelState


class WeightQuantizer(KernelState):
    """k-bit weights, see `wrpn_tf.arithmetic.quantizer_state.KernelState`.

    Attributes:
      variables: by name, once it is built.
    """

    def build(self, layer: keras.layers.Layer, kernel: Any, class_name: str) -> None:
        """Adds the variables to `layer`.

        Args:
          layer: holds the quantizer.
          kernel: the variable that is quantized.
          class_name: of the layer whose kernel it is.
        """
        shape = tuple(kernel.shape)
        self.axes = self.shared_axes(len(shape), class_name)
        self.variables: dict[str, Any] = {}
        if self.has_variable:
            self.variables["scale"] = layer.add_weight(
                name="kernel_scale",
                shape=self.scale_shape(shape),
                initializer=keras.initializers.Constant(1.0 / self.levels),
                trainable=self.method == "learned",
            )
            self.gradient_scale = self.lsq_gradient_scale(shape)

    def __call__(self, kernel: Any) -> Any:
        """The quantized kernel."""
        if self.method == "xnor":
            return portable.xnor_weights(kernel, self.axes)
        if self.bits == 1:
            return portable.binarize(kernel, portable.mean_magnitude(kernel, self.axes))
        if self.method == "dorefa":
            return portable.dorefa_weights(kernel, self.bits)
        if self.method == "dynamic":
            scale = portable.dynamic_scale(kernel, self.levels, self.axes)
            return portable.fake_quantize(kernel, scale, -self.levels, self.levels)
        return portable.fake_quantize(
            kernel,
            portable.positive(self.variables["scale"].value),
            -self.levels,
            self.levels,
            self.gradient_scale,
        )
