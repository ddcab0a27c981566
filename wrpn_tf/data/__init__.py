"""Images and labels: data sets in memory, JPEG files and records as streams.

Imports nothing of ours.
"""
