"""How large the weights of a saved model may be: its configuration can name layers of any size."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from wrpn_tf.saved_sizes import too_large


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
            raise ValueError(too_large(most))
        return make(**arguments)

    with tf.variable_creator_scope(create):
        yield
