"""What was proven of an integer graph, operator by operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

from export.kernel_sets.rules import TARGETS


@dataclasses.dataclass(frozen=True, kw_only=True)
class OperatorProof:
    """One operator against its training, for every possible input.

    Attributes:
      name: its output tensor.
      kind: its class.
      cases: what was compared one by one: output channels (each over all its accumulators), code
        pairs of a residual sum, window sums of an average. 0 where codes are only copied.
      weight_bits: bits of its weights, or None.
      output_bits: bits of its output.
      different: by target, how many cases give another code than the training for some input.
      worst: by target, the largest difference in codes.
      channels: by target, which output channels are not proven.
      problems: sentences about what is not as trained: codes, grids. None of it is proven then.
      covered: whether the proof says anything about the operator; a softmax is an approximation in
        every kernel.
    """

    name: str
    kind: str
    cases: int = 0
    weight_bits: int | None = None
    output_bits: int = 8
    different: dict[str, int] = dataclasses.field(default_factory=dict)
    worst: dict[str, int] = dataclasses.field(default_factory=dict)
    channels: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    problems: tuple[str, ...] = ()
    covered: bool = True

    def proven(self, targets: Iterable[str] = TARGETS) -> bool:
        """Whether all codes are the trained ones with the given targets."""
        return self.covered and not self.problems and not any(map(self.different.get, targets))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proof:
    """A whole graph against its training.

    Attributes:
      operators: in execution order; graph inputs come first.
    """

    operators: tuple[OperatorProof, ...]

    def weighted(self, bits: Collection[int]) -> list[OperatorProof]:
        """The operators with weights of the given bit-widths."""
        return [row for row in self.operators if row.weight_bits and row.weight_bits in bits]

    def share(self, targets: Sequence[str], bits: Collection[int]) -> tuple[int, int]:
        """How many channels with weights of some bit-widths are proven with all of the targets.

        Returns:
          Proven channels, and all channels.
        """
        proven = total = 0
        for row in self.weighted(bits):
            unproven = {channel for target in targets for channel in row.channels[target]}
            proven += 0 if row.problems else row.cases - len(unproven)
            total += row.cases
        return proven, total

    def failures(self, targets: Sequence[str]) -> list[str]:
        """What speaks against the file, one sentence each.

        Every problem counts, every channel with weights of fewer than 8 bits that is not proven
        with all of the targets, and what has no weights and is off by more than one code.
        """
        found = [f"{row.name}: {problem}" for row in self.operators for problem in row.problems]
        for row in self.operators:
            for target in targets:
                if row.weight_bits is None and not row.problems and row.worst.get(target, 0) > 1:
                    found.append(
                        f"{row.name}: {row.different[target]:,} of {row.cases:,} cases differ from "
                        f"the training ({target}), by up to {row.worst[target]}."
                    )
        for row in self.weighted(range(1, 8)):
            for target in targets:
                if not row.problems and row.channels[target]:
                    found.append(
                        f"{row.name}: channels {_list(row.channels[target])} can differ from the "
                        f"training ({target}), by up to {row.worst[target]}."
                    )
        return found


def _list(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"{shown}, ... ({len(numbers)} in all)" if len(numbers) > 8 else shown
