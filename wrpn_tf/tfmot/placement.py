"""Where output quantizers go.

A convolution, its batch normalization and its ReLU become one integer operator with one output
grid, so only the last of them carries a quantizer. Concatenation and average pooling have one grid
on both sides: what feeds only them leaves its quantizer to them. Everything else that an integer
network needs on a grid (linear outputs, residual sums, logits) gets an 8-bit range.
"""

from __future__ import annotations

from collections.abc import Collection

from wrpn_tf.arithmetic import quantizers
from wrpn_tf.graph.nodes import Node, consumers
from wrpn_tf.graph.roles import Kind, is_gain, kind, relu_maximum
from wrpn_tf.tfmot.output_quantizers import ActivationQuantizer, ObservableQuantizer, RangeQuantizer

_FUSABLE_INTO_RELU = (Kind.KERNEL, Kind.AFFINE, Kind.ADD, Kind.MULTIPLY)
_PROBABILITIES = (0.0, 255 / 256)  # the range of TFLite's LOGISTIC and SOFTMAX: scale 1/256


class Placement:
    """Decides for each layer of a graph which quantizer its output gets.

    Args:
      nodes: the graph, with activations split from the layers that fuse them.
      outputs: names of the layers whose results the model returns.
      wanted: by layer name, the k-bit quantizer that was asked for (None: unquantized). Layers that
        are absent were not annotated and stay as they are.
      integer: whether to add the 8-bit ranges that an integer-only network needs.
    """

    def __init__(
        self,
        nodes: list[Node],
        outputs: Collection[str],
        wanted: dict[str, ActivationQuantizer | None],
        integer: bool,
    ):
        self._nodes = {node.name: node for node in nodes}
        self._readers = consumers(nodes)
        self._outputs = outputs
        self._wanted = wanted
        self._integer = integer

    def output(self, name: str) -> ObservableQuantizer | None:
        """The quantizer of the named layer's output, or None."""
        node = self._nodes[name]
        if name not in self._wanted or self._is_fused(node) or self._is_deferred(node):
            return None
        match kind(node.layer):
            case Kind.RELU:
                return self._activation([node])
            case Kind.CONCATENATE:
                return self._joint(node)
            case Kind.AVERAGE if self._integer:
                return self._joint(node)
            case Kind.SIGMOID | Kind.SOFTMAX if self._integer and self._readers[name]:
                return RangeQuantizer(_PROBABILITIES)
            case Kind.KERNEL | Kind.AFFINE | Kind.ADD | Kind.MULTIPLY if self._integer:
                return None if self._is_folded(node) else RangeQuantizer()
        return None

    def _only_reader(self, node: Node) -> Node | None:
        """The layer that alone sees this one's output, or None."""
        readers = self._readers[node.name]
        return readers[0] if len(readers) == 1 and node.name not in self._outputs else None

    def _is_fused(self, node: Node) -> bool:
        """Whether the only reader becomes one operator with this layer."""
        only = self._only_reader(node)
        if only is None:
            return False
        reader = kind(only.layer)
        if kind(node.layer) is Kind.KERNEL and reader is Kind.AFFINE:
            return True
        return kind(node.layer) in _FUSABLE_INTO_RELU and reader is Kind.RELU

    def _is_folded(self, node: Node) -> bool:
        """Whether the layer is a factor for the kernels of all that read it."""
        readers = self._readers[node.name]
        return (
            is_gain(node.layer)
            and node.name not in self._outputs
            and all(kind(reader.layer) is Kind.KERNEL for reader in readers)
        )

    def _is_deferred(self, node: Node) -> bool:
        """Whether the output reaches nothing but one layer that owns the grid of its inputs."""
        reader = self._only_reader(node)
        if reader is None or reader.name not in self._wanted:
            return False
        if self._integer and kind(node.layer) in (Kind.AVERAGE, Kind.SIGMOID, Kind.SOFTMAX):
            return False  # It rounds by itself, so it needs a grid itself.
        if kind(reader.layer) is Kind.PASS:
            return self._is_deferred(reader)
        owners = (Kind.CONCATENATE, Kind.AVERAGE) if self._integer else (Kind.CONCATENATE,)
        if kind(reader.layer) not in owners:
            return False
        if relu_maximum(node.layer) is not None and not self._only_relus(reader):
            return False  # A range may reach beyond the maximum, and the kernel would not clip.
        return self._is_deferred(reader) or self._joint(reader) is not None

    def _sources(self, node: Node) -> list[Node]:
        """The layers whose values a concatenation or pooling receives."""
        sources = []
        for name in node.inputs:
            origin = self._nodes[name]
            if kind(origin.layer) in (Kind.PASS, Kind.CONCATENATE, Kind.AVERAGE):
                sources.extend(self._sources(origin))
            else:
                sources.append(origin)
        return sources

    def _joint(self, node: Node) -> ObservableQuantizer | None:
        """One quantizer for all that a concatenation or pooling receives."""
        if self._only_relus(node):
            return self._activation(self._sources(node))
        return RangeQuantizer() if self._integer else None

    def _only_relus(self, node: Node) -> bool:
        return all(kind(source.layer) is Kind.RELU for source in self._sources(node))

    def _activation(self, sources: list[Node]) -> ActivationQuantizer | None:
        """A k-bit quantizer for outputs of ReLUs: the finest that any of them asks for."""
        wanted = [self._wanted.get(source.name) for source in sources]
        present = [quantizer for quantizer in wanted if quantizer is not None]
        if len(present) < len(wanted):
            return None
        maxima = [relu_maximum(source.layer) for source in sources]
        return ActivationQuantizer(
            bits=max(quantizer.bits for quantizer in present),
            method=present[0].method,
            maximum=min((maximum for maximum in maxima if maximum is not None), default=None),
        )


def wanted_activation(bits: int, method) -> ActivationQuantizer | None:
    """The quantizer that `bits` asks for; None for 32."""
    return None if bits == quantizers.OFF else ActivationQuantizer(bits, method)
