"""What a network costs: multiply-accumulates times bit-widths, and weight memory."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import tf_keras as keras

from wrpn_tf import surgery
from wrpn_tf.inspection import LayerView, view
from wrpn_tf.layers import Kind
from wrpn_tf.quantizers import OFF


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerCost:
    """One layer with a kernel, for one image.

    Attributes:
      name: the layer.
      fmas: multiply-accumulates.
      weights: number of kernel values.
      weight_bits: 1 to 8, or 32.
      activation_bits: bits of the layer's input, 1 to 8, or 32.
    """

    name: str
    fmas: int
    weights: int
    weight_bits: int
    activation_bits: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """A network's cost for one image.

    Attributes:
      layers: in execution order.
    """

    layers: tuple[LayerCost, ...]

    @property
    def fmas(self) -> int:
        """Multiply-accumulates."""
        return sum(layer.fmas for layer in self.layers)

    @property
    def compute(self) -> int:
        """The paper's measure: sum of ``FMAs * (bits_A + bits_W)`` (WRPN, footnote 1)."""
        return sum(
            layer.fmas * (layer.activation_bits + layer.weight_bits) for layer in self.layers
        )

    @property
    def weight_bytes(self) -> float:
        """Kernel memory at the trained bit-widths, in bytes."""
        return sum(layer.weights * layer.weight_bits for layer in self.layers) / 8


def measure_cost(model: keras.Model) -> Cost:
    """The cost of a float or quantized model.

    Args:
      model: built Sequential or Functional model; spatial sizes must be known.
    """
    surgery.check_model(model)
    if any(isinstance(layer, keras.Model) for layer in model.layers):
        model = surgery.flatten(model)
    views = {layer.name: layer for layer in view(model)}
    return Cost(layers=tuple(_measure(v, views) for v in views.values() if v.kind is Kind.KERNEL))


def _measure(layer: LayerView, views: dict[str, LayerView]) -> LayerCost:
    keras_layer = layer.layer
    if layer.kernel is not None:
        weights, bits = layer.kernel.codes.size, layer.kernel.bits
    else:
        kernels = [weight for weight in keras_layer.weights if "kernel" in weight.name]
        weights, bits = sum(int(np.prod(kernel.shape)) for kernel in kernels), OFF
    # A weight is used once for each pixel of the output; a dense layer's output has none.
    pixels = math.prod(size or 0 for size in layer.output_shape[1:-1])
    return LayerCost(
        name=layer.name,
        fmas=weights * pixels,
        weights=weights,
        weight_bits=bits,
        activation_bits=_input_bits(layer, views),
    )


def _input_bits(layer: LayerView, views: dict[str, LayerView]) -> int:
    """Bits of the activations that a layer reads: those of the nearest quantizer before it."""
    while layer.inputs:
        layer = views[layer.inputs[0]]
        if layer.observes:
            return layer.grid.bits if layer.grid else 8
    return OFF
