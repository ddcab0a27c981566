"""An integer graph as C source for microcontrollers.

Imports `export.ir` and `export.kernel_sets`.
"""
