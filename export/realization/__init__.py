"""From what was trained to integers for a family of kernels: code multiplier, bias, kernel scale.

Imports `export.ir` and `export.kernel_sets`.
"""
