"""Choosing scales, and how fast they are learned."""

from __future__ import annotations

import numpy as np

from wrpn_tf import quantizers


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
      low: smallest code; 0 for activations.
      high: largest code, at least 1.
      candidates: how many clips to try, evenly spaced up to the largest magnitude.

    Returns:
      positive float32; `quantizers.SMALLEST_SCALE` or more, and 1 / `high` where `x` holds
      nothing to fit.
    """
    x = np.asarray(x, np.float32).ravel()
    largest = x.max(initial=0.0) if low == 0 else np.abs(x).max(initial=0.0)
    if not largest > 0:
        return np.float32(1.0 / high)
    scales = (largest * np.arange(1, candidates + 1, dtype=np.float32) / candidates) / high
    scales = np.maximum(scales, np.float32(quantizers.SMALLEST_SCALE))
    errors = [
        np.square(x - quantizers.fake_quantize_np(x, scale, low, high)).mean() for scale in scales
    ]
    return scales[int(np.argmin(errors))]
