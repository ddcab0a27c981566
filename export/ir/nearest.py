"""RESIZE_NEAREST_NEIGHBOR by whole factors: which input row each kernel copies to an output row.

It has two forms. Without half-pixel centers, output row y is to have input row ``y // factor``.
The reference kernels (TFLite kernels/internal/reference/resize_nearest_neighbor.h) multiply y by a
float32 of ``1 / factor``, which falls short where that was rounded down: with 41, 47, 55, 61 and
other factors the first row of each input row but the first is the one before. The optimized
kernels (kernels/internal/optimized/optimized_ops.h) multiply by ``1 / factor`` in 16-bit fixed
point, rounded up, which goes too far where ``factor * size`` is large: with a factor of 32 from 66
rows on, of 62 from 19 rows on. With half-pixel centers all kernels compute
``floor((y + 0.5) * float32(1 / factor))``, which stays half an output row away from either side.
"""

from __future__ import annotations

import functools

import numpy as np

LIMIT = 2**22
"""Output rows from which on half-pixel centers are not proven to be exact: the product's relative
error of 2^-23 is below half a row of `factor` up to there."""

_FIXED_POINT = 16


def from_float(size: int, factor: int, *, half_pixel_centers: bool) -> np.ndarray:
    """The input row of each output row as the reference kernels compute it, int64 ``[rows]``.

    Args:
      size: rows of the input.
      factor: output rows for each of them.
      half_pixel_centers: the form.
    """
    scale = np.float32(size) / np.float32(size * factor)
    rows = np.arange(size * factor, dtype=np.float32)
    if half_pixel_centers:
        rows += np.float32(0.5)
    return np.minimum(np.floor(rows * scale), size - 1).astype(np.int64)


def from_fixed_point(size: int, factor: int) -> np.ndarray:
    """The same as the optimized kernels compute it without half-pixel centers, in int32."""
    scale = np.int32((size << _FIXED_POINT) // (size * factor) + 1)
    with np.errstate(over="ignore"):
        places = np.arange(size * factor, dtype=np.int32) * scale
    return np.minimum(places >> _FIXED_POINT, size - 1).astype(np.int64)


@functools.lru_cache(maxsize=256)
def needs_half_pixel_centers(size: int, factor: int) -> bool:
    """Whether some kernel copies a wrong row in the form without half-pixel centers.

    Args:
      size: rows of the input.
      factor: output rows for each of them.

    Raises:
      ValueError: there are `LIMIT` output rows or more.
    """
    if size * factor >= LIMIT:
        raise ValueError(f"{size} rows times {factor}: kernels are exact below {LIMIT} rows")
    wanted = np.arange(size * factor) // factor
    found = from_float(size, factor, half_pixel_centers=False), from_fixed_point(size, factor)
    return any(not np.array_equal(rows, wanted) for rows in found)
