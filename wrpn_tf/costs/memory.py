"""Memory of activations and weights, as in WRPN's figure 1 (arXiv 1709.01134, section 2)."""

from __future__ import annotations

import dataclasses

from wrpn_tf.arithmetic.bits import OFF, packed_width
from wrpn_tf.costs.dataflow import Dataflow, Step
from wrpn_tf.graph import checkpoints
from wrpn_tf.graph.roles import Kind, class_name

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
      packed: what training with `wrpn_tf.pack_activations` keeps for the backward pass: quantized
        outputs in 1, 2, 4 or 8 bits a value, what has no quantizer as float32, dropout's masks in
        one bit. Of a float model: what is kept where all between branches is computed again.
      recomputed: the most that it computes again at once, as float32.
    """

    batch_size: int
    activations: float
    largest_input: float
    largest_output: float
    gradients: float
    weights: float
    float_weights: float
    packed: float
    recomputed: float

    @property
    def packed_training(self) -> float:
        """Footprint with packed activations: codes, what is computed again, dZ, dX and weights."""
        return self.packed + self.recomputed + self.gradients + self.float_weights

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
    kernels = [step for step in kernels if not step.again]
    weights = sum(step.weights for step in kernels)
    return Memory(
        batch_size=batch_size,
        activations=batch_size * sum(step.size * bits for step, bits in maps) / 8,
        largest_input=batch_size * max(step.size * bits for step, bits in inputs) / 8,
        largest_output=batch_size * max(step.size * bits for step, bits in outputs) / 8,
        gradients=batch_size * widest * _FLOAT_BYTES,
        weights=sum(step.weights * step.weight_bits for step in kernels) / 8,
        float_weights=weights * _FLOAT_BYTES,
        packed=batch_size * _packed_bits(flow) / 8,
        recomputed=batch_size * _largest_segment(flow) * _FLOAT_BYTES,
    )


def _packed_bits(flow: Dataflow) -> int:
    """Bits of one image's checkpoints."""
    bits, between = _quantized_bits(flow), _between(flow)
    total = 0
    for name in checkpoints.checkpoints(flow.fusion, between):
        source = checkpoints.grid_source(flow.fusion, bits, name)
        width = OFF if source is None else packed_width(bits[source])
        total += flow.steps[name].size * width
    masks = [
        step.size
        for step in flow.steps.values()
        if class_name(step.layer) in checkpoints.RANDOM_MASKS
    ]
    return total + sum(masks)


def _largest_segment(flow: Dataflow) -> int:
    """Values of one image between checkpoints, the end included, where they are most."""
    between = _between(flow)

    def size(step: Step) -> int:
        inner = [name for name in step.inputs if name in between]
        return step.size + sum(size(flow.steps[name]) for name in inner)

    ends = [step for step in flow.steps.values() if step.name not in between]
    return max((size(step) for step in ends if checkpoints.is_repeatable(step)), default=0)


def _quantized_bits(flow: Dataflow) -> dict[str, int]:
    return {
        step.name: step.output_bits
        for step in flow.steps.values()
        if step.output_bits is not None and step.output_bits != OFF
    }


def _between(flow: Dataflow) -> frozenset[str]:
    return checkpoints.between_checkpoints(flow.fusion, _quantized_bits(flow))


def _writes_map(body: Step, flow: Dataflow) -> bool:
    """Whether an operator with this body writes a map of its own.

    Others compute in the place of one of their inputs; a concatenation is a view of where they were
    written.
    """
    if body.kind is Kind.CONCATENATE:
        return False
    if class_name(body.layer) == "MaxPooling2D":
        return True
    if body.kind in (Kind.KERNEL, Kind.AVERAGE, None) or not body.inputs:
        return True
    return body.size not in [flow.steps[name].size for name in body.inputs]
