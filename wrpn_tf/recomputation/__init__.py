"""Training that computes a part of the forward pass again in the backward pass.

Imports `wrpn_tf.arithmetic` and `wrpn_tf.graph`.
"""
