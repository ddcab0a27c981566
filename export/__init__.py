"""From a trained Keras model to integers: graph, NumPy executor, TFLite file, verification."""

from export.conversion import to_tflite
from export.executor import execute
from export.graph import IntegerGraph
from export.lowering import LoweringError, lower

__all__ = ["IntegerGraph", "LoweringError", "execute", "lower", "to_tflite"]
