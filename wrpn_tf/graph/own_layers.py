"""What layers that no Keras has are, whichever Keras they are of: arguments, weights, shapes.

The front of each Keras makes layers of them, with its own class of layers behind them and with its
own functions, `tf` or `keras.ops`, where they compute more than Python's operators do.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

Part = int | tuple[int | None, int | None, int | None]
"""An index, or start, stop and step of a slice."""

_Layer: Any = object
"""What stands for the class of layers of a Keras, which comes behind these classes."""


class Blocks(_Layer):
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


class Slice(_Layer):
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


def split_slices(
    make: type[Slice],
    name: str,
    shape: Sequence[int | None],
    axis: int,
    outputs: Sequence[Sequence[int | None]],
) -> list[Slice]:
    """The slices that a tensor is split into; none where the batch is split or sizes are not known.

    Args:
      make: the class of slices of a Keras.
      name: of each.
      shape: of the tensor.
      axis: along which it is split.
      outputs: the shapes of the parts.
    """
    axis %= len(shape)
    sizes = [output[axis] for output in outputs]
    if axis == 0 or None in (*shape[1:], *sizes):
        return []
    ends = itertools.accumulate((size or 0 for size in sizes), initial=0)
    whole: list[Part] = [(None, None, None)] * (len(shape) - 1)
    return [
        make([*whole[: axis - 1], (start, end, None), *whole[axis:]], name=name)
        for start, end in itertools.pairwise(ends)
    ]


class Clip(_Layer):
    """``min(max(inputs, minimum), maximum)``.

    Args:
      minimum: a number, or None for no lower bound.
      maximum: a number, or None for no upper bound.
    """

    functions: Any

    def __init__(self, minimum: float | None = None, maximum: float | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.minimum = minimum
        self.maximum = maximum

    def call(self, inputs: Any) -> Any:
        """Limits the values."""
        if self.minimum is not None:
            inputs = self.functions.maximum(inputs, self.minimum)
        return inputs if self.maximum is None else self.functions.minimum(inputs, self.maximum)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        return super().get_config() | {"minimum": self.minimum, "maximum": self.maximum}


class Stack(_Layer):
    """Tensors side by side along an axis that is new.

    Args:
      axis: of the output, counted with the batch as 0.
    """

    functions: Any

    def __init__(self, axis: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Any) -> Any:
        """Puts them side by side."""
        return self.functions.stack(inputs, self.axis)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """With the new axis."""
        first = tuple(input_shape[0])
        return (*first[: self.axis], len(input_shape), *first[self.axis :])

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        return super().get_config() | {"axis": self.axis}


class Slopes(_Layer):
    """Multiplies each channel by a trained number: what a PReLU does to values below 0.

    Args:
      shared: whether all channels have one number.
      alpha_regularizer: of the numbers.
      alpha_constraint: likewise.
    """

    keras: Any
    """The Keras of the layer."""

    def __init__(
        self,
        shared: bool = False,
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.shared = shared
        self.alpha_regularizer = self.keras.regularizers.get(alpha_regularizer)
        self.alpha_constraint = self.keras.constraints.get(alpha_constraint)

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
        super().build(input_shape)

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
            "alpha_regularizer": self.keras.regularizers.serialize(self.alpha_regularizer),
            "alpha_constraint": self.keras.constraints.serialize(self.alpha_constraint),
        }


class Ramp(_Layer):
    """The first of two tensors where it is not negative, else the second."""

    functions: Any

    def call(self, inputs: Any) -> Any:
        """Chooses."""
        values, others = inputs
        return self.functions.where(values >= 0, values, others)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of each input."""
        return input_shape[0]


class Use(_Layer):
    """What one use of a layer with weights has for itself, if the layer is used several times.

    An offset of each channel, 0 until `export.settle` moves it, and not trained; and the quantizer
    of the output. The layer has one kernel with one scale, whatever reads its outputs.
    """

    def build(self, input_shape: Any) -> None:
        """Adds the offset of each channel."""
        self.offset = self.add_weight(
            name="offset", shape=input_shape[-1:], initializer="zeros", trainable=False
        )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Adds the offset."""
        return inputs + self.offset

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape
