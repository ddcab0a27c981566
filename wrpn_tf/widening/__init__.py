"""More filters in every layer: which channels go together, how many copies, the new weights.

Imports `wrpn_tf.graph` and `wrpn_tf.models`; models are walked and rebuilt by their front.
"""
