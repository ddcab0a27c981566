"""What users call to quantize, calibrate, look into and load models, whichever Keras they are of.

Imports `wrpn_tf.arithmetic` and `wrpn_tf.graph`, and finds the front of a model (`wrpn_tf.fronts`).
"""
