"""Building the quantized model of a network with TF-MOT, and annotations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_annotate as annotation,
)

from wrpn_tf.graph.nodes import Network, Node, copy_weights
from wrpn_tf.graph.plan import InputRange, LayerPlan, without_annotations
from wrpn_tf.tfmot import traversal
from wrpn_tf.tfmot.acceptance import check_accepted
from wrpn_tf.tfmot.inspection import NAME_PREFIX
from wrpn_tf.tfmot.interface import float_with_interface_of, with_interface_of
from wrpn_tf.tfmot.quantize_config import WRPNQuantizeConfig
from wrpn_tf.tfmot.scheme import WRPNScheme
from wrpn_tf.tfmot.wrapper import QuantizeWrapperV2


def quantize(
    model: keras.Model,
    network: Network,
    annotated: Mapping[str, LayerPlan],
    integer: bool,
    input_range: InputRange,
) -> keras.Model:
    """The quantized copy of a model.

    Args:
      model: the user's.
      network: its nodes, not decomposed.
      annotated: what its layers are asked to have, by name.
      integer: see `wrpn_tf.graph.plan.placed`.
      input_range: see `wrpn_tf.graph.plan.placed`.
    """
    configs = {name: WRPNQuantizeConfig.of(plan) for name, plan in annotated.items()}
    return _quantized(model, network, configs, integer, input_range)


def assemble(model: Any, network: Network) -> keras.Model:
    """The float model of a network, with the interface of `model`."""
    return float_with_interface_of(model, traversal.build(network))


def annotate(layer: keras.layers.Layer, plan: LayerPlan) -> keras.layers.Layer:
    """Marks one layer for `apply`."""
    config = WRPNQuantizeConfig.of(plan)
    return tfmot.quantization.keras.quantize_annotate_layer(layer, config)


def apply(model: keras.Model, integer: bool, input_range: InputRange) -> keras.Model:
    """See `wrpn_tf.quantize_apply`."""
    check_accepted(model, integer)
    network = traversal.read(model)
    annotated = {
        node.name: node.layer
        for node in network.nodes
        if isinstance(node.layer, annotation.QuantizeAnnotate)
    }
    network = without_annotations(network, annotated)
    configs = {name: layer.quantize_config for name, layer in annotated.items()}
    return _quantized(model, network, configs, integer, input_range)


def _quantized(
    model: keras.Model,
    network: Network,
    configs: Mapping[str, WRPNQuantizeConfig | None],
    integer: bool,
    input_range: InputRange,
) -> keras.Model:
    """The quantized copy of a model, built once.

    TF-MOT's `quantize_apply` with a `WRPNScheme` gives the same layers, and builds five models for
    it: one with annotations, a copy, one without them, that of the layout transform, and its own.

    Args:
      model: see `quantize`.
      network: see `quantize`.
      configs: what annotated layers are asked to have, by name.
      integer: see `quantize`.
      input_range: see `quantize`.
    """
    scheme = WRPNScheme(integer=integer, input_range=input_range)
    layout = scheme.get_layout_transformer()
    network, planned = layout.plan(network, configs)
    _check_names(network, planned)
    wrappers: dict[str, QuantizeWrapperV2] = {}

    def call(node: Node, inputs: Any) -> Any:
        if node.name not in planned:
            return traversal.call_node(node, inputs)
        layer = traversal.new_layer(node)
        with tf.name_scope(layer.name):
            layer.build(tf.nest.map_structure(lambda tensor: tensor.shape, inputs))
        copy_weights(node, layer)  # Calls leave a tensor in the place of the kernel.
        wrapper = QuantizeWrapperV2(layer, planned[node.name])
        wrappers[node.name] = wrapper
        return wrapper(inputs, **traversal.call_arguments(node, wrapper))

    quantized = layout.build(network, call)
    _check_applied(scheme, wrappers)
    for wrapper in wrappers.values():
        for kernel, quantizer, variables in wrapper._weight_vars:
            quantizer.initialize(np.asarray(kernel), variables)
    return with_interface_of(model, quantized)


def _check_names(network: Network, planned: Collection[str]) -> None:
    """Raises ValueError where a layer has the name that TF-MOT gives to another in its wrapper."""
    others = {node.name for node in network.nodes} - set(planned)
    for name in planned:
        if NAME_PREFIX + name in others:
            raise ValueError(
                f"Layer {name!r} would be called {NAME_PREFIX + name!r}, as another layer is: "
                "rename one of the two layers."
            )


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
