"""From a trained Keras model to integers: graph, NumPy executor, TFLite file, verification."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.alignment.settling import settle
    from export.executor.execution import execute
    from export.ir.graph import IntegerGraph
    from export.ir.saving import load, save
    from export.lowering.network import LoweringError, lower
    from export.proof.prover import prove
    from export.tools.conversion import to_tflite

__all__ = [
    "IntegerGraph",
    "LoweringError",
    "execute",
    "load",
    "lower",
    "prove",
    "save",
    "settle",
    "to_tflite",
]

# Imported when first used: the tools that only read .tflite files start without TensorFlow.
_MODULES = {
    "IntegerGraph": "ir.graph",
    "LoweringError": "lowering.network",
    "execute": "executor.execution",
    "load": "ir.saving",
    "lower": "lowering.network",
    "prove": "proof.prover",
    "save": "ir.saving",
    "settle": "alignment.settling",
    "to_tflite": "tools.conversion",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'export' has no attribute {name!r}")
    return getattr(importlib.import_module(f"export.{_MODULES[name]}"), name)
