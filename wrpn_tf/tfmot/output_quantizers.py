"""TF-MOT quantizers of layers' outputs: serializable shells that keep scales and ranges."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.quantization.keras import quantizers as tfmot_quantizers

from wrpn_tf.arithmetic import quantizers, related_work
from wrpn_tf.arithmetic.quantizer_state import (
    RANGE_MOMENTUM,
    RANGE_OF_ZEROS,
    ActivationState,
    OutputState,
    RangeState,
)
from wrpn_tf.graph.repetition import repeated_output, repeated_range


class ObservableQuantizer(OutputState, tfmot_quantizers.Quantizer):
    """An output quantizer that calibration can look through."""

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
class ActivationQuantizer(ActivationState, ObservableQuantizer):
    """k-bit activations, see `wrpn_tf.arithmetic.quantizer_state.ActivationState`."""

    def build(self, tensor_shape, name, layer):
        """Adds the variable to `layer` and returns it by name."""
        self.gradient_scale = self.lsq_gradient_scale(tuple(tensor_shape))
        what, value = self.initial()
        variable = layer.add_weight(
            name=f"output_{what}",
            shape=[],
            initializer=keras.initializers.Constant(value),
            trainable=self.trains,
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
            inputs,
            self._scale(weights),
            0,
            self.levels,
            self.gradient_scale,
            repeated_output(self),
        )

    def scale_and_zero_point(self, weights):
        """The present int8 grid, as tensors."""
        return self._scale(weights), 127.0 - self.levels


@keras.saving.register_keras_serializable("wrpn_tf")
class RangeQuantizer(RangeState, ObservableQuantizer):
    """An 8-bit range, see `wrpn_tf.arithmetic.quantizer_state.RangeState`."""

    def build(self, tensor_shape, name, layer):
        """Adds the variables to `layer` and returns them by name."""
        return {
            bound: layer.add_weight(
                name=f"output_{bound}",
                shape=[],
                initializer=keras.initializers.Constant(value),
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for bound, value in self.initial().items()
        }

    def quantize(self, inputs, training, weights):
        """Observes in training, then quantizes on the range's grid."""
        repeated = repeated_range(self)
        weights = weights if repeated is None else repeated
        minimum, maximum = weights["minimum"], weights["maximum"]
        if training and self.fixed is None and repeated is None:
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
        quantized = quantizers.fake_quantize_to_int8(inputs, scale, zero_point)
        if training or self.fixed:
            return quantized
        return tf.where(tf.equal(minimum, maximum), inputs, quantized)

    def scale_and_zero_point(self, weights):
        """The present int8 grid, as tensors."""
        minimum, maximum = weights["minimum"], weights["maximum"]
        if self.fixed:
            return quantizers.pixel_grid(minimum, maximum)[:2]
        return quantizers.affine_grid(minimum, maximum)


def _over_replicas(values, reduce):
    """A minimum or maximum over the batches of all replicas of a distributed training step."""
    own = reduce(values)
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return own
    return reduce(replica.all_gather(own[None], axis=0))
