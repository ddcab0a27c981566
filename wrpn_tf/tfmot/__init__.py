"""The tf_keras front: walking and rebuilding models, TF-MOT's quantizers, configs and scheme.

Imports `wrpn_tf.arithmetic` and `wrpn_tf.graph`.
"""
