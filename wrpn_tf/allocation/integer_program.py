"""Bit allocation as an integer program: one option for each decision, of least distortion in all.

Pure functions over numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp


def allocate(
    distortions: Sequence[Sequence[float]],
    uses: Mapping[str, Sequence[Sequence[int]]],
    limits: Mapping[str, int],
) -> list[int] | None:
    """The options whose sum of distortions is least, of those whose sums of uses keep all limits.

    A multiple-choice knapsack problem, solved by `scipy.optimize.milp` and checked in exact
    integers. Of equal sums any may be returned.

    Args:
      distortions: of each decision, of each of its options; not negative.
      uses: by resource, what each option of each decision takes of it, not negative.
      limits: by resource, the most that all take together.

    Returns:
      The position of the chosen option of each decision; None where no choice keeps the limits.
    """
    sizes = [len(row) for row in distortions]
    starts = np.cumsum([0, *sizes[:-1]])
    objective = np.concatenate([np.asarray(row, np.float64) for row in distortions])
    one_each = np.repeat(np.eye(len(sizes)), sizes, axis=1)
    rows = [LinearConstraint(one_each, 1, 1)]
    for name, limit in limits.items():
        taken = np.concatenate([np.asarray(row, np.float64) for row in uses[name]])
        rows.append(LinearConstraint(taken[None] / max(limit, 1), -np.inf, min(limit, 1)))
    scale, open_options = np.max(objective), np.ones_like(objective)
    while True:
        solution = milp(
            objective / (scale or 1.0),
            integrality=np.ones_like(objective),
            bounds=Bounds(0, open_options),
            constraints=rows,
            options={"mip_rel_gap": 0.0},
        )
        if solution.x is None:
            return None
        parts = np.split(solution.x, starts[1:])
        found = [int(np.argmax(part)) for part in parts]
        total = np.sum(objective[starts + found])
        if not all(
            sum(row[at] for row, at in zip(uses[name], found, strict=True)) <= limit
            for name, limit in limits.items()
        ):
            # HiGHS lets a row be exceeded by a part in a million: this choice alone is forbidden.
            chosen = np.zeros_like(objective)
            chosen[starts + found] = 1
            rows.append(LinearConstraint(chosen[None], -np.inf, len(sizes) - 1))
        elif 0 < total <= scale / 2:
            # HiGHS ends within a millionth of the scale: again, without what is dearer by itself.
            scale, open_options = total, (objective <= total).astype(np.float64)
        else:
            return found
