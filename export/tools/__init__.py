"""What programs share: classifiers, measurements and their plots, images, a model to a file.

Imports `export.alignment`, `export.flatbuffer`, `export.runtime` and what is below them.
"""
