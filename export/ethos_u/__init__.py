"""Arm Ethos-U: what the real compiler, Vela, makes of a .tflite file.

Imports `export.flatbuffer`. Vela (the package `ethos-u-vela`) runs in a process of its own.
"""
