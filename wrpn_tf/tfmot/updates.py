"""What calls in training change beside their outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import tf_keras as keras

from wrpn_tf.graph.repetition import is_repeating
from wrpn_tf.graph.roles import class_name
from wrpn_tf.tfmot import traversal
from wrpn_tf.tfmot.inspection import unwrapped


def without_updates(model: keras.Model) -> Callable[[], contextlib.AbstractContextManager]:
    """Makes contexts in which repeated calls of the model's layers update no statistics."""
    for node in traversal.read(model).nodes:
        layer, _ = unwrapped(node.layer)
        if class_name(layer) == "BatchNormalization" and "add_update" not in vars(layer):
            layer.add_update = _unless_repeating(layer.add_update)
    return contextlib.nullcontext


def _unless_repeating(add_update):
    return lambda updates: None if is_repeating() else add_update(updates)
