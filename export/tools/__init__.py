"""What the programs for .tflite files of any origin share: classifying, measuring, plotting.

Imports `export.flatbuffer`, `export.lowering`, `export.realization` and `export.runtime`.
"""
