"""What is known of a network whichever Keras built it: nodes, roles of layers, rules for bits.

Imports `wrpn_tf.arithmetic`, and no Keras.
"""
