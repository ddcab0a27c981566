"""TF-MOT quantizers of layers' outputs: serializable shells that keep scales and ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.quantization.keras import quantizers as tfmot_quantizers

from wrpn_tf.arithmetic import quantizers, related_work, scales
from wrpn_tf.arithmetic.methods import ACTIVATION_METHODS, ActivationMethod, check_method
from wrpn_tf.arithmetic.quantization_parameters import QuantizationParameters

INITIAL_CLIP = 2.0
"""Activation clip before calibration: two standard deviations of a batch-normalized input."""

RANGE_MOMENTUM = 0.99

RANGE_OF_ZEROS = 1.0
"""The maximum of a range in which nothing but 0 was seen: any scale represents it."""


class ObservableQuantizer(tfmot_quantizers.Quantizer):
    """An output quantizer that calibration can look through.

    While `observer` is set it is called with every tensor, and decides whether the tensor passes
    quantized.
    """

    observer: Callable[[np.ndarray], bool] | None = None
    has_free_scale: bool
    """Whether data or training decided on the scale, and not the method: it may then move."""

    def shift(self, weights: dict[str, Any]) -> float:
        """What is added to values before they are rounded: not 0 only for pixels."""
        return 0.0

    def __call__(self, inputs, training, weights, **kwargs):
        """Quantizes `inputs`, after showing them to the observer if there is one.

        Integers (pixels as they are stored) are taken as the numbers that they are.
        """
        if inputs.dtype.is_integer:
            inputs = tf.cast(inputs, tf.float32)
        if self.observer is not None and not self.observer(inputs.numpy()):
            return inputs
        return self.quantize(inputs, training, weights)


@keras.saving.register_keras_serializable("wrpn_tf")
class ActivationQuantizer(ObservableQuantizer):
    """k-bit activations: clip to ``[0, (2^k - 1) * scale]`` and round to multiples of the scale.

    * 'learned': the scale is trained, and the clip with it, by LSQ's gradient (arXiv 1902.08153).
    * 'pact': the clip is trained, and the scale with it, by PACT's gradient (arXiv 1805.06085).
    * 'calibrated': the scale of least squared error over the calibration data, then fixed.
    * 'paper': scale ``1 / (2^k - 1)``: clip to [0, 1] (WRPN, section 5).

    The variable is ``output_scale``, and ``output_clip`` for 'pact'.

    Args:
      bits: 1 to 8.
      method: see above.
      maximum: an upper bound that the clip must not exceed (6 behind a ReLU6), or None.
    """

    def __init__(
        self, bits: int, method: ActivationMethod = "learned", maximum: float | None = None
    ):
        self.bits = quantizers.check_bits(bits, "activation bits")
        check_method(method, ACTIVATION_METHODS, "activation_method")
        self.method: ActivationMethod = method
        self.maximum = maximum
        self.levels = quantizers.activation_levels(self.bits)
        self.has_free_scale = method != "paper"

    def build(self, tensor_shape, name, layer):
        """Adds the variables to `layer` and returns them by name."""
        clip = 1.0 if self.method == "paper" else INITIAL_CLIP
        clip = clip if self.maximum is None else min(clip, self.maximum)
        elements = int(np.prod([size for size in tensor_shape[1:] if size]))
        self.gradient_scale = scales.lsq_gradient_scale(elements, self.levels)
        what, value = ("clip", clip) if self.method == "pact" else ("scale", clip / self.levels)
        variable = layer.add_weight(
            name=f"output_{what}",
            shape=[],
            initializer=keras.initializers.Constant(value),
            trainable=self.method in ("learned", "pact"),
        )
        return {what: variable}

    def _clip(self, weights):
        """PACT's alpha: positive, so that its scale is, and within the maximum."""
        smallest = quantizers.SMALLEST_SCALE * self.levels
        clip = tf.maximum(tf.abs(weights["clip"]), smallest)
        return clip if self.maximum is None else tf.minimum(clip, self.maximum)

    def _scale(self, weights):
        if self.method == "pact":
            return self._clip(weights) / quantizers.opaque(float(self.levels))
        scale = quantizers.positive(weights["scale"])
        return scale if self.maximum is None else tf.minimum(scale, self.maximum / self.levels)

    def quantize(self, inputs, training, weights):
        """See `wrpn_tf.quantizers.fake_quantize` and `wrpn_tf.arithmetic.related_work.pact`."""
        if self.method == "pact":
            return related_work.pact(inputs, self._clip(weights), self.levels)
        return quantizers.fake_quantize(
            inputs, self._scale(weights), 0, self.levels, self.gradient_scale
        )

    def scale_and_zero_point(self, weights):
        """The present int8 grid, as tensors."""
        return self._scale(weights), 127.0 - self.levels

    def calibrate(self, sample: np.ndarray, weights: dict[str, Any]) -> None:
        """Sets the scale of least squared error over `sample`, unless the paper fixes it."""
        if self.method == "paper":
            return
        scale = scales.best_scale_np(sample, 0, self.levels)
        if self.method == "pact":
            weights["clip"].assign(scale * self.levels)
        else:
            weights["scale"].assign(scale)

    def grid(self, weights: dict[str, Any]) -> QuantizationParameters:
        """The grid of the output, from the variables' present values."""
        scale = float(self._scale(weights))
        return QuantizationParameters(scale=scale, low=0, high=self.levels, bits=self.bits)

    def get_config(self):
        """The arguments."""
        return {"bits": self.bits, "method": self.method, "maximum": self.maximum}


@keras.saving.register_keras_serializable("wrpn_tf")
class RangeQuantizer(ObservableQuantizer):
    """8-bit affine quantization over an observed or a fixed range.

    For what an integer network needs beyond the paper: the input, linear outputs, residual sums and
    logits. An observed range is an exponential moving average of each training batch's minimum and
    maximum; until a batch was seen, values pass unquantized. A batch of zeros leaves the range as
    it is, and the first makes it ``[0, RANGE_OF_ZEROS]``. A fixed range is that of an image's
    pixels, see `wrpn_tf.quantizers.pixel_grid`.

    Args:
      fixed: the real values ``(minimum, maximum)`` of the codes -128 and 127, or None to observe.
    """

    bits = 8

    def __init__(self, fixed: tuple[float, float] | None = None):
        self.fixed = tuple(fixed) if fixed is not None else None
        self.has_free_scale = fixed is None
        if self.fixed and not self.fixed[0] <= 0.0 <= self.fixed[1] > self.fixed[0]:
            raise ValueError(f"A fixed range must contain 0 and be wider than 0; got {fixed}.")

    def build(self, tensor_shape, name, layer):
        """Adds the variables to `layer` and returns them by name."""
        initial = self.fixed or (0.0, 0.0)
        return {
            bound: layer.add_weight(
                name=f"output_{bound}",
                shape=[],
                initializer=keras.initializers.Constant(value),
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for bound, value in zip(("minimum", "maximum"), initial, strict=True)
        }

    def quantize(self, inputs, training, weights):
        """Observes in training, then quantizes on the range's grid."""
        minimum, maximum = weights["minimum"], weights["maximum"]
        if training and self.fixed is None:
            seen = tf.not_equal(minimum, maximum)
            momentum = tf.where(seen, RANGE_MOMENTUM, 0.0)
            least = tf.minimum(_over_replicas(inputs, tf.reduce_min), 0.0)
            most = tf.maximum(_over_replicas(inputs, tf.reduce_max), 0.0)
            zeros = tf.equal(least, most)
            for variable, batch, initial in (
                (minimum, least, 0.0),
                (maximum, most, RANGE_OF_ZEROS),
            ):
                kept = tf.where(seen, variable, initial)
                moved = momentum * variable + (1.0 - momentum) * batch
                variable.assign(tf.where(zeros, kept, moved))
        scale, zero_point = self.scale_and_zero_point(weights)
        if self.fixed:
            inputs += tf.stop_gradient(quantizers.pixel_grid(minimum, maximum)[2])
        quantized = quantizers.fake_quantize(
            inputs, tf.stop_gradient(scale), -128.0 - zero_point, 127.0 - zero_point
        )
        if training or self.fixed:
            return quantized
        return tf.where(tf.equal(minimum, maximum), inputs, quantized)

    def scale_and_zero_point(self, weights):
        """The present int8 grid, as tensors."""
        minimum, maximum = weights["minimum"], weights["maximum"]
        if self.fixed:
            return quantizers.pixel_grid(minimum, maximum)[:2]
        return quantizers.affine_grid(minimum, maximum)

    def calibrate(self, sample: np.ndarray, weights: dict[str, Any]) -> None:
        """Sets the range to that of `sample`, unless it is fixed."""
        if self.fixed is None:
            least, most = min(float(sample.min()), 0.0), max(float(sample.max()), 0.0)
            weights["minimum"].assign(least)
            weights["maximum"].assign(RANGE_OF_ZEROS if least == most else most)

    def shift(self, weights: dict[str, Any]) -> float:
        """See `wrpn_tf.quantizers.pixel_grid`."""
        if not self.fixed:
            return 0.0
        minimum, maximum = (weights[bound].numpy() for bound in ("minimum", "maximum"))
        return float(quantizers.pixel_grid_np(minimum, maximum)[2])

    def grid(self, weights: dict[str, Any]) -> QuantizationParameters | None:
        """The grid of the output, or None where no batch was observed yet."""
        minimum, maximum = (weights[bound].numpy() for bound in ("minimum", "maximum"))
        if minimum == maximum:
            return None
        if self.fixed:
            scale, zero_point, _ = quantizers.pixel_grid_np(minimum, maximum)
        else:
            scale, zero_point = quantizers.affine_grid_np(minimum, maximum)
        return QuantizationParameters.int8(scale=float(scale), zero_point=zero_point)

    def get_config(self):
        """The arguments."""
        return {"fixed": self.fixed}


def _over_replicas(values, reduce):
    """A minimum or maximum over the batches of all replicas of a distributed training step."""
    own = reduce(values)
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return own
    return reduce(replica.all_gather(own[None], axis=0))
