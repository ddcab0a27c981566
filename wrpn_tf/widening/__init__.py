"""More filters in every layer: which channels go together, how many copies, the new weights.

Imports `wrpn_tf.graph`, `wrpn_tf.models` and, to walk and rebuild models, `wrpn_tf.tfmot`.
"""
