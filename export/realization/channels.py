"""From a trained channel to integers: kernel codes, scale and bias.

A channel's output code is a monotone step function of its integer accumulator, known by its
thresholds, at most one for each output code. Kernel codes are stored multiplied by a
`code_multiplier`, so the accumulator moves in steps of that size, and the int32 bias can put every
threshold inside a step, where no kernel's rounding reaches.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import hashlib
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from export.ir.operators import accumulator_limit
from export.ir.weight_dtypes import LARGEST
from export.kernel_sets import ideal, rules, thresholds
from export.kernel_sets.ideal import BEYOND
from export.kernel_sets.requantization import VECTOR
from export.kernel_sets.rules import TARGETS
from export.realization.accumulator_range import AccumulatorRange
from export.realization.context import RequantizationContext

_MOST_MULTIPLIER = 255.0  # XNNPACK takes no requantization scale from 256 on.
_CONSTANT_MULTIPLIER = 2.0**-10
_AT_ONCE = 1 << 15  # Thresholds.
_MOST_KNOWN = 1024  # Operators, some bytes for each of their channels.
ULPS = (0, 1, -1, 2, -2, 3, -3, 4, -4)
"""How far a kernel scale may be from the trained one: float32 steps, in the order of trying."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Channels:
    """The integers of one weighted operator, channel first.

    Attributes:
      kernel: int8 ``[channels, taps]``: codes times code multiplier, negated where the gain is
        negative, 0 where the output does not depend on the input.
      scale: float32 ``[channels]``, positive: kernel scale for TFLite.
      bias: int32 ``[channels]``.
      code_multiplier: the factor on the codes.
      relu: whether the operator clips at the output's zero point.
      trained: `export.ir.provenance.TRAINED` ``[channels]``.
      exact: for each of `export.kernel_sets.rules.TARGETS`, bool ``[channels]``: whether its kernel
        gives the trained output code for every possible input.
    """

    kernel: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    code_multiplier: int
    relu: bool
    trained: np.ndarray
    exact: dict[str, np.ndarray]


class Rounding:
    """The thresholds of every target for one operator's channels, before a bias is chosen.

    Args:
      context: where the channels compute.
      kernel_scale: float32 ``[channels]``.
      code_multiplier: the factor on the codes.
      accumulators: the accumulators that the channels can take, of codes without the code
        multiplier.

    Attributes:
      accumulators: as given.
      alike: for each target, the first of `export.kernel_sets.rules.TARGETS` that rounds all
        channels as it does.
    """

    def __init__(
        self,
        context: RequantizationContext,
        kernel_scale: np.ndarray,
        code_multiplier: int,
        accumulators: AccumulatorRange,
    ):
        self._code_multiplier = code_multiplier
        self.accumulators = accumulators
        self._context = context
        self._kernel_scale = kernel_scale
        names = rules.rounding_rules(context.operator, context.vector_product)
        firsts: dict[tuple[str, bytes], str] = {}
        self.alike: dict[str, str] = {}
        for target in TARGETS:
            rounded_so = names[target], context.multipliers(kernel_scale, target).tobytes()
            self.alike[target] = firsts.setdefault(rounded_so, target)
        self._known: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._chosen = np.arange(kernel_scale.size)

    def select(self, channels: np.ndarray) -> Rounding:
        """That of some of the channels, by index."""
        chosen = copy.copy(self)
        chosen.accumulators = self.accumulators.select(channels)
        chosen._chosen = self._chosen[channels]
        return chosen

    def different(self, targets: Sequence[str]) -> tuple[str, ...]:
        """Targets in order, without those that round as one before them does."""
        firsts: dict[str, str] = {}
        for target in targets:
            firsts.setdefault(self.alike[target], target)
        return tuple(firsts.values())

    def _rule(self, target: str) -> tuple[np.ndarray, np.ndarray]:
        """`export.kernel_sets.thresholds` of a target's rule: smallest accumulators and domain.

        Those of all channels, from which `select` has some.
        """
        target = self.alike[target]
        if target not in self._known:
            context = self._context
            rule = rules.rounding_rules(context.operator, context.vector_product)[target]
            multiplier = context.multipliers(self._kernel_scale, target)
            smallest = thresholds.smallest_accumulators(rule, multiplier, context.levels)
            limit = accumulator_limit(context.dtype_bits)
            self._known[target] = smallest, thresholds.domain(rule, multiplier).clip(max=limit)
        return self._known[target]

    def _smallest(self, target: str, levels: np.ndarray | None = None) -> np.ndarray:
        """The smallest accumulators of the channels at all or some of the levels."""
        smallest, _ = self._rule(target)
        return smallest[slice(None) if levels is None else levels, self._chosen]

    def positions(
        self, target: str, bias: np.ndarray, levels: np.ndarray | None = None
    ) -> np.ndarray:
        """The smallest accumulator, without code multiplier and bias, that reaches each level.

        Args:
          target: one of `export.kernel_sets.rules.TARGETS`.
          bias: whole numbers ``[channels]``.
          levels: for which of the levels, by index, ``[levels, channels]``; None: all.

        Returns:
          int64 ``[levels, channels]``, rounded up to an accumulator that the channel can take;
          `BEYOND` where it can take none.
        """
        position = -((bias - self._smallest(target, levels)) // self._code_multiplier)
        return self.accumulators.at_or_above(position)

    def constants(self, target: str, bias: np.ndarray) -> np.ndarray:
        """`positions` of a kernel of zeros: every accumulator reaches a level, or none does."""
        return np.where(self._smallest(target) <= bias, -BEYOND, BEYOND)

    def fits(self, target: str, bias: np.ndarray) -> np.ndarray:
        """Whether no accumulator overflows in the target's kernel; bool ``[channels]``."""
        low = self.accumulators.least * self._code_multiplier + bias
        high = self.accumulators.most * self._code_multiplier + bias
        _, limit = self._rule(target)
        return np.maximum(-low, high) <= limit[self._chosen]

    def bias_interval(self, target: str, ideal_positions: np.ndarray) -> tuple[np.ndarray, ...]:
        """The least and largest bias that put every threshold where it was trained.

        Args:
          target: one of `export.kernel_sets.rules.TARGETS`.
          ideal_positions: `export.kernel_sets.ideal.thresholds` ``[levels, channels]``.

        Returns:
          int64 ``[channels]`` each; `-BEYOND` and `BEYOND` where nothing bounds it, and the first
          greater than the second where there is none.
        """
        smallest = self._smallest(target)
        off, on = self.accumulators.around(ideal_positions)
        low = np.where(on < BEYOND, smallest - self._code_multiplier * on, -BEYOND)
        high = np.where(off > -BEYOND, smallest - 1 - self._code_multiplier * off, BEYOND)
        return low.max(axis=0, initial=-BEYOND), high.min(axis=0, initial=BEYOND)


def fit(codes: np.ndarray, trained: np.ndarray, context: RequantizationContext) -> Channels:
    """Chooses the integers of trained channels.

    Where a bias is right under the rounding rules of all targets, one in the middle of all such is
    taken; else one that is right for as many as go together, `RequantizationContext.targets` in
    order.

    Args:
      codes: int ``[channels, taps]`` as trained, magnitudes up to 127.
      trained: `export.ir.provenance.TRAINED` ``[channels]``.
      context: where the channels compute.

    Raises:
      ValueError: if a channel's parameters are not finite.
    """
    ideal.check_finite(trained, context.source.scale)
    codes = codes.astype(np.int8) * ideal.signs(trained)
    code_multiplier = _code_multiplier(codes, context.dtype_bits)
    scale, bias, usable, exact = _known_fit(codes, trained, context, code_multiplier)
    return Channels(
        kernel=np.where(usable[:, None], codes * np.int8(code_multiplier), np.int8(0)),
        scale=scale,
        bias=bias,
        code_multiplier=code_multiplier,
        relu=context.target.low == 0,
        trained=trained,
        exact=dict(zip(TARGETS, exact, strict=True)),
    )


def _code_multiplier(codes: np.ndarray, dtype_bits: int) -> int:
    """The largest factor with which codes fit their storage and sums of them their accumulator."""
    limit = accumulator_limit(dtype_bits)
    widest = 255 * int(np.abs(codes).sum(axis=1, dtype=np.int64).max(initial=1))
    most = max(1, LARGEST[dtype_bits] // int(np.abs(codes).max(initial=1)))
    # Where they do not, half of it is left to the bias.
    return most if most * widest <= limit else max(1, limit // 2 // widest)


_KNOWN: collections.OrderedDict[tuple[Hashable, ...], tuple[np.ndarray, ...]] = (
    collections.OrderedDict()
)


def _known_fit(
    codes: np.ndarray, trained: np.ndarray, context: RequantizationContext, code_multiplier: int
) -> Iterator[np.ndarray]:
    """`_fit` of all channels, remembered for the `_MOST_KNOWN` operators that were last asked for.

    A model that is lowered again, to be verified say, has the same bytes, and so the same integers.
    """
    content = hashlib.blake2b(codes.tobytes())
    content.update(trained.tobytes())
    key = context, codes.shape, content.digest()
    if key not in _KNOWN:
        accumulators = AccumulatorRange(codes, context.source.low, context.source.high)
        parts = [
            _fit(accumulators.select(block), trained[block], context, code_multiplier)
            for block in blocks(context, len(codes))
        ]
        _KNOWN[key] = tuple(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
        if len(_KNOWN) > _MOST_KNOWN:
            _KNOWN.popitem(last=False)
    _KNOWN.move_to_end(key)
    return (array.copy() for array in _KNOWN[key])


def blocks(context: RequantizationContext, count: int) -> list[slice]:
    """Channels that are worked on together, such that a processor's cache holds their thresholds.

    Those of an operator that may have one scale are all together, and others by multiples of the
    vectors in which kernels round (`export.kernel_sets.requantization.VECTOR`).

    Args:
      context: where the channels compute.
      count: how many there are.
    """
    size = _AT_ONCE // max(1, context.levels.size) // VECTOR * VECTOR
    size = max(1, count) if context.operator in rules.ONE_SCALE else size
    return [slice(first, first + size) for first in range(0, max(1, count), size)]


def _fit(
    accumulators: AccumulatorRange,
    trained: np.ndarray,
    context: RequantizationContext,
    code_multiplier: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`fit` of some channels, from the accumulators that they can take.

    Returns:
      Their scales, biases, whether they keep their codes, and whether they are exact, ``[targets,
      channels]``.
    """
    slope, start = ideal.line(trained, context.source.scale)
    wanted = ideal.thresholds(trained, context.source.scale, context.target.scale, context.levels)
    scale = kernel_scale(slope, context, code_multiplier)
    steep = slope / context.target.scale >= context.target.high - context.target.low
    if not rules.is_per_tensor(context.operator, scale, context.dtype_bits):
        scale = np.where(steep, _steep_scale(context, code_multiplier, wanted), scale)
    constant_scale = np.float32(_CONSTANT_MULTIPLIER * context.target.scale / context.source.scale)
    # Channels that do not move the output, or by so little that no int32 bias reaches, are the
    # constant that they are at accumulator 0.
    usable = scale >= np.finfo(np.float32).tiny
    while True:
        scale = np.where(usable, scale, constant_scale)
        scale = _choose_scale(
            context, scale, code_multiplier, accumulators, np.where(usable, wanted, BEYOND)
        )
        rounding = Rounding(context, scale, code_multiplier, accumulators)
        real = start / context.target.scale / context.multipliers(scale, "reference")
        targets = rounding.different(context.targets)
        bias = _choose_bias(rounding, targets, wanted, real, code_multiplier)
        too_large = usable & (np.abs(bias) > accumulator_limit(context.dtype_bits) / 2)
        if not too_large.any():
            break
        usable &= ~too_large

    _, wanted = accumulators.around(wanted)
    constant = (wanted <= 0).sum(axis=0) + context.target.low
    is_constant = ((wanted <= accumulators.least) | (wanted == BEYOND)).all(axis=0)
    constant_bias = np.floor(constant / context.multipliers(scale, "reference") + 0.5)
    bias = np.where(usable, bias, constant_bias).astype(np.int32)
    found = {
        target: (rounding.positions(target, bias) == wanted).all(axis=0)
        & rounding.fits(target, bias)
        for target in rounding.different(TARGETS)
    }
    exact = {target: found[rounding.alike[target]] for target in TARGETS}
    if not context.delegated:  # The optimized kernels run it, on either machine.
        exact["xnnpack"] = exact["optimized"] & exact["optimized_arm"]
    exact_or_constant = [np.where(usable, exact[target], is_constant) for target in TARGETS]
    return scale, bias, usable, np.array(exact_or_constant)


def kernel_scale(
    slope: np.ndarray, context: RequantizationContext, code_multiplier: int
) -> np.ndarray:
    """The kernel scale of channels, or the largest that every kernel takes.

    Args:
      slope: from `export.kernel_sets.ideal.line`, ``[channels]``.
      context: where the channels compute.
      code_multiplier: the factor on the codes.

    Returns:
      float32 ``[channels]``.
    """
    steepest = _MOST_MULTIPLIER * context.target.scale / context.source.scale
    return np.minimum(slope / context.source.scale / code_multiplier, steepest).astype(np.float32)


def _steep_scale(
    context: RequantizationContext, code_multiplier: int, wanted: np.ndarray
) -> np.ndarray:
    """Kernel scales for channels that one step of the accumulator takes from end to end.

    At most one accumulator has a code between then, as where a channel was constant in training.
    Any scale serves at which a whole bias gives that code, and a code multiplier more or less an
    end.

    Args:
      context: where the channels compute.
      code_multiplier: the factor on the codes.
      wanted: `export.kernel_sets.ideal.thresholds` ``[levels, channels]``.

    Returns:
      float32 ``[channels]``.
    """
    code = context.target.low + (wanted <= wanted.min(axis=0)).sum(axis=0)
    needed = np.maximum(context.target.high - code, code - context.target.low) / code_multiplier
    bias = np.maximum(1, np.floor(np.abs(code) / needed))
    multiplier = np.where(code == 0, needed, np.abs(code) / bias)
    return (multiplier * context.target.scale / context.source.scale).astype(np.float32)


def moved_scale(scale: np.ndarray, ulps: int) -> np.ndarray:
    """Positive float32 scales moved by a number of float32 steps."""
    return (scale.view(np.int32) + ulps).view(np.float32)


def _choose_scale(
    context: RequantizationContext,
    scale: np.ndarray,
    code_multiplier: int,
    accumulators: AccumulatorRange,
    wanted: np.ndarray,
) -> np.ndarray:
    """Kernel scales, moved by a few float32 steps where the first target has a bias only then.

    XNNPACK multiplies in float32, with the product of three rounded scales. Dense layers with one
    scale keep one.
    """

    def solved(candidate: np.ndarray) -> np.ndarray:
        rounding = Rounding(context, candidate, code_multiplier, accumulators)
        least, most = rounding.bias_interval(context.targets[0], wanted)
        return least <= most

    best, done = scale, solved(scale)
    shared = rules.is_per_tensor(context.operator, scale, context.dtype_bits)
    for ulps in ULPS[1:]:
        if done.all():
            break
        moved = moved_scale(scale, ulps)
        found = solved(moved)
        if shared:
            best, done = (moved, found) if found.sum() > done.sum() else (best, done)
        else:
            best, done = np.where(found & ~done, moved, best), done | found
    return best


def _choose_bias(
    rounding: Rounding,
    targets: Sequence[str],
    wanted: np.ndarray,
    real: np.ndarray,
    code_multiplier: int,
) -> np.ndarray:
    """The bias of each channel, float64; `real` is what it is in real arithmetic."""
    low, high = np.full(real.shape, -BEYOND), np.full(real.shape, BEYOND)
    for target in targets:
        at_least, at_most = rounding.bias_interval(target, wanted)
        both = np.maximum(low, at_least), np.minimum(high, at_most)
        possible = both[0] <= both[1]
        low, high = np.where(possible, both[0], low), np.where(possible, both[1], high)
    bounded = (low > -BEYOND, high < BEYOND)
    middle = np.where(bounded[0] & bounded[1], (low + high) // 2, np.floor(real + 0.5))
    middle = np.where(bounded[0] & ~bounded[1], low + code_multiplier // 2, middle)
    return np.where(~bounded[0] & bounded[1], high - code_multiplier // 2, middle)
