"""Moves what was trained, by a hair, to where a realization is exact (`export.settle`).

Imports `export.lowering`, `export.realization`, `export.proof` and what is below them.
"""
