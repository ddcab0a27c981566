"""What is known of a network whichever Keras built it.

Nodes, roles of layers and what is supported; the canonical form, decomposition and fusion groups;
rules for bits and the placement of quantizers. Imports `wrpn_tf.arithmetic`, and no Keras.
"""
