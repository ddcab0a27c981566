"""How each set of kernels rounds, what is ideal, and where the thresholds of both lie.

Imports `export.ir`.
"""
