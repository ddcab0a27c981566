"""What people read: tables, summaries, plots, results of trainings.

Imports `wrpn_tf.costs`, `wrpn_tf.graph`, `wrpn_tf.models` and `wrpn_tf.quantization`.
"""
