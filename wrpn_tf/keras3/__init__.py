"""The Keras 3 front: walking and rebuilding models, quantized layers, saving.

It needs no TensorFlow: any backend of Keras serves. Imports `wrpn_tf.arithmetic` and
`wrpn_tf.graph`.
"""
