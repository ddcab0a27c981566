"""What a network costs: multiply-accumulates, their bits, weights and activations."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

from wrpn_tf.arithmetic.bits import OFF, check_bits
from wrpn_tf.costs.dataflow import (
    Dataflow,
    Step,
    is_quantized,
    planned_dataflow,
    quantized_dataflow,
)
from wrpn_tf.costs.memory import Memory, measure_memory
from wrpn_tf.costs.policy import Policy
from wrpn_tf.fronts import front_of
from wrpn_tf.graph.rules import edge_layers
from wrpn_tf.terminal import printable


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerCost:
    """One layer with a kernel.

    Attributes:
      name: the layer.
      shape: of its output, without the batch.
      fmas: multiply-accumulates for the batch.
      weights: number of kernel values; 0 for another use of a layer that is counted already.
      weight_bits: 1 to 8, or 32.
      activation_bits: bits of the layer's input, 1 to 8, or 32.
    """

    name: str
    shape: tuple[int, ...]
    fmas: int
    weights: int
    weight_bits: int
    activation_bits: int

    @property
    def compute(self) -> int:
        """``FMAs * (bits_A + bits_W)``: the paper's measure (WRPN, footnote 1)."""
        return self.fmas * (self.activation_bits + self.weight_bits)

    @property
    def bit_operations(self) -> int:
        """``FMAs * bits_A * bits_W``: single-bit multiplications."""
        return self.fmas * self.activation_bits * self.weight_bits

    @property
    def weight_bytes(self) -> float:
        """Kernel at its trained bits, in bytes."""
        return self.weights * self.weight_bits / 8

    @property
    def shipped_bytes(self) -> int:
        """Kernel as int8 and bias as int32, as in a .tflite file; as float32 for 32 bits."""
        return self.weights * (4 if self.weight_bits == OFF else 1) + 4 * self.shape[-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """A network's cost for one batch.

    Attributes:
      layers: in execution order.
      memory: footprints of training and inference.
    """

    layers: tuple[LayerCost, ...]
    memory: Memory

    def __str__(self) -> str:
        """A line for each layer, and the sum."""
        names = [printable(layer.name) for layer in self.layers]
        width = max(map(len, [*names, "total"]))
        lines = [
            f"{name:{width}}  {f'{layer.activation_bits}/{layer.weight_bits}':>5} bits  "
            f"{layer.fmas:>15,} FMAs  {layer.weights:>13,} weights"
            for name, layer in zip(names, self.layers, strict=True)
        ]
        total = f"{'total':{width}}              {self.fmas:>15,} FMAs  {self.weights:>13,} weights"
        return "\n".join(["activation/weight bits", *lines, total])

    @property
    def fmas(self) -> int:
        """Multiply-accumulates."""
        return sum(layer.fmas for layer in self.layers)

    @property
    def compute(self) -> int:
        """The paper's measure: sum of ``FMAs * (bits_A + bits_W)`` (WRPN, footnote 1)."""
        return sum(layer.compute for layer in self.layers)

    @property
    def bit_operations(self) -> int:
        """Sum of ``FMAs * bits_A * bits_W``."""
        return sum(layer.bit_operations for layer in self.layers)

    @property
    def weights(self) -> int:
        """Number of kernel values."""
        return sum(layer.weights for layer in self.layers)

    @property
    def weight_bytes(self) -> float:
        """Kernels at their trained bits, in bytes."""
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def shipped_bytes(self) -> int:
        """Kernels as int8 and biases as int32, in bytes; a file adds its structure."""
        return sum(layer.shipped_bytes for layer in self.layers)


def measure_cost(
    model: Any,
    batch_size: int = 1,
    *,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    policy: Policy | None = None,
) -> Cost:
    """The cost of a float model, of one quantized on paper, or of a quantized model.

    Only shapes are read, so a float model of any size is measured at once. Convolutions (grouped,
    depthwise and separable ones too) and dense layers count; batch normalization, additions and
    pooling do not.

    Args:
      model: built Sequential or Functional model; spatial sizes must be known.
      batch_size: images.
      weight_bits: for a float model: bits that `quantize_model` would be given, 1 to 8 or 32. None:
        as it is.
      activation_bits: the same for activations.
      policy: for a float model: 'integer' (the default) or 'paper' as `first_last` of
        `quantize_model`; 'uniform' counts every layer at the same bits, first and last included;
        'interior' does that too, and leaves the first and last layers out of `layers` and their
        totals.

    Raises:
      ValueError: for a model, policy, batch size or bit-width that is not supported, bits or a
        policy for a model that is quantized already, or a layer that cannot be counted (it is
        named).
    """
    front = front_of(model, "measure")
    front.check_model(model)
    if int(batch_size) != batch_size or batch_size < 1:
        raise ValueError(f"batch_size must be an integer of at least 1; got {batch_size!r}.")
    if policy is not None and policy not in get_args(Policy):
        raise ValueError(f"policy must be one of {', '.join(get_args(Policy))}; got {policy!r}.")
    planned = weight_bits is not None or activation_bits is not None
    if is_quantized(model):
        if planned or policy is not None:
            raise ValueError(
                f"Model {model.name!r} is quantized and has bits of its own; leave out "
                "weight_bits, activation_bits and policy."
            )
        flow = quantized_dataflow(model)
        kernels = flow.kernels()
    else:
        planned_policy = policy or "integer" if planned else "paper"
        flow = _plan(model, weight_bits, activation_bits, planned_policy)
        kernels = flow.kernels()
        if policy == "interior":
            edges = set.union(*edge_layers(front.read(model).nodes))
            kernels = [step for step in kernels if step.part_of not in edges]
    if not kernels:
        raise ValueError(f"Model {model.name!r} has no convolution or dense layer to count.")
    return Cost(
        layers=tuple(_layer_cost(flow, step, batch_size) for step in kernels),
        memory=measure_memory(flow, batch_size),
    )


def _plan(
    model: Any, weight_bits: int | None, activation_bits: int | None, policy: Policy
) -> Dataflow:
    weight_bits = OFF if weight_bits is None else check_bits(weight_bits, "weight_bits")
    activation_bits = (
        OFF if activation_bits is None else check_bits(activation_bits, "activation_bits")
    )
    if policy == "integer" or policy == "paper":
        return planned_dataflow(model, weight_bits, activation_bits, policy)
    flow = planned_dataflow(model, OFF, OFF, "paper")
    return Dataflow(
        [
            dataclasses.replace(step, weight_bits=weight_bits, output_bits=activation_bits)
            for step in flow.steps.values()
        ],
        flow.fusion.results,
    )


def _layer_cost(flow: Dataflow, step: Step, batch_size: int) -> LayerCost:
    return LayerCost(
        name=step.name,
        shape=step.shape,
        fmas=step.weights * flow.uses(step) * batch_size,
        weights=0 if step.again else step.weights,
        weight_bits=step.weight_bits,
        activation_bits=flow.input_bits(step),
    )
