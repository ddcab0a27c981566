"""Quantization arithmetic: pure functions with NumPy twins, scales, parameters, names of methods.

Imports nothing of ours.
"""
