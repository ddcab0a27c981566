"""Writing, reading and changing .tflite files, and the metadata in them.

Imports `export.ir` and `export.kernel_sets`.
"""
