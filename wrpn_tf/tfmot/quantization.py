"""The public entry: quantize a whole model, or annotate layers and apply."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_annotate as annotation,
)
from tensorflow_model_optimization.python.core.quantization.keras import quantize_wrapper

from wrpn_tf.arithmetic.methods import (
    ACTIVATION_METHODS,
    ActivationMethod,
    Method,
    WeightMethod,
    check_method,
    check_weight_method,
    has_bits,
)
from wrpn_tf.arithmetic.quantizers import OFF, check_bits
from wrpn_tf.graph.canonical import canonical
from wrpn_tf.graph.rules import FirstLast, Rule, assign_bits, edge_layers
from wrpn_tf.graph.support import check_supported
from wrpn_tf.tfmot import traversal
from wrpn_tf.tfmot.acceptance import check_accepted
from wrpn_tf.tfmot.interface import with_interface_of
from wrpn_tf.tfmot.saving import custom_objects
from wrpn_tf.tfmot.scheme import DEFAULT_BITS, WRPNScheme, layer_config
from wrpn_tf.tfmot.wrapper import adopt


def quantize_model(
    model: keras.Model,
    weight_bits: int = DEFAULT_BITS,
    activation_bits: int = DEFAULT_BITS,
    rules: Sequence[Rule] = (),
    first_last: FirstLast = "integer",
    *,
    method: Method = "learned",
    weight_method: WeightMethod | None = None,
    activation_method: ActivationMethod | None = None,
    per_channel: bool = True,
    input_range: tuple[float, float] | None = None,
) -> keras.Model:
    """A copy of `model` that trains with k-bit weights and k-bit activations.

    The copy keeps the weights, is flat (nested models are inlined, fused activations are layers of
    their own) and uncompiled. What else it keeps and what is refused: docs/contract.md. Activation
    scales start from a guess: call `wrpn_tf.calibrate`, train, or both.

    Args:
      model: built Sequential or Functional tf_keras model, trained or fresh.
      weight_bits: 1 to 8; 32 leaves weights in float.
      activation_bits: bits of ReLU outputs, 1 to 8; 32 leaves them in float.
      rules: bit-widths for some layers; of several matching rules the first wins.
      first_last: 'integer' gives the first and last layers 8 bits and puts everything else that an
        integer-only network needs on 8-bit grids (inputs, linear outputs, residual sums, logits).
        'paper' leaves the first and last layers in float and quantizes nothing beyond the paper
        (WRPN, section 5): for training studies, not for export.
      method: 'learned' trains the scales from their calibrated values; 'calibrated' keeps those
        fixed; 'paper' clips weights to [-1, 1] and activations to [0, 1].
      weight_method: another one for the kernels, see `WeightQuantizer`; None: `method`. First and
        last layers with bits that it does not have ('dorefa': 1 to 7, 'xnor': 1) follow `method`.
      activation_method: another one for the activations, see `ActivationQuantizer`; None: `method`.
      per_channel: a scale for each output channel of a convolution; False: one for its kernel.
      input_range: real values of image codes 0 and 255, which fixes the input's grid. None observes
        the input's range.

    Raises:
      ValueError: for a model, bit-width, policy or method that is not supported, layers that cannot
        be quantized (all are listed), or a rule that decides for no layer.
    """
    weights, activations = _methods(method, weight_method, activation_method, weight_bits)
    check_accepted(model, first_last == "integer")
    network = canonical(traversal.read(model), keras.layers)
    check_supported(network)
    nodes = network.nodes
    bits = assign_bits(
        nodes,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        rules=rules,
        first_last=first_last,
    )
    edges = set().union(*edge_layers(nodes))

    def annotate(node, inputs):
        layer = traversal.new_layer(node)
        own = bits[node.name]
        gives_way = node.name in edges and not has_bits(weights, own.weight)
        methods = method if gives_way else weights, activations
        config = layer_config(layer, own.weight, own.activation, *methods, per_channel)
        wrapper = tfmot.quantization.keras.quantize_annotate_layer(layer, config)
        outputs = wrapper(inputs, **traversal.call_arguments(node, layer))
        traversal.copy_weights(node, layer)
        return outputs

    annotated = traversal.build(network, annotate)
    quantized = _apply(annotated, first_last == "integer", input_range)
    return with_interface_of(model, quantized)


def quantize_annotate(
    layer: keras.layers.Layer,
    weight_bits: int = DEFAULT_BITS,
    activation_bits: int = DEFAULT_BITS,
    *,
    method: Method = "learned",
    weight_method: WeightMethod | None = None,
    activation_method: ActivationMethod | None = None,
    per_channel: bool = True,
) -> keras.layers.Layer:
    """Marks one layer for `quantize_apply`; use it in place of the layer when building a model.

    Args:
      layer: any supported layer.
      weight_bits: bits of the kernel, 1 to 8 or 32, for a layer that has one.
      activation_bits: bits of the output, 1 to 8 or 32, for a ReLU or a layer that fuses one.
      method: see `quantize_model`.
      weight_method: see `quantize_model`.
      activation_method: see `quantize_model`.
      per_channel: see `quantize_model`.
    """
    check_bits(weight_bits, "weight_bits")
    check_bits(activation_bits, "activation_bits")
    methods = _methods(method, weight_method, activation_method, weight_bits)
    config = layer_config(layer, weight_bits, activation_bits, *methods, per_channel)
    return tfmot.quantization.keras.quantize_annotate_layer(layer, config)


def quantize_apply(
    model: keras.Model,
    *,
    integer: bool = False,
    input_range: tuple[float, float] | None = None,
) -> keras.Model:
    """Quantizes the annotated layers of a model and leaves the others in float.

    Args:
      model: built Sequential or Functional model with layers from `quantize_annotate`.
      integer: also put on 8-bit grids what an integer-only network needs; every layer must be
        annotated then.
      input_range: see `quantize_model`; only used with `integer`.

    Returns:
      A new model with the same weights, scales of weights calibrated.

    Raises:
      ValueError: for a model that is not supported.
      RuntimeError: if a layer lost the configuration that it was meant to carry.
    """
    check_accepted(model, integer)
    with keras.utils.custom_object_scope(custom_objects()):
        flat = traversal.build(traversal.read(model))
    if not any(isinstance(layer, annotation.QuantizeAnnotate) for layer in flat.layers):
        raise ValueError(
            f"Model {model.name!r} has no annotated layers; mark some with "
            "wrpn_tf.quantize_annotate, or use wrpn_tf.quantize_model."
        )
    return with_interface_of(model, _apply(flat, integer, input_range))


def _methods(
    method: Method,
    weight_method: WeightMethod | None,
    activation_method: ActivationMethod | None,
    weight_bits: int,
) -> tuple[WeightMethod, ActivationMethod]:
    """The methods of weights and activations; raises ValueError for one that does not exist."""
    check_method(method)
    for_weights, for_activations = weight_method or method, activation_method or method
    check_method(for_activations, ACTIVATION_METHODS, "activation_method")
    if weight_bits != OFF:
        check_weight_method(for_weights, weight_bits)
    return for_weights, for_activations


def _apply(model, integer, input_range) -> keras.Model:
    scheme = WRPNScheme(integer=integer, input_range=input_range)
    with keras.utils.custom_object_scope(custom_objects()):
        quantized = tfmot.quantization.keras.quantize_apply(model, scheme)
    wrappers = {
        layer.layer.name: layer
        for layer in quantized.layers
        if isinstance(layer, quantize_wrapper.QuantizeWrapper)
    }
    _check_applied(scheme, wrappers)
    adopt(quantized.layers)
    for wrapper in wrappers.values():
        for kernel, quantizer, variables in wrapper._weight_vars:
            quantizer.initialize(np.asarray(kernel), variables)
    return quantized


def _check_applied(scheme: WRPNScheme, wrappers: dict) -> None:
    """Raises RuntimeError for layers that do not carry what was planned."""
    lost = []
    for name, planned in scheme.plan.items():
        wrapper = wrappers.get(name)
        carried = wrapper.quantize_config.get_config() if wrapper else None
        kernels = len(wrapper._weight_vars) if wrapper else 0
        if carried != planned.get_config() or kernels != bool(planned.weight):
            lost.append(name)
    if lost:
        raise RuntimeError(f"Layers that lost their quantizers: {', '.join(lost)}.")
