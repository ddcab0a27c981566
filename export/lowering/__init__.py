"""From a quantized Keras model to a graph of operators.

Imports `export.ir` and `export.realization`.
"""
