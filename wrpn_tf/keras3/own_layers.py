"""Layers that Keras does not have: values moved, selected or limited as its operations do.

Models that are read get them in the place of such operations (`wrpn_tf.keras3.operations`).
"""

from __future__ import annotations

import math
import types
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from wrpn_tf.graph import own_layers


@keras.saving.register_keras_serializable("wrpn_tf")
class DepthToSpace(own_layers.Blocks, keras.layers.Layer):
    """``[batch, h, w, c * b * b]`` becomes ``[batch, h * b, w * b, c]``."""

    def call(self, inputs: Any) -> Any:
        """Moves channels to pixels."""
        size, (_, height, width, channels) = self.block_size, inputs.shape
        channels //= size * size
        x = ops.reshape(inputs, (-1, height, width, size, size, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height * size, width * size, channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape that is given."""
        (batch, height, width, channels), size = input_shape, self.block_size
        return (batch, height * size, width * size, channels // size**2)


@keras.saving.register_keras_serializable("wrpn_tf")
class SpaceToDepth(own_layers.Blocks, keras.layers.Layer):
    """``[batch, h * b, w * b, c]`` becomes ``[batch, h, w, c * b * b]``."""

    def call(self, inputs: Any) -> Any:
        """Moves pixels to channels."""
        size, (_, height, width, channels) = self.block_size, inputs.shape
        x = ops.reshape(inputs, (-1, height // size, size, width // size, size, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height // size, width // size, size * size * channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape that is given."""
        (batch, height, width, channels), size = input_shape, self.block_size
        return (batch, height // size, width // size, channels * size**2)


@keras.saving.register_keras_serializable("wrpn_tf")
class Slice(own_layers.Slice, keras.layers.Layer):
    """See `wrpn_tf.graph.own_layers.Slice`."""


@keras.saving.register_keras_serializable("wrpn_tf")
class LowestPadding2D(keras.layers.Layer):
    """Pads height and width with minus infinity: a maximum over them is that of the images alone.

    Args:
      padding: ``((top, bottom), (left, right))``.
    """

    def __init__(self, padding: Sequence[Sequence[int]], **kwargs: Any):
        super().__init__(**kwargs)
        (top, bottom), (left, right) = padding
        self.padding = ((top, bottom), (left, right))

    def call(self, inputs: Any) -> Any:
        """Pads."""
        return ops.pad(inputs, ((0, 0), *self.padding, (0, 0)), constant_values=-math.inf)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape that is given, with the padding."""
        batch, *sizes, channels = input_shape
        sides = zip(sizes, self.padding, strict=True)
        return (batch, *(size and size + sum(pair) for size, pair in sides), channels)

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        return super().get_config() | {"padding": self.padding}


@keras.saving.register_keras_serializable("wrpn_tf")
class Clip(own_layers.Clip, keras.layers.Layer):
    """See `wrpn_tf.graph.own_layers.Clip`."""

    functions = ops


@keras.saving.register_keras_serializable("wrpn_tf")
class Stack(own_layers.Stack, keras.layers.Layer):
    """See `wrpn_tf.graph.own_layers.Stack`."""

    functions = ops


@keras.saving.register_keras_serializable("wrpn_tf")
class Slopes(own_layers.Slopes, keras.layers.Layer):
    """See `wrpn_tf.graph.own_layers.Slopes`."""

    keras = keras


@keras.saving.register_keras_serializable("wrpn_tf")
class Ramp(own_layers.Ramp, keras.layers.Layer):
    """See `wrpn_tf.graph.own_layers.Ramp`."""

    functions = ops


@keras.saving.register_keras_serializable("wrpn_tf")
class Use(own_layers.Use, keras.layers.Layer):
    """See `wrpn_tf.graph.own_layers.Use`."""


NAMESPACE = types.SimpleNamespace(**vars(keras.layers), Use=Use, Slopes=Slopes, Ramp=Ramp)
"""The layers of Keras, and what a decomposed network has besides."""
