"""Where output quantizers go.

Only the end of a fusion group carries a quantizer. Concatenation and average pooling have one grid
on both sides: what feeds only them leaves its quantizer to them, but for a ReLU with a maximum
below that of the others, which has its own and is moved to their grid. Everything else that an
integer network needs on a grid (linear outputs, residual sums, logits) gets an 8-bit range.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from wrpn_tf.arithmetic.methods import ActivationMethod
from wrpn_tf.graph.fusion import Fusion
from wrpn_tf.graph.nodes import Node
from wrpn_tf.graph.roles import SAME_SCALE, Kind, class_name, relu_maximum

RANGE_BITS = 8
_PROBABILITIES = (0.0, 255 / 256)  # the range of TFLite's LOGISTIC and SOFTMAX: scale 1/256


@dataclasses.dataclass(frozen=True, kw_only=True)
class KBit:
    """A k-bit quantizer of activations that are not negative.

    Attributes:
      bits: 1 to 8.
      method: how its scale is found.
      maximum: an upper bound that the clip must not exceed, or None.
    """

    bits: int
    method: ActivationMethod
    maximum: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """An 8-bit quantizer over a range.

    Attributes:
      fixed: ``(minimum, maximum)`` of the real values, or None to observe them.
    """

    fixed: tuple[float, float] | None = None

    @property
    def bits(self) -> int:
        """8."""
        return RANGE_BITS


class Placement:
    """Decides for each layer of a network which quantizer its output gets.

    Args:
      fusion: of the decomposed network.
      wanted: by node name, the k-bit quantizer that was asked for (None: unquantized). Nodes that
        are absent were not annotated and stay as they are.
      integer: whether to add the 8-bit ranges that an integer-only network needs.
    """

    def __init__(self, fusion: Fusion[Node], wanted: Mapping[str, KBit | None], integer: bool):
        self._fusion = fusion
        self._wanted = wanted
        self._integer = integer

    def output(self, name: str) -> KBit | Range | None:
        """The quantizer of the named node's output, or None."""
        node = self._fusion.layers[name]
        if name not in self._wanted or self._is_deferred(node):
            return None
        if node is not self._fusion.group(name).end or name in self._fusion.gains:
            return None
        match node.kind:
            case Kind.RELU:
                return self._activation([node])
            case Kind.CONCATENATE:
                return self._joint(node)
            case Kind.AVERAGE if self._integer:
                return self._joint(node)
            case Kind.SIGMOID | Kind.SOFTMAX if self._integer and self._fusion.readers(name):
                return Range(fixed=_PROBABILITIES)
            case Kind.AFFINE if self._integer and (ends := self._of_probabilities(node)):
                return Range(fixed=ends)
            case Kind.KERNEL | Kind.AFFINE | Kind.ADD | Kind.MULTIPLY | Kind.USE if self._integer:
                return Range()
        return None

    def _of_probabilities(self, node: Node) -> tuple[float, float] | None:
        """The range of a line of a sigmoid, where a grid has its codes: that of tanh is [-1, 1)."""
        (source,) = node.inputs
        if class_name(node.layer) != "Rescaling":
            return None
        if self._fusion.layers[source].kind is not Kind.SIGMOID:
            return None
        gain, offset = np.ravel(node.layer.scale), np.ravel(node.layer.offset)
        if gain.size > 1 or offset.size > 1 or gain[0] <= 0:
            return None
        below = -256 * offset[0] / gain[0]
        if below != int(below) or not 0 <= below <= 255:
            return None
        return float(offset[0]), float(offset[0] + gain[0] * _PROBABILITIES[1])

    def _is_deferred(self, node: Node) -> bool:
        """Whether the output reaches nothing but one layer that owns the grid of its inputs."""
        reader = self._fusion.only_reader(node.name)
        if reader is None or reader.name not in self._wanted:
            return False
        if node.kind in (Kind.AVERAGE, Kind.SIGMOID, Kind.SOFTMAX):
            return False  # It rounds by itself, so it needs a grid itself.
        if reader.kind is Kind.PASS:
            return self._is_deferred(reader)
        owners = (Kind.CONCATENATE, Kind.AVERAGE) if self._integer else (Kind.CONCATENATE,)
        if reader.kind not in owners:
            return False
        if self._maximum(node) not in (None, self._maximum(reader)):
            return False  # The grid may reach beyond the maximum, and the kernel would not clip.
        return self._is_deferred(reader) or self._joint(reader) is not None

    def _maximum(self, node: Node) -> float | None:
        """Where a quantizer of the node would clip at most, as its ReLUs do, or None."""
        if node.kind not in SAME_SCALE:
            return relu_maximum(node.layer)
        if not self._only_relus(node):
            return None
        return self._largest(self._fusion.sources(node.name))

    @staticmethod
    def _largest(relus: list[Node]) -> float | None:
        """The largest maximum of ReLUs; None where one has none."""
        maxima = [relu_maximum(relu.layer) for relu in relus]
        known = [maximum for maximum in maxima if maximum is not None]
        return max(known) if len(known) == len(maxima) else None

    def _joint(self, node: Node) -> KBit | Range | None:
        """One quantizer for all that a concatenation or pooling receives."""
        if self._only_relus(node):
            return self._activation(self._fusion.sources(node.name))
        return Range() if self._integer else None

    def _only_relus(self, node: Node) -> bool:
        return all(source.kind is Kind.RELU for source in self._fusion.sources(node.name))

    def _activation(self, sources: list[Node]) -> KBit | None:
        """A k-bit quantizer for outputs of ReLUs: the finest that any of them asks for."""
        wanted = [self._wanted.get(source.name) for source in sources]
        present = [quantizer for quantizer in wanted if quantizer is not None]
        if len(present) < len(wanted):
            return None
        return KBit(
            bits=max(quantizer.bits for quantizer in present),
            method=present[0].method,
            maximum=self._largest(sources),
        )
