"""Quantization arithmetic: pure functions with NumPy twins, scales, bit-widths, names of methods.

Imports nothing of ours.
"""
