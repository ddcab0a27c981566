"""Layers that Keras does not have: values moved, selected or limited as TensorFlow's operations do.

Models that are read get them in the place of such operations (`wrpn_tf.tfmot.operations`).
"""

from __future__ import annotations

import types
from typing import Any

import tensorflow as tf
import tf_keras as keras

from wrpn_tf.graph import own_layers


@keras.saving.register_keras_serializable("wrpn_tf")
class DepthToSpace(own_layers.Blocks, keras.layers.Layer):
    """``[batch, h, w, c * b * b]`` becomes ``[batch, h * b, w * b, c]``: `tf.nn.depth_to_space`."""

    def call(self, inputs: Any) -> Any:
        """Moves channels to pixels."""
        return tf.nn.depth_to_space(inputs, self.block_size)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """The shape that is given."""
        batch, height, width, channels = input_shape
        size = self.block_size
        return tf.TensorShape(
            [batch, height and height * size, width and width * size, channels // size**2]
        )


@keras.saving.register_keras_serializable("wrpn_tf")
class SpaceToDepth(own_layers.Blocks, keras.layers.Layer):
    """``[batch, h * b, w * b, c]`` becomes ``[batch, h, w, c * b * b]``: `tf.nn.space_to_depth`."""

    def call(self, inputs: Any) -> Any:
        """Moves pixels to channels."""
        return tf.nn.space_to_depth(inputs, self.block_size)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """The shape that is given."""
        batch, height, width, channels = input_shape
        size = self.block_size
        return tf.TensorShape(
            [batch, height and height // size, width and width // size, channels * size**2]
        )


@keras.saving.register_keras_serializable("wrpn_tf")
class Slice(own_layers.Slice, keras.layers.Layer):
    """See `wrpn_tf.graph.own_layers.Slice`."""

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """The shape that is given; every size must be known."""
        return tf.TensorShape(super().compute_output_shape(input_shape))


@keras.saving.register_keras_serializable("wrpn_tf")
class Clip(own_layers.Clip, keras.layers.Layer):
    """See `wrpn_tf.graph.own_layers.Clip`."""

    functions = tf


@keras.saving.register_keras_serializable("wrpn_tf")
class Stack(own_layers.Stack, keras.layers.Layer):
    """See `wrpn_tf.graph.own_layers.Stack`."""

    functions = tf


@keras.saving.register_keras_serializable("wrpn_tf")
class Slopes(own_layers.Slopes, keras.layers.Layer):
    """See `wrpn_tf.graph.own_layers.Slopes`."""

    keras = keras


@keras.saving.register_keras_serializable("wrpn_tf")
class Ramp(own_layers.Ramp, keras.layers.Layer):
    """See `wrpn_tf.graph.own_layers.Ramp`."""

    functions = tf


@keras.saving.register_keras_serializable("wrpn_tf")
class Use(own_layers.Use, keras.layers.Layer):
    """See `wrpn_tf.graph.own_layers.Use`."""


NAMESPACE = types.SimpleNamespace(**vars(keras.layers), Use=Use, Slopes=Slopes, Ramp=Ramp)
"""The layers of Keras, and what a decomposed network has besides."""
