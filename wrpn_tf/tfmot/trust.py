"""Whether a saved model's configuration can run code that its file brings or names."""

from __future__ import annotations

import functools
from typing import Any

import tf_keras as keras

_DATA = frozenset(
    ("TensorShape", "__bytes__", "__ellipsis__", "__numpy__", "__tensor__", "__tuple__")
)
_BYTECODE = ("Lambda", "__lambda__")
_OPERATIONS = ("TFOpLambda", "SlicingOpLambda")
# Of all that TensorFlow exports some write files (io.write_file) or load libraries
# (load_op_library). These only compute.
_COMPUTING = ("math.", "nn.", "image.", "linalg.", "signal.", "bitwise.", "__operators__.")
_COMPUTING_NAMES = frozenset(
    """
    argmax argmin broadcast_to cast clip_by_value concat expand_dims fill gather identity one_hot
    ones_like pad repeat reshape reverse roll shape slice split squeeze stack stop_gradient
    strided_slice tile transpose unstack where zeros_like
    """.split()
)
# They read the file that their configuration names.
_READERS = frozenset(("IntegerLookup", "StringLookup", "TextVectorization"))


def check_config(config: Any, custom_objects: dict[str, Any]) -> None:
    """Raises ValueError unless Keras restores `config` with known classes and functions only.

    Known are Keras's layers and what they are configured with, TensorFlow's operations that only
    compute, `custom_objects`, and what this process registered with Keras. Lambda layers hold
    bytecode; any other name makes Keras import the module that the file names.

    Args:
      config: decoded JSON: of a model, or of how it was compiled.
      custom_objects: classes by name, as Keras takes them.

    Raises:
      ValueError: names the layer and what is not known, and says what to do.
    """
    _walk(config, custom_objects, "the model")


def _walk(value: Any, custom_objects: dict[str, Any], place: str) -> None:
    if isinstance(value, list):
        for item in value:
            _walk(item, custom_objects, place)
    if not isinstance(value, dict):
        return
    inner = value.get("config")
    if "class_name" in value:
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            place = f"layer {inner['name']!r}"
        problem = _problem(value, custom_objects)
        if problem:
            raise ValueError(f"{place} {problem}")
    for item in value.values():
        _walk(item, custom_objects, place)


def _problem(config: dict[str, Any], custom_objects: dict[str, Any]) -> str | None:
    """What is wrong with one serialized object; None for nothing."""
    name = config["class_name"]
    module = config.get("module")
    if name in _BYTECODE:
        return "holds Python bytecode (a Lambda or a lambda)"
    if not isinstance(name, str) or not isinstance(module, str | None):
        return f"has a class without a name: {name!r} of {module!r}"
    if name in _DATA:
        return None
    if name == "function":
        names = {config.get("config"), config.get("registered_name") or config.get("config")}
        unknown = [
            str(n) for n in names - {"function"} if not _is_known_function(n, custom_objects)
        ]
        return _unknown("function", unknown[0], module) if unknown else None
    if name in _OPERATIONS:
        operation = str((config.get("config") or {}).get("function"))
        if operation.startswith(_COMPUTING) or operation in _COMPUTING_NAMES:
            if not all(map(_reads_a_layer, config.get("inbound_nodes") or [])):
                return f"computes {operation} of constants alone, of whatever size they are"
            return None
        return f"runs TensorFlow's {operation}, which may do more than compute"
    registered_name = config.get("registered_name") or name
    registered = keras.saving.get_registered_object(registered_name, custom_objects)
    if registered is not None and name in (registered_name, registered.__name__):
        return None
    if (module or "keras").split(".")[0] in ("keras", "tf_keras") and name in _keras_classes():
        return None
    return _unknown("class", name, module)


def _reads_a_layer(node: Any) -> bool:
    """Whether a call's arguments, as a model's configuration has them, hold an output of a layer.

    Such a call is symbolic; another would be computed while the model is built.
    """
    if isinstance(node, dict):
        return "keras_history" in node or any(map(_reads_a_layer, node.values()))
    if not isinstance(node, list):
        return False
    name, *place = node[:3] or [None]
    if isinstance(name, str) and name != "_CONSTANT_VALUE" and len(place) == 2:
        return all(type(index) is int for index in place)
    return any(map(_reads_a_layer, node))


def _unknown(what: str, name: str, module: str | None) -> str:
    path = f"{module}.{name}" if module else name
    return (
        f"needs the {what} {path}, which is not known here: import its module and decorate it "
        "with keras.saving.register_keras_serializable() before loading"
    )


def _is_known_function(name: Any, custom_objects: dict[str, Any]) -> bool:
    if not isinstance(name, str):
        return False
    registered = keras.saving.get_registered_object(name, custom_objects)
    return registered is not None or name in _keras_functions()


@functools.cache
def _keras_classes() -> frozenset[str]:
    namespaces = (
        keras.constraints,
        keras.initializers,
        keras.layers,
        keras.losses,
        keras.metrics,
        keras.mixed_precision,
        keras.optimizers,
        keras.optimizers.legacy,
        keras.optimizers.schedules,
        keras.regularizers,
    )
    names = {
        name
        for namespace in namespaces
        for name, member in vars(namespace).items()
        if isinstance(member, type)
    }
    return frozenset(names | {"Functional", "Model", "Sequential"}) - _READERS - {*_BYTECODE}


@functools.cache
def _keras_functions() -> frozenset[str]:
    return frozenset(
        name
        for namespace in (keras.activations, keras.losses, keras.metrics)
        for name, member in vars(namespace).items()
        if callable(member) and not isinstance(member, type)
    ) - {"deserialize", "get", "serialize"}
