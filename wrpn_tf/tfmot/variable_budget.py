"""How large the weights of a saved model may be: its configuration can name layers of any size."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from wrpn_tf.saved_sizes import LEAST, SHARE


@contextlib.contextmanager
def limited_variables(most: int) -> Iterator[None]:
    """Raises ValueError within where variables would take more than `most` bytes together."""
    left = most

    def create(make: Callable[..., tf.Variable], **arguments: Any) -> tf.Variable:
        nonlocal left
        shape = arguments.get("shape")
        if shape is None:
            shape = getattr(arguments.get("initial_value"), "shape", None)
        shape = tf.TensorShape(shape)
        if shape.is_fully_defined():
            dtype = tf.as_dtype(arguments.get("dtype") or tf.float32)
            left -= shape.num_elements() * max(1, dtype.size)
        if left < 0:
            raise ValueError(
                f"its layers have weights of more than {most:,} bytes, {SHARE} times the file and "
                f"{LEAST / 2**20:g} MiB"
            )
        return make(**arguments)

    with tf.variable_creator_scope(create):
        yield
