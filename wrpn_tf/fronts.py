"""Which Keras a model is of, and the front that reads and builds models of it.

This is the one place that decides. It looks at classes only: neither Keras is imported but by the
front of a model that the process already has.
"""

from __future__ import annotations

import importlib
from typing import Any

_FRONTS = {"tf_keras": "wrpn_tf.tfmot.front", "keras": "wrpn_tf.keras3.front"}


def front_of(subject: Any, verb: str = "quantize") -> Any:
    """The front of a model or layer: a module with the same names for each Keras.

    Args:
      subject: a model or layer.
      verb: what cannot be done with anything else.

    Raises:
      ValueError: if `subject` is of no Keras.
    """
    return front(package_of(subject, verb))


def package_of(subject: Any, verb: str = "quantize") -> str:
    """The Keras of a model or layer, 'keras' (Keras 3) or 'tf_keras'; see `front_of`."""
    for cls in type(subject).__mro__:
        package = cls.__module__.split(".", maxsplit=1)[0]
        if package in _FRONTS:
            return package
    name = f"{type(subject).__module__.split('.')[0]}.{type(subject).__name__}"
    raise ValueError(
        f"Cannot {verb} the {name}: it is not a Keras model; build it with `import keras` or "
        "`import tf_keras as keras`."
    )


def front(package: str) -> Any:
    """The front of 'keras' (Keras 3) or 'tf_keras'."""
    return importlib.import_module(_FRONTS[package])
