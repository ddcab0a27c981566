"""Memory of activations and weights, as in WRPN's figure 1 (arXiv 1709.01134, section 2)."""

from __future__ import annotations

import dataclasses

from wrpn_tf.costs.dataflow import Dataflow, Step
from wrpn_tf.graph.roles import Kind

_FLOAT_BYTES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that training and inference need for one batch.

    Activations count at their bits. Weights count at their bits in inference, and as float32 in
    training, which keeps them so; gradients are float32.

    Attributes:
      batch_size: images.
      activations: all maps: the images, and what each convolution, dense layer and pooling writes;
        batch normalization, ReLU, sums and products work in place.
      largest_input: the largest map that a convolution or dense layer reads.
      largest_output: the largest that one writes.
      gradients: of the largest input and the largest output map.
      weights: all kernels, at their bits.
      float_weights: all kernels, as float32.
    """

    batch_size: int
    activations: float
    largest_input: float
    largest_output: float
    gradients: float
    weights: float
    float_weights: float

    @property
    def training(self) -> float:
        """The paper's footprint: all activations and weights, the largest dZ and the largest dX."""
        return self.activations + self.gradients + self.float_weights

    @property
    def inference(self) -> float:
        """The paper's footprint: the largest input map, the largest output map, all weights."""
        return self.largest_input + self.largest_output + self.weights

    @property
    def training_share(self) -> float:
        """Share of activations and their gradients in the training footprint, 0 to 1."""
        return 1 - self.float_weights / self.training

    @property
    def inference_share(self) -> float:
        """Share of activations in the inference footprint, 0 to 1."""
        return 1 - self.weights / self.inference


def measure_memory(flow: Dataflow, batch_size: int) -> Memory:
    """The memory of a model whose steps are `flow`."""
    kernels = flow.kernels()
    inputs = [(flow.steps[name], flow.input_bits(step)) for step in kernels for name in step.inputs]
    maps = [
        (group.body, flow.map_bits(group))
        for group in flow.fusion.groups
        if _writes_map(group.body, flow)
    ]
    outputs = [(step, bits) for step, bits in maps if step.kind is Kind.KERNEL]
    widest = max(step.size for step, _ in inputs) + max(step.size for step, _ in outputs)
    weights = sum(step.weights for step in kernels)
    return Memory(
        batch_size=batch_size,
        activations=batch_size * sum(step.size * bits for step, bits in maps) / 8,
        largest_input=batch_size * max(step.size * bits for step, bits in inputs) / 8,
        largest_output=batch_size * max(step.size * bits for step, bits in outputs) / 8,
        gradients=batch_size * widest * _FLOAT_BYTES,
        weights=sum(step.weights * step.weight_bits for step in kernels) / 8,
        float_weights=weights * _FLOAT_BYTES,
    )


def _writes_map(body: Step, flow: Dataflow) -> bool:
    """Whether an operator with this body writes a map of its own.

    Others compute in the place of one of their inputs; a concatenation is a view of where they were
    written.
    """
    if body.kind is Kind.CONCATENATE:
        return False
    if body.kind in (Kind.KERNEL, Kind.AVERAGE, None) or not body.inputs:
        return True
    return body.size not in [flow.steps[name].size for name in body.inputs]
