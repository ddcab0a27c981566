"""A .tflite file against the training it came from, on real data.

Imports everything but the tools for files of any origin.
"""
