"""Small networks of both Kerases with the same weights."""

import types

import keras
import numpy as np
import small_models
import tf_keras


def of_keras3(build):
    """A builder of tf_keras models from `small_models` that builds Keras 3 models."""
    scope = build.__globals__ | {
        "keras": keras,
        "layers": keras.layers,
        "randomize": lambda model: model,
    }
    return types.FunctionType(build.__code__, scope)


def twins(name: str):
    """The network of `small_models` in Keras 3 and in tf_keras."""
    old = getattr(small_models, name)()
    new = of_keras3(getattr(small_models, name))()
    new.set_weights(old.get_weights())
    return new, old


def values(outputs) -> list[np.ndarray]:
    """What a model returns, flat."""
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return [np.asarray(output) for output in outputs]


KERAS = {"keras": keras, "tf_keras": tf_keras}
