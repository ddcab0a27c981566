"""The names of what the parts of an operator write, where several come in its place."""

from __future__ import annotations

from collections.abc import Collection, Iterable


def check_part_names(names: Iterable[str], tensors: Collection[str], output: str) -> None:
    """Raises ValueError for a part that has the name of a tensor of the graph.

    Args:
      names: of the tensors that the parts write.
      tensors: names of those that there are.
      output: of the operator that the parts stand for.
    """
    for name in names:
        if name in tensors:
            raise ValueError(
                f"A part of the layer of tensor {output!r} would have the name of the layer of "
                f"tensor {name!r}: rename one of the two layers."
            )
