"""TensorFlow Lite Micro: files in its interpreter, and kernels that it decodes as it runs.

Imports `export.flatbuffer`, `export.runtime` and what is below them. The package `tflite-micro`,
which comes for Linux on x86-64 only, is imported when it is used.
"""
