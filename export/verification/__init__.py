"""A .tflite file against the training it came from, on real data.

Imports `export.alignment`, `export.executor`, `export.tflm` and what is below them.
"""
