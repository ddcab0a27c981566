"""From a trained Keras model to integers: graph, NumPy executor, TFLite file, verification."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.conversion import to_tflite
    from export.executor import execute
    from export.graph import IntegerGraph
    from export.lowering import LoweringError, lower
    from export.proving import prove
    from export.settling import settle

__all__ = ["IntegerGraph", "LoweringError", "execute", "lower", "prove", "settle", "to_tflite"]

# Imported when first used: the tools that only read .tflite files start without TensorFlow.
_MODULES = {
    "IntegerGraph": "graph",
    "LoweringError": "lowering",
    "execute": "executor",
    "lower": "lowering",
    "prove": "proving",
    "settle": "settling",
    "to_tflite": "conversion",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'export' has no attribute {name!r}")
    return getattr(importlib.import_module(f"export.{_MODULES[name]}"), name)
