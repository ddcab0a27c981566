"""The two graphs, of what was trained and of integers: tensors, operators, checks and saving.

Imports nothing else of `export`.
"""
