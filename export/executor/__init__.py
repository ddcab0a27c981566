"""Runs an integer graph in NumPy, with the rounding of a chosen set of kernels.

Imports `export.realization` and what is below it.
"""
