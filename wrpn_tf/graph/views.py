"""A quantized model as plain facts: layers, trained integers and grids, whichever Keras has it."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np

from wrpn_tf.arithmetic.quantization_parameters import QuantizationParameters
from wrpn_tf.arithmetic.quantizer_state import ActivationState, KernelState, RangeState
from wrpn_tf.graph.nodes import Node
from wrpn_tf.graph.roles import Kind, Layer, relu_maximum

KernelEntry = tuple[KernelState, Any, dict[str, Any]]
"""A kernel's quantizer, the kernel (a variable), and the quantizer's variables."""
OutputEntry = tuple[ActivationState | RangeState, dict[str, Any]]
"""An output's quantizer and its variables."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class KernelCodes:
    """The integers of a trained kernel, in the layout of the Keras kernel.

    Attributes:
      codes: int32, at most ``2 ** (bits - 1) - 1`` in magnitude; 1 for 1 bit, and ``2 ** bits - 1``
        for DoReFa.
      scale: positive float32, broadcastable to `codes`; the kernel is ``codes * scale``.
      bits: 1 to 8.
    """

    codes: np.ndarray
    scale: np.ndarray
    bits: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerView:
    """One layer of a quantized model.

    Attributes:
      name: the layer's name in the model.
      own_name: its name in the float model: without what a wrapper puts before it.
      kind: its role; None for a class that cannot be quantized.
      layer: the Keras layer itself, without what wraps it.
      inputs: names of the layers it reads.
      output_shape: with the batch (None) first.
      kernel: the trained integers, or None for a layer without a quantized kernel.
      grid: the grid of its output, or None where it has none of its own.
      observes: whether the layer quantizes its output (its grid is None until it saw data).
      shift: what is added to its output before it is rounded: see `wrpn_tf.quantizers.pixel_grid`.
      use_of: the model's name of the layer with weights of which this is another use, or None.
      always_trains: whether it is called with ``training=True``, as in Monte Carlo dropout, and
        does something else then than in inference.
    """

    name: str
    own_name: str
    kind: Kind | None
    layer: Layer
    inputs: tuple[str, ...]
    output_shape: tuple[int | None, ...]
    kernel: KernelCodes | None
    grid: QuantizationParameters | None
    observes: bool
    shift: float = 0.0
    use_of: str | None = None
    always_trains: bool = False

    @property
    def again(self) -> bool:
        """Whether it is another use of a layer with weights."""
        return self.use_of is not None

    @property
    def maximum(self) -> float | None:
        """The upper bound of a ReLU, or None."""
        return relu_maximum(self.layer) if self.kind is Kind.RELU else None


def layer_view(
    node: Node,
    layer: Layer,
    role: Kind | None,
    kernel: KernelEntry | None,
    output: OutputEntry | None,
) -> LayerView:
    """The view of a node of a quantized model.

    Args:
      node: the node.
      layer: its layer, without what wraps it.
      role: the layer's, None for a class that cannot be quantized.
      kernel: the quantizer of its kernel, if it has one.
      output: the quantizer of its output, if it has one.
    """
    prefix = "" if layer is node.layer else node.layer.name.removesuffix(layer.name)
    codes = None
    if kernel is not None:
        quantizer, variable, variables = kernel
        values, scale = quantizer.codes(variable.numpy(), variables)
        codes = KernelCodes(codes=values, scale=scale, bits=quantizer.bits)
    return LayerView(
        name=node.name,
        own_name=node.name.removeprefix(prefix),
        kind=role,
        layer=layer,
        inputs=node.inputs,
        output_shape=node.shape,
        kernel=codes,
        grid=output[0].grid(output[1]) if output else None,
        observes=output is not None,
        shift=output[0].shift(output[1]) if output else 0.0,
        use_of=node.use_of,
        always_trains=node.arguments.get("training") is True
        and "training" in inspect.signature(layer.call).parameters,
    )
