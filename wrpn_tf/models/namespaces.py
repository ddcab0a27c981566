"""Which Keras a network is built in."""

from __future__ import annotations

import importlib
from typing import Any, Literal, get_args

Front = Literal["keras", "tf_keras"]
"""'keras' is Keras 3, 'tf_keras' is Keras 2."""

Model = Any
"""A functional model of either Keras."""


def keras_named(front: Front) -> Any:
    """The module `keras` or `tf_keras`.

    Raises:
        ValueError: for another name.
    """
    if front not in get_args(Front):
        raise ValueError(f"front must be one of {', '.join(get_args(Front))}, not {front!r}")
    return importlib.import_module(front)


def keras_of(tensor: Any) -> Any:
    """The Keras of a symbolic tensor."""
    package = type(tensor).__module__.split(".", maxsplit=1)[0]
    return keras_named("keras" if package == "keras" else "tf_keras")
