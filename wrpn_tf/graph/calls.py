"""One call of a layer or operation in a functional model, whichever Keras built it."""

from __future__ import annotations

import dataclasses

from wrpn_tf.graph.nodes import Shape
from wrpn_tf.graph.roles import Layer


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerCall:
    """What a node of a Keras graph says.

    Attributes:
      called: the layer, nested model or operation.
      layer: the same, or the layer that stands for an operation and its constants.
      inputs: identities of the tensors that it reads.
      outputs: identities of its outputs.
      input_shape: of the first input, with the batch first.
      output_shapes: of its outputs, likewise.
      is_nested: whether a model is called.
      has_vectors: whether an argument of an operation is a constant of several values.
    """

    called: Layer
    layer: Layer
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_shape: Shape
    output_shapes: tuple[Shape, ...]
    is_nested: bool
    has_vectors: bool

    @property
    def output_shape(self) -> Shape:
        """Of the first output."""
        return self.output_shapes[0]
