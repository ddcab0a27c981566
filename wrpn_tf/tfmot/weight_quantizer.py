"""The TF-MOT quantizer of kernels: a serializable shell around pure functions and a scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.quantization.keras import quantizers as tfmot_quantizers

from wrpn_tf.arithmetic import quantizers, related_work, scales
from wrpn_tf.arithmetic.methods import WeightMethod, check_weight_method


@keras.saving.register_keras_serializable("wrpn_tf")
class WeightQuantizer(tfmot_quantizers.Quantizer):
    """k-bit weights on a symmetric grid, one scale per output channel or per layer.

    * 'learned': the scale is trained with LSQ's gradient (arXiv 1902.08153).
    * 'calibrated': the scale of least squared error, fixed when the model is quantized.
    * 'paper': scale ``1 / (2^(k-1) - 1)``, weights clipped to [-1, 1] (WRPN, section 5).
    * 'dynamic': a statistic of the kernel at every step, see `related_quantizers.dynamic_scale`.
    * 'dorefa': 1 to 7 bits, always per layer, see `related_quantizers.dorefa_weights`.
    * 'xnor': 1 bit, see `related_quantizers.xnor_weights`.

    One bit is ``sign(w) * mean|w|`` in every method (BWN, arXiv 1603.05279); its gradient is
    straight through, but for 'xnor'. Where there is a variable, it is ``<weight>_scale``, with 1 on
    the axes that share a scale.

    Args:
      bits: 1 to 8.
      method: see above.
      per_channel: one scale for each output channel; False: one for the layer.
    """

    def __init__(self, bits: int, method: WeightMethod = "learned", per_channel: bool = True):
        self.bits = quantizers.check_bits(bits, "weight bits")
        check_weight_method(method, bits)
        self.method: WeightMethod = method
        self.per_channel = per_channel and method != "dorefa"
        self.levels = quantizers.weight_levels(self.bits)

    def _shared_axes(self, rank: int, name: str, layer: Any) -> tuple[int, ...]:
        """Axes of a kernel that share one scale, in a layer or its wrapper."""
        if not self.per_channel:
            return tuple(range(rank))
        if isinstance(getattr(layer, "layer", layer), keras.layers.Conv2DTranspose):
            return (0, 1, 3)  # Height, width and input channels.
        return (0, 1) if name.startswith("depthwise") else tuple(range(rank - 1))

    def build(self, tensor_shape, name, layer):
        """Adds the variables to `layer` and returns them by name."""
        shape = [int(size) for size in tensor_shape]
        self.axes = self._shared_axes(len(shape), name, layer)
        if self.bits == 1 or self.method in ("dynamic", "dorefa"):
            return {}
        scale = layer.add_weight(
            name=f"{name}_scale",
            shape=[1 if axis in self.axes else size for axis, size in enumerate(shape)],
            initializer=keras.initializers.Constant(1.0 / self.levels),
            trainable=self.method == "learned",
        )
        shared = int(np.prod([shape[axis] for axis in self.axes]))
        self.gradient_scale = scales.lsq_gradient_scale(shared, self.levels)
        return {"scale": scale}

    def initialize(self, kernel: np.ndarray, weights: dict[str, Any]) -> None:
        """Sets the scale from the kernel's values: least squared error in each group."""
        if not weights or self.method == "paper":
            return
        groups = np.moveaxis(kernel, self.axes, range(len(self.axes)))
        groups = groups.reshape(int(np.prod([kernel.shape[a] for a in self.axes])), -1)
        best = scales.best_scales_np(groups.T, -self.levels, self.levels)
        weights["scale"].assign(np.reshape(best, weights["scale"].shape))

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

    def codes(self, kernel: np.ndarray, weights: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """The trained integers and their scale: ``kernel`` is quantized to ``codes * scale``.

        Returns:
          int32 codes of the kernel's shape, and a float32 scale broadcastable to it.
        """
        if self.bits == 1:
            return (
                quantizers.binary_codes_np(kernel),
                quantizers.mean_magnitude_np(kernel, self.axes),
            )
        if self.method == "dorefa":
            scale = np.full((1,) * kernel.ndim, 1.0 / quantizers.activation_levels(self.bits))
            codes = related_work.dorefa_codes_np(kernel, self.bits)
            return codes, scale.astype(np.float32)
        if self.method == "dynamic":
            scale = related_work.dynamic_scale_np(kernel, self.levels, self.axes)
        else:
            scale = quantizers.positive_np(weights["scale"].numpy())
        return quantizers.quantize_codes_np(kernel, scale, -self.levels, self.levels), scale

    @property
    def has_free_scale(self) -> bool:
        """Whether each channel's scale came from data or training, and not from the method."""
        return self.per_channel and (self.bits == 1 or self.method != "paper")

    def rescale(self, kernel: tf.Variable, weights: dict[str, Any], factors: np.ndarray) -> None:
        """Multiplies the scale of every output channel, in place.

        The kernel is multiplied too, so that codes stay but for values on a threshold to within
        float32's rounding.

        Args:
          kernel: the kernel.
          weights: the variables from `build`.
          factors: positive float32 of the scale's shape.
        """
        kernel.assign(kernel * factors)
        if weights:
            weights["scale"].assign(weights["scale"] * factors)

    def get_config(self):
        """The arguments."""
        return {"bits": self.bits, "method": self.method, "per_channel": self.per_channel}
