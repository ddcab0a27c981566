"""What a network costs, planned or quantized, and the paper's figures to compare with.

Imports `wrpn_tf.arithmetic`, `wrpn_tf.graph` and `wrpn_tf.quantization`.
"""
