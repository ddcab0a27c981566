"""From a trained Keras model to integers: graph, NumPy executor, TFLite file, verification."""

from export.conversion import to_tflite
from export.executor import execute
from export.graph import IntegerGraph
from export.lowering import LoweringError, lower
from export.proving import prove
from export.settling import settle

__all__ = ["IntegerGraph", "LoweringError", "execute", "lower", "prove", "settle", "to_tflite"]
