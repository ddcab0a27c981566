"""Running .tflite files in the Interpreter, in a process of their own where they are not ours.

Imports nothing else of `export`.
"""
