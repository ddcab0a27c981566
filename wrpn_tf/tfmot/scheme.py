"""The TF-MOT scheme: registry and layout transform that put WRPN's quantizers into a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize_layout_transform,
    quantize_registry,
    quantize_scheme,
)

from wrpn_tf.graph.decomposition import decomposed
from wrpn_tf.graph.nodes import Network, Node
from wrpn_tf.graph.plan import (
    InputRange,
    LayerPlan,
    fixed_range,
    flattening_name,
    input_quantizer_name,
    layer_plan,
    of_all_uses,
    placed,
)
from wrpn_tf.graph.roles import Kind, class_name, kind
from wrpn_tf.graph.support import check_supported
from wrpn_tf.tfmot import traversal
from wrpn_tf.tfmot.one_grid_layers import QuantizedAveragePooling2D, QuantizedUpSampling2D
from wrpn_tf.tfmot.output_quantizers import RangeQuantizer
from wrpn_tf.tfmot.own_layers import NAMESPACE
from wrpn_tf.tfmot.quantize_config import OutputQuantizer, WRPNQuantizeConfig
from wrpn_tf.tfmot.wrapper import QuantizeLayer


class WRPNRegistry(quantize_registry.QuantizeRegistry):
    """Answers TF-MOT with what the layout transform planned; nothing else is quantized."""

    def __init__(self):
        self.planned: dict[str, WRPNQuantizeConfig] = {}

    def supports(self, layer):
        """Whether the layer's class has a place in an integer network."""
        return kind(layer) is not None

    def get_quantize_config(self, layer):
        """The planned configuration of the layer, or None."""
        return self.planned.get(layer.name)


class WRPNLayoutTransform(quantize_layout_transform.QuantizeLayoutTransform):
    """Decomposes fused layers, then decides where each quantizer goes.

    Args:
      registry: receives the plan.
      integer: whether to add all that an integer-only network needs.
      input_range: fixed real ranges of the model's inputs, see `wrpn_tf.quantize_model`.
    """

    def __init__(self, registry: WRPNRegistry, integer: bool, input_range: InputRange = None):
        self._registry = registry
        self._integer = integer
        self._input_range = input_range
        self._on_one_grid: dict[str, WRPNQuantizeConfig] = {}

    def apply(self, model, layer_quantize_map):
        """Returns the rebuilt model and each layer's configuration."""
        asked = {name: known.get("quantize_config") for name, known in layer_quantize_map.items()}
        network, plan = self.plan(traversal.read(model), asked)
        configs = {name: {"quantize_config": config} for name, config in plan.items()}
        return self.build(network), configs

    def plan(
        self, network: Network, asked: Mapping[str, WRPNQuantizeConfig | None]
    ) -> tuple[Network, dict[str, WRPNQuantizeConfig]]:
        """The decomposed nodes, for `build`, and what each layer of them is to carry.

        Args:
          network: the nodes of a float model.
          asked: what annotated layers are asked to have, by name; None: what is usual.
        """
        annotated = {
            node.name: _asked(node.layer, asked[node.name])
            for node in network.nodes
            if node.name in asked and node.kind is not Kind.INPUT
        }
        annotated = of_all_uses(network, annotated)
        check_supported(network, annotated)
        network = decomposed(network, NAMESPACE, annotated)
        network, plans = placed(network, annotated, self._integer, self._input_range)
        plan = {name: WRPNQuantizeConfig.of(layer) for name, layer in plans.items()}
        averages = {node.name for node in network.nodes if node.kind is Kind.AVERAGE}
        self._on_one_grid = {name: plan.pop(name) for name in averages & plan.keys()}
        self._registry.planned = plan
        return network, plan

    def build(self, network: Network, call: traversal.Call = traversal.call_node) -> keras.Model:
        """The model of the nodes from `plan`, with its own layers where these hold quantizers.

        They are behind the inputs, and in the place of average pooling that owns a grid.

        Args:
          network: the nodes.
          call: calls a layer for any other node, see `wrpn_tf.tfmot.traversal.build`.
        """

        def on_grid(node, tensor):
            quantizer = RangeQuantizer(fixed_range(self._input_range, node.name))
            return QuantizeLayer(quantizer, name=input_quantizer_name(node.name))(tensor)

        def call_any(node, tensors):
            if node.name in self._on_one_grid:
                return _on_one_grid(node, tensors, self._on_one_grid[node.name].output)
            return call(node, tensors)

        return traversal.build(network, call_any, on_grid if self._integer else None)


class WRPNScheme(quantize_scheme.QuantizeScheme):
    """Registry and layout transform for one call of `quantize_apply`.

    Args:
      integer: add the 8-bit ranges that an integer-only network needs, and refuse layers that have
        no integer form.
      input_range: fixed real ranges of the inputs, see `wrpn_tf.quantize_model`.
    """

    def __init__(self, integer: bool = False, input_range: InputRange = None):
        self._registry = WRPNRegistry()
        self._layout = WRPNLayoutTransform(self._registry, integer, input_range)

    @property
    def plan(self) -> dict[str, WRPNQuantizeConfig]:
        """After applying: what each layer is meant to carry, by its name before wrapping."""
        return self._registry.planned

    def get_layout_transformer(self):
        """The one that plans."""
        return self._layout

    def get_quantize_registry(self):
        """The one that knows the plan."""
        return self._registry


def _asked(layer: keras.layers.Layer, config: WRPNQuantizeConfig | None) -> LayerPlan:
    """What an annotation asks for."""
    return layer_plan(layer) if config is None else config.plan


def _on_one_grid(node: Node, inputs: Any, quantizer: OutputQuantizer | None) -> Any:
    """The node's pooling or upsampling on the quantizer's grid."""
    layer = node.layer
    common = {"name": node.name, "trainable": node.trainable}
    if class_name(layer) == "UpSampling2D":
        return QuantizedUpSampling2D(quantizer, layer.size, **common)(inputs)
    if class_name(layer) == "GlobalAveragePooling2D":
        window = tuple(int(size) for size in inputs.shape[1:3])
        pooled = QuantizedAveragePooling2D(quantizer, window, window, **common)(inputs)
        if layer.keepdims:
            return pooled
        return keras.layers.Flatten(name=flattening_name(node.name))(pooled)
    return QuantizedAveragePooling2D(
        quantizer, layer.pool_size, layer.strides, layer.padding, **common
    )(inputs)
