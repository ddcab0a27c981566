"""The one QuantizeConfig: which quantizer a layer's kernel and output get, if any."""

from __future__ import annotations

from typing import Any

import tensorflow_model_optimization as tfmot
import tf_keras as keras

from wrpn_tf.graph.placement import KBit, Range
from wrpn_tf.graph.plan import KernelPlan, LayerPlan
from wrpn_tf.tfmot.output_quantizers import ActivationQuantizer, RangeQuantizer
from wrpn_tf.tfmot.weight_quantizer import WeightQuantizer

Quantizer = ActivationQuantizer | RangeQuantizer | WeightQuantizer
OutputQuantizer = ActivationQuantizer | RangeQuantizer

_QUANTIZERS: dict[str, type] = {
    cls.__name__: cls for cls in (WeightQuantizer, ActivationQuantizer, RangeQuantizer)
}


def kernel_attribute(layer: keras.layers.Layer) -> str | None:
    """Name of the attribute that holds a layer's kernel, or None for a layer without one."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return "depthwise_kernel"
    if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
        return "kernel"
    return None


@keras.saving.register_keras_serializable("wrpn_tf")
class WRPNQuantizeConfig(tfmot.quantization.keras.QuantizeConfig):
    """Quantizes a layer's kernel with `weight` and its output with `output`; None leaves either.

    Args:
      weight: a `WeightQuantizer` or None.
      output: an `ActivationQuantizer`, a `RangeQuantizer` or None.
    """

    def __init__(
        self, weight: WeightQuantizer | None = None, output: OutputQuantizer | None = None
    ):
        self.weight = weight
        self.output = output

    def get_weights_and_quantizers(self, layer):
        """The kernel with its quantizer."""
        name = kernel_attribute(layer)
        return [(getattr(layer, name), self.weight)] if self.weight and name else []

    def set_quantize_weights(self, layer, quantize_weights):
        """Puts the quantized kernel in the kernel's place for the layer's call."""
        name = kernel_attribute(layer)
        if quantize_weights and name:
            setattr(layer, name, quantize_weights[0])

    def get_activations_and_quantizers(self, layer):
        """None: fused activations are layers of their own."""
        return []

    def set_quantize_activations(self, layer, quantize_activations):
        """Nothing to set."""
        pass

    def get_output_quantizers(self, layer):
        """The quantizer of the output, in a list."""
        return [self.output] if self.output else []

    def get_config(self):
        """The quantizers, serialized."""
        return {"weight": to_config(self.weight), "output": to_config(self.output)}

    @classmethod
    def of(cls, plan: LayerPlan) -> WRPNQuantizeConfig:
        """The configuration with new quantizers as planned."""
        weight = plan.weight
        return cls(
            weight=None
            if weight is None
            else WeightQuantizer(weight.bits, weight.method, weight.per_channel),
            output=_output_quantizer(plan.output),
        )

    @property
    def plan(self) -> LayerPlan:
        """What it asks for, as an annotation: a range is not asked for, but follows."""
        weight, output = self.weight, self.output
        return LayerPlan(
            weight=weight
            and KernelPlan(bits=weight.bits, method=weight.method, per_channel=weight.per_channel),
            output=KBit(bits=output.bits, method=output.method)
            if isinstance(output, ActivationQuantizer)
            else None,
        )

    @classmethod
    def from_config(cls, config):
        """The configuration that `get_config` serialized."""
        return cls(weight=from_config(config["weight"]), output=from_config(config["output"]))


def _output_quantizer(place: KBit | Range | None) -> OutputQuantizer | None:
    """The quantizer for what was placed."""
    match place:
        case KBit():
            return ActivationQuantizer(place.bits, place.method, place.maximum)
        case Range():
            return RangeQuantizer(place.fixed)
    return None


def to_config(quantizer: Quantizer | None) -> dict | None:
    """Serializes one of this package's quantizers."""
    if quantizer is None:
        return None
    return {"class_name": type(quantizer).__name__, "config": quantizer.get_config()}


def from_config(config: dict | None) -> Any:
    """The quantizer that `to_config` serialized, or None."""
    return None if config is None else _QUANTIZERS[config["class_name"]](**config["config"])
