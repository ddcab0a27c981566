"""Mixed precision that leaves quantizers exact."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

_DTYPES = {"bf16": tf.bfloat16, "fp16": tf.float16}


def use_mixed_precision(model: keras.Model, name: str) -> None:
    """Lets every Conv2D of a model multiply in bf16 or fp16, with float32 all around it.

    A Keras policy would round what quantizers read: under `mixed_bfloat16` the wrapper of TF-MOT
    0.8.1 hands them the kernel and its scale after Keras's automatic cast, in bfloat16.
    Here only the two operands of each convolution are rounded and its result is float32 again, so
    variables, quantizers, batch normalization and the saved model are those of a float32 training.
    DepthwiseConv2D and Dense stay in float32.

    Args:
        model: Changed in place, before its training step is traced.
        name: 'none', 'bf16' or 'fp16'.
    """
    if name == "none":
        return
    for layer in model.layers:
        layer = getattr(layer, "layer", layer)  # Within a wrapper.
        if type(layer) is keras.layers.Conv2D:
            layer.convolution_op = _in(_DTYPES[name], layer.convolution_op)


def _in(dtype: tf.DType, convolution: Any) -> Any:
    def convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.cast(convolution(tf.cast(inputs, dtype), tf.cast(kernel, dtype)), tf.float32)

    return convolve
