"""Runs an integer graph in NumPy, with the rounding of a chosen set of kernels.

Imports `export.ir` and `export.kernel_sets`.
"""
