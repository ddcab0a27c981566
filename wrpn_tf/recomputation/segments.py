"""Tensors that the backward pass computes again from what is kept of others."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from wrpn_tf.arithmetic import cpu_kernels, packing
from wrpn_tf.arithmetic.quantizer_state import RangeState
from wrpn_tf.graph.repetition import repeating
from wrpn_tf.graph.views import OutputEntry

Context = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclasses.dataclass(frozen=True)
class Grid:
    """What codes mean: ``(code + low) * scale``, of codes from 0 to ``2^bits - 1``."""

    bits: int
    scale: tf.Tensor
    low: Any = 0.0

    @classmethod
    def ending_at_127(cls, bits: int, scale: Any, zero_point: Any) -> Grid:
        """That of an output quantizer: int8, its highest code is 127."""
        low = 127.0 - zero_point - (2.0**bits - 1.0)
        return cls(bits, tf.convert_to_tensor(scale), low)

    def codes(self, values: tf.Tensor) -> tf.Tensor:
        """The codes, uint8, of values on the grid: multiples of the scale but for rounding."""
        if cpu_kernels.are_available():
            return cpu_kernels.nearest_codes(values, self.scale, self.low)
        steps = values * tf.math.reciprocal(self.scale)
        return tf.cast(steps + (0.5 - self.low), tf.uint8)

    def values(self, codes: tf.Tensor) -> tf.Tensor:
        """The values, float32, of codes."""
        steps = tf.cast(codes, tf.float32)
        is_shifted = isinstance(self.low, tf.Tensor) or self.low
        return (steps + self.low if is_shifted else steps) * self.scale


class Kept:
    """A tensor that the backward pass needs.

    Attributes:
      tensor: the tensor.
      grid: of its values; None for one that is kept as it is.
      restored: the tensor that was last computed from its codes, until it is taken.
    """

    def __init__(self, tensor: tf.Tensor, grid: Grid | None = None):
        self.tensor = tensor
        self.grid = grid
        self.restored: tf.Tensor | None = None
        self._packed: tf.Tensor | None = None

    def restorer(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """What computes the tensor from what is kept of it, after another tensor is there."""
        grid, tensor = self.grid, self.tensor
        if grid is None:
            return lambda after: _held_back(tensor, after)
        if self._packed is None:
            self._packed = packing.pack(grid.codes(tensor), grid.bits)
        packed, shape, sizes = self._packed, tensor.shape, tf.shape(tensor)

        def restore(after: tf.Tensor) -> tf.Tensor:
            codes = packing.unpack(_held_back(packed, after), grid.bits, shape, sizes)
            self.restored = grid.values(codes)
            return self.restored

        return restore

    def take_restored(self) -> tf.Tensor | None:
        """What a reader restored, which is not held any longer; None where none did."""
        restored, self.restored = self.restored, None
        return restored


@dataclasses.dataclass(eq=False)
class Between:
    """A tensor that is computed when what reads it is, and again in the backward pass.

    Attributes:
      compute: the tensor from those of `sources`.
      quantizer: that of its output, and its variables; or None.
      result: where what the quantizer gave is kept; None where it is not.
    """

    compute: Callable[..., tf.Tensor]
    sources: Sequence[Between | Kept]
    quantizer: OutputEntry | None = None
    result: Kept | None = None

    def leaves(self) -> list[Kept]:
        """The tensors that it is computed from, each once."""
        found: dict[int, Kept] = {}
        for source in self.sources:
            parts = source.leaves() if isinstance(source, Between) else [source]
            found |= {id(part): part for part in parts}
        return list(found.values())

    def ranges(self) -> Iterator[OutputEntry]:
        """The 8-bit ranges that computing it observes."""
        for source in self.sources:
            if isinstance(source, Between):
                yield from source.ranges()
        if self.quantizer is not None and isinstance(self.quantizer[0], RangeState):
            yield self.quantizer

    def known(self) -> dict[int, tf.Tensor]:
        """The output by its quantizer's id, where what read it has it from its codes."""
        if self.quantizer is None or self.result is None:
            return {}
        restored = self.result.take_restored()
        return {} if restored is None else {id(self.quantizer[0]): restored}

    def __call__(self, values: Mapping[int, tf.Tensor]) -> tf.Tensor:
        """The tensor, with `values` of leaves by their id."""
        tensors = [
            source(values) if isinstance(source, Between) else values[id(source)]
            for source in self.sources
        ]
        return self.compute(*tensors)


def keeping_leaves(root: Between, without_updates: Context) -> tf.Tensor:
    """Computes a tensor, keeping for the backward pass what its leaves keep.

    Args:
      root: the tensor.
      without_updates: makes a context in which calls of layers update no statistics.
    """
    leaves = root.leaves()
    restorers = [leaf.restorer() for leaf in leaves]

    def compute(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        return root({id(leaf): tensor for leaf, tensor in zip(leaves, tensors, strict=True)})

    @tf.custom_gradient
    def run(*tensors):
        output = compute(tensors)
        ranges = {
            id(quantizer): {name: tf.identity(bound) for name, bound in kept.items()}
            for quantizer, kept in root.ranges()
        }

        def gradient(upstream, variables=None):
            variables = variables or []
            restored = [restore(upstream) for restore in restorers]
            floats = [tensor for tensor in restored if tensor.dtype.is_floating]
            with repeating(ranges, root.known()), without_updates(), tf.GradientTape() as tape:
                tape.watch(floats)
                again = compute(restored)
            found = iter(tape.gradient(again, [*floats, *variables], output_gradients=upstream))
            to_inputs = [next(found) if tensor.dtype.is_floating else None for tensor in restored]
            return (to_inputs, list(found)) if variables else to_inputs

        return output, gradient

    return run(*(leaf.tensor for leaf in leaves))


def _held_back(tensor: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """The tensor, but not before `after` is there.

    Else the graph would compute everything again at once, or find that it has it already. XLA does
    not respect control dependencies; a dependency of values does it, as in `tf.recompute_grad`.
    """
    if tf.executing_eagerly():
        return tensor
    with tf.control_dependencies([after]):
        some = tf.cast(tf.reduce_max(tf.reshape(after, [-1])[:1]), tf.bool)
        one = tf.where(some == some, 1.0, float("nan"))
        if tensor.dtype.is_floating or tensor.dtype.is_integer:
            return tensor * tf.cast(one, tensor.dtype)
        return tf.identity(tensor)
