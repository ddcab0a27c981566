"""What was trained, and what became of it, as one HTML page.

Imports verification, the Edge TPU's preflight and Ethos-U's compiler; only its program imports it.
"""
