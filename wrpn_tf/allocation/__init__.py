"""How many bits each layer gets under a budget: sensitivities, and an integer program over them.

Imports `wrpn_tf.arithmetic`, `wrpn_tf.graph`, `wrpn_tf.quantization`, `wrpn_tf.costs`
and `wrpn_tf.reporting`.
"""
