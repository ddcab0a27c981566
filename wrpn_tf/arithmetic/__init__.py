"""Quantization arithmetic: pure functions with NumPy twins, scales, and the names of methods.

Imports nothing of ours.
"""
