"""From a quantized Keras model to a graph of what was trained, without a device.

Imports `export.ir` and `export.kernel_sets`.
"""
