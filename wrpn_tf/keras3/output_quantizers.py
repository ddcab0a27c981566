"""Quantizers of outputs: they keep scales and ranges in the layer that holds them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from wrpn_tf.arithmetic import portable
from wrpn_tf.arithmetic.numpy_twins import SMALLEST_SCALE, pixel_grid_np
from wrpn_tf.arithmetic.quantizer_state import (
    RANGE_MOMENTUM,
    RANGE_OF_ZEROS,
    ActivationState,
    OutputState,
    RangeState,
)
from wrpn_tf.graph.repetition import repeated_output, repeated_range


class OutputQuantizer(OutputState):
    """An output quantizer that calibration can look through.

    Attributes:
      variables: by name, once it is built.
    """

    variables: dict[str, Any]

    def build(self, layer: keras.layers.Layer, shape: tuple[int | None, ...]) -> None:
        """Adds the variables to `layer`, whose output has a shape with the batch first."""
        raise NotImplementedError

    def __call__(self, inputs: Any, training: bool) -> Any:
        """Quantizes `inputs`, after showing them to the observer if there is one.

        Integers (pixels as they are stored) are taken as the numbers that they are.

        Args:
          inputs: a tensor.
          training: whether what is observed may change.
        """
        inputs = ops.cast(inputs, "float32")
        if self.observer is not None and not self.observer(ops.convert_to_numpy(inputs)):
            return inputs
        return self.quantize(inputs, training)

    def quantize(self, inputs: Any, training: bool) -> Any:
        """Quantizes `inputs`."""
        raise NotImplementedError


class ActivationQuantizer(ActivationState, OutputQuantizer):
    """k-bit activations, see `wrpn_tf.arithmetic.quantizer_state.ActivationState`."""

    def build(self, layer: keras.layers.Layer, shape: tuple[int | None, ...]) -> None:
        """Adds the variable to `layer`."""
        self.gradient_scale = self.lsq_gradient_scale(shape)
        what, value = self.initial()
        variable = layer.add_weight(
            name=f"output_{what}",
            shape=(),
            initializer=keras.initializers.Constant(value),
            trainable=self.trains,
        )
        self.variables = {what: variable}

    def _clip(self) -> Any:
        """PACT's alpha: positive, so that its scale is, and within the maximum."""
        clip = ops.maximum(ops.abs(self.variables["clip"].value), SMALLEST_SCALE * self.levels)
        return clip if self.maximum is None else ops.minimum(clip, self.maximum)

    def _scale(self) -> Any:
        if self.method == "pact":
            return portable.divided(self._clip(), float(self.levels))
        scale = portable.positive(self.variables["scale"].value)
        return scale if self.maximum is None else ops.minimum(scale, self.maximum / self.levels)

    def quantize(self, inputs: Any, training: bool) -> Any:
        """See `portable.fake_quantize` and `portable.pact`."""
        if self.method == "pact":
            return portable.pact(inputs, self._clip(), self.levels)
        return portable.fake_quantize(
            inputs, self._scale(), 0, self.levels, self.gradient_scale, repeated_output(self)
        )

    def scale_and_zero_point(self) -> tuple[Any, Any]:
        """The present int8 grid, as tensors."""
        return self._scale(), 127.0 - self.levels


class RangeQuantizer(RangeState, OutputQuantizer):
    """An 8-bit range, see `wrpn_tf.arithmetic.quantizer_state.RangeState`."""

    def build(self, layer: keras.layers.Layer, shape: tuple[int | None, ...]) -> None:
        """Adds the variables to `layer`."""
        self.variables = {
            bound: layer.add_weight(
                name=f"output_{bound}",
                shape=(),
                initializer=keras.initializers.Constant(value),
                trainable=False,
                aggregation="only_first_replica",
            )
            for bound, value in self.initial().items()
        }

    def quantize(self, inputs: Any, training: bool) -> Any:
        """Observes in training, then quantizes on the range's grid."""
        repeated = repeated_range(self)
        if repeated is None:
            minimum, maximum = (self.variables[bound].value for bound in ("minimum", "maximum"))
        else:
            minimum, maximum = repeated["minimum"], repeated["maximum"]
        if training and self.fixed is None and repeated is None:
            values = ops.stop_gradient(inputs)
            seen = ops.not_equal(minimum, maximum)
            momentum = ops.where(seen, RANGE_MOMENTUM, 0.0)
            least = ops.minimum(ops.min(values), 0.0)
            most = ops.maximum(ops.max(values), 0.0)
            zeros = ops.equal(least, most)
            moved = _mixed(momentum, minimum, least), _mixed(momentum, maximum, most)
            minimum = ops.where(zeros, ops.where(seen, minimum, 0.0), moved[0])
            maximum = ops.where(zeros, ops.where(seen, maximum, RANGE_OF_ZEROS), moved[1])
            self.variables["minimum"].assign(minimum)
            self.variables["maximum"].assign(maximum)
        scale, zero_point = self._grid(minimum, maximum)
        if self.fixed:
            inputs = inputs + pixel_grid_np(*self.fixed)[2]
        quantized = portable.fake_quantize_to_int8(inputs, scale, zero_point)
        if training or self.fixed:
            return quantized
        return ops.where(ops.equal(minimum, maximum), inputs, quantized)

    def scale_and_zero_point(self) -> tuple[Any, Any]:
        """The present int8 grid, as tensors."""
        minimum, maximum = (self.variables[bound].value for bound in ("minimum", "maximum"))
        return self._grid(minimum, maximum)

    def _grid(self, minimum: Any, maximum: Any) -> tuple[Any, Any]:
        if self.fixed:
            return portable.pixel_grid(minimum, maximum)
        return portable.affine_grid(minimum, maximum)


def _mixed(momentum: Any, old: Any, new: Any) -> Any:
    return momentum * old + (1.0 - momentum) * new
