"""Choosing scales, and how fast they are learned."""

from __future__ import annotations

import functools
import os
import statistics
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from wrpn_tf.arithmetic import numpy_twins

_NORMAL_POINTS = 4096
_CACHED = 1 << 17  # Values that a core works on at once, of which its cache holds some copies.


def lsq_gradient_scale(elements: int, levels: int) -> float:
    """``1 / sqrt(elements * levels)``: LSQ's gradient scale (arXiv 1902.08153, section 2.2).

    Args:
      elements: how many values share the scale (of one image, for activations).
      levels: the largest code.
    """
    return float(1.0 / np.sqrt(elements * levels))


def best_scale_np(x: np.ndarray, low: int, high: int, candidates: int = 64) -> np.float32:
    """The scale of least squared quantization error, by search over `candidates` clips.

    Args:
      x: float, any shape: what shares the scale.
      low: smallest code: 0 for activations, else -`high`.
      high: largest code, at least 1.
      candidates: how many clips to try, evenly spaced up to the largest magnitude.

    Returns:
      positive float32; `numpy_twins.SMALLEST_SCALE` or more, and 1 / `high` where `x` holds
      nothing to fit.
    """
    return best_scales_np(np.reshape(x, (1, -1)), low, high, candidates)[0]


def best_scales_np(rows: np.ndarray, low: int, high: int, candidates: int = 64) -> np.ndarray:
    """`best_scale_np` of each row, float32 ``[rows]``."""
    rows = np.asarray(rows, np.float32)
    if not rows.size:
        return np.full(len(rows), 1.0 / high, np.float32)
    together = max(1, _CACHED // rows.shape[1])
    parts = [rows[start : start + together] for start in range(0, len(rows), together)]
    search = functools.partial(_best_scales, low=low, high=high, candidates=candidates)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy's loops run without Python's lock.
        return np.concatenate(list(pool.map(search, parts)))


def _best_scales(rows: np.ndarray, low: int, high: int, candidates: int) -> np.ndarray:
    # The grid is symmetric, or what is below it is at 0 whatever the scale.
    magnitudes = np.abs(rows) if low else np.maximum(rows, 0)
    largest = magnitudes.max(axis=1)
    smallest = np.float32(numpy_twins.SMALLEST_SCALE)
    whole = magnitudes * (high / np.maximum(largest, smallest))[:, None]
    steps, codes = np.empty_like(whole), np.empty_like(whole)
    shares = np.arange(1, candidates + 1, dtype=np.float32)
    errors = np.empty((candidates, len(rows)), np.float32)
    for share, error in zip(shares, errors, strict=True):
        np.multiply(whole, candidates / share, out=steps)
        np.minimum(np.rint(steps, out=codes), high, out=codes)
        np.subtract(steps, codes, out=steps)
        np.multiply(np.einsum("ij,ij->i", steps, steps), np.square(share), out=error)
    best = largest * shares[np.argmin(errors, axis=0)] / candidates / high
    return np.where(largest > 0, np.maximum(best, smallest), np.float32(1.0 / high))


@functools.cache
def normal_factor(levels: int) -> np.float32:
    """The scale of least squared error for normally distributed values, over their mean magnitude.

    Args:
      levels: largest code of the symmetric grid.
    """
    inverse = statistics.NormalDist().inv_cdf
    points = np.array([inverse((i + 0.5) / _NORMAL_POINTS) for i in range(_NORMAL_POINTS)])
    best = best_scale_np(points, -levels, levels, candidates=512)
    return np.float32(best / np.abs(points).mean())


def dynamic_scale_np(weights: np.ndarray, levels: int, axes: tuple[int, ...] | None) -> np.ndarray:
    """NumPy twin of `dynamic_scale`."""
    mean = numpy_twins.mean_magnitude_np(weights, axes)
    return numpy_twins.positive_np(mean * normal_factor(levels))
