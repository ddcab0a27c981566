"""The proof that integers compute what was trained, for every possible input.

Imports `export.lowering`, `export.realization` and what is below them.
"""
