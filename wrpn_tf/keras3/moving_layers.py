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

Part = int | tuple[int | None, int | None, int | None]
"""An index, or start, stop and step of a slice."""


class _Blocks(keras.layers.Layer):
    """A layer that moves values between blocks of pixels and channels.

    Args:
      block_size: height and width of a block, at least 2.
    """

    def __init__(self, block_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.block_size = block_size

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        return super().get_config() | {"block_size": self.block_size}


@keras.saving.register_keras_serializable("wrpn_tf")
class DepthToSpace(_Blocks):
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
class SpaceToDepth(_Blocks):
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
class Slice(keras.layers.Layer):
    """A part of each image, whatever the batch: ``inputs[:, start:stop:step, index, ...]``.

    Args:
      slices: for each axis but the batch ``(start, stop, step)``, as Python's slices take them,
        None where one is left out; or an index, which drops the axis.
    """

    def __init__(self, slices: Sequence[int | Sequence[int | None]], **kwargs: Any):
        super().__init__(**kwargs)
        self.slices: tuple[Part, ...] = tuple(
            part if isinstance(part, int) else (part[0], part[1], part[2]) for part in slices
        )

    def call(self, inputs: Any) -> Any:
        """Selects the part."""
        parts = [part if isinstance(part, int) else slice(*part) for part in self.slices]
        return inputs[(slice(None), *parts)]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape that is given; every size must be known."""
        batch, *sizes = input_shape
        axes = zip(self.slices, sizes, strict=True)
        kept = [(slice(*part), size) for part, size in axes if not isinstance(part, int)]
        return (batch, *(len(range(size)[part]) for part, size in kept))

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        return super().get_config() | {"slices": self.slices}


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
class Clip(keras.layers.Layer):
    """``min(max(inputs, minimum), maximum)``.

    Args:
      minimum: a number, or None for no lower bound.
      maximum: a number, or None for no upper bound.
    """

    def __init__(self, minimum: float | None = None, maximum: float | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.minimum = minimum
        self.maximum = maximum

    def call(self, inputs: Any) -> Any:
        """Limits the values."""
        if self.minimum is not None:
            inputs = ops.maximum(inputs, self.minimum)
        return inputs if self.maximum is None else ops.minimum(inputs, self.maximum)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        return super().get_config() | {"minimum": self.minimum, "maximum": self.maximum}


@keras.saving.register_keras_serializable("wrpn_tf")
class Stack(keras.layers.Layer):
    """Tensors side by side along an axis that is new.

    Args:
      axis: of the output, counted with the batch as 0.
    """

    def __init__(self, axis: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Any) -> Any:
        """Puts them side by side."""
        return ops.stack(inputs, self.axis)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """With the new axis."""
        first = tuple(input_shape[0])
        return (*first[: self.axis], len(input_shape), *first[self.axis :])

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        return super().get_config() | {"axis": self.axis}


@keras.saving.register_keras_serializable("wrpn_tf")
class Slopes(keras.layers.Layer):
    """Multiplies each channel by a trained number: what a PReLU does to values below 0.

    Args:
      shared: whether all channels have one number.
      alpha_regularizer: of the numbers.
      alpha_constraint: likewise.
    """

    def __init__(
        self,
        shared: bool = False,
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.shared = shared
        self.alpha_regularizer = keras.regularizers.get(alpha_regularizer)
        self.alpha_constraint = keras.constraints.get(alpha_constraint)

    def build(self, input_shape: Any) -> None:
        """Adds the numbers."""
        *others, channels = input_shape[1:]
        self.alpha = self.add_weight(
            name="alpha",
            shape=[*(1 for _ in others), 1 if self.shared else channels],
            initializer="zeros",
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Multiplies."""
        return inputs * self.alpha

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        return super().get_config() | {
            "shared": self.shared,
            "alpha_regularizer": keras.regularizers.serialize(self.alpha_regularizer),
            "alpha_constraint": keras.constraints.serialize(self.alpha_constraint),
        }


@keras.saving.register_keras_serializable("wrpn_tf")
class Ramp(keras.layers.Layer):
    """The first of two tensors where it is not negative, else the second."""

    def call(self, inputs: Any) -> Any:
        """Chooses."""
        values, others = inputs
        return ops.where(values >= 0, values, others)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of each input."""
        return input_shape[0]


@keras.saving.register_keras_serializable("wrpn_tf")
class Use(keras.layers.Layer):
    """What one use of a layer with weights has for itself, if the layer is used several times.

    An offset of each channel, 0 until `export.settle` moves it, and not trained; and the quantizer
    of the output. The layer has one kernel with one scale, whatever reads its outputs.
    """

    def build(self, input_shape: Any) -> None:
        """Adds the offset of each channel."""
        self.offset = self.add_weight(
            name="offset", shape=input_shape[-1:], initializer="zeros", trainable=False
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Adds the offset."""
        return inputs + self.offset

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape


NAMESPACE = types.SimpleNamespace(**vars(keras.layers), Use=Use, Slopes=Slopes, Ramp=Ramp)
"""The layers of Keras, and what a decomposed network has besides."""
