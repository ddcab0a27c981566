"""What the Edge TPU's compiler makes of a .tflite file, predicted, and changes that help.

Imports `export.flatbuffer`, `export.runtime` and what is below them.
"""
