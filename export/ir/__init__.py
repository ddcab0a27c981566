"""The integer graph: tensors, operators, what they were trained for, checks and saving.

Imports nothing else of `export`.
"""
