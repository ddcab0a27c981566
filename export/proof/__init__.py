"""The proof that integers compute what was trained, for every possible input.

Imports `export.lowering` and what is below it.
"""
