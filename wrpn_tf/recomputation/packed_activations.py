"""Training that keeps activations as their k-bit codes, several in a byte.

The backward pass of a layer needs what the layer read. Ordinary training keeps that in float32.
Here it keeps the codes of quantized outputs and computes what lies between two of them again
(`wrpn_tf.graph.checkpoints` says which), as `tf.recompute_grad` does between tensors in float.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import numpy as np

from wrpn_tf.fronts import front_of

_VERB = "pack the activations of"


def pack_activations(model: Any) -> None:
    """Lets a quantized model train with its activations packed, in place.

    Its calls with ``training=True`` then keep, for the backward pass, only the codes of quantized
    outputs: 1, 2, 4 or 8 bits an element, the next above their bits. Convolutions, normalizations
    and what else lies between them are computed again in the backward pass. Outputs and gradients
    are those of the ordinary model, bit for bit, but where TensorFlow's graph optimizer reorders:
    gradients of an output that three layers or more read, or of a weight that is used three times,
    may be added in another order, and a product of two outputs in 8 bits may be rounded otherwise.
    Moving statistics and observed ranges move once. The model stays what it is: it is saved,
    loaded, exported and called in inference as before, and a model that is loaded is not packed.

    Gradients are computed with the weights that the model has then: as with `tf.recompute_grad`,
    weights must not change between a call and its gradients.

    What no quantizer follows is kept in float as before: outputs of layers that are not supported
    or that have an activity regularizer, inputs of a model with ``first_last="paper"``, residual
    sums there, and random augmentation; so are ranges that a frozen layer does not observe.
    Gradients of gradients are not supported.

    Args:
      model: from `quantize_model`, `quantize_apply` or `load_model`, of tf_keras or of Keras 3 on
        TensorFlow. Pack it before its training step is traced; one that is compiled traces a new
        one.

    Raises:
      ValueError: for a model without quantized outputs, one that is packed already, a dropout on
        images of any size, or Keras 3 on another backend.
    """
    front = front_of(model, _VERB)
    front.check_model(model, _VERB)
    if front.backend() != "tensorflow":
        raise ValueError(
            f"Activations are packed on TensorFlow, and Keras's backend is {front.backend()}; set "
            "KERAS_BACKEND=tensorflow."
        )
    if "call" in vars(model):
        raise ValueError(f"The activations of model {model.name!r} are packed already.")
    quantizers = [quantizer for quantizer, _ in front.named_output_quantizers(model).values()]
    if not quantizers:
        raise ValueError(
            f"Model {model.name!r} has no quantized outputs to pack; quantize it with "
            "wrpn_tf.quantize_model first."
        )
    from wrpn_tf.recomputation.segmented_call import SegmentedCall  # It imports TensorFlow.
    from wrpn_tf.recomputation.segments import keeping_leaves

    segment = functools.partial(keeping_leaves, without_updates=front.without_updates(model))
    packing_call = SegmentedCall(model, segment)
    ordinary = model.call

    def call(self, inputs, training=None, mask=None):
        trains = isinstance(training, int | np.bool_) and bool(training)  # And no tensor.
        observed = any(quantizer.observer is not None for quantizer in quantizers)
        if not trains or mask is not None or observed:
            return ordinary(inputs, training=training, mask=mask)
        return packing_call(inputs)

    model.call = types.MethodType(call, model)
    model.train_function = None  # Of an earlier `fit`, which traced the ordinary call.
