"""Quantization in NumPy: the twin of every quantizer, and the oracle of its values.

Each function gives, bit for bit, the float32 numbers of the function of its name without ``_np`` in
`wrpn_tf.arithmetic.quantizers` and `wrpn_tf.arithmetic.related_work` (TensorFlow) and in
`wrpn_tf.arithmetic.portable` (`keras.ops`). It needs no Keras, and export uses nothing else.
"""

from __future__ import annotations

import numpy as np

from wrpn_tf.arithmetic.bits import OFF, activation_levels, check_bits, weight_levels

SMALLEST_SCALE = 2.0**-24
"""Learned scales are used as ``max(abs(scale), SMALLEST_SCALE)``: they stay positive."""

HAIR = 2.0**-10
"""Where two codes are as near as each other, this much of a step decides, and not float32."""


def round_half_up_np(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """NumPy twin of `round_half_up`; `out` may be `x` itself."""
    return np.floor(np.add(x, np.asarray(0.5, x.dtype), out=out), out=out)


def positive_np(scale: np.ndarray) -> np.ndarray:
    """NumPy twin of `positive`."""
    return np.maximum(np.abs(scale), np.float32(SMALLEST_SCALE))


def fake_quantize_np(
    x: np.ndarray, scale: np.ndarray | float, low: float, high: float
) -> np.ndarray:
    """NumPy twin of `fake_quantize` (values only)."""
    codes = _clipped_steps(x, scale, low, high)
    return np.multiply(codes, np.asarray(scale, np.float32), out=codes)


def quantize_codes_np(
    x: np.ndarray, scale: np.ndarray | float, low: float, high: float
) -> np.ndarray:
    """The integers behind `fake_quantize`: ``clip(round_half_up(x / scale), low, high)``, int32."""
    return _clipped_steps(x, scale, low, high).astype(np.int32)


def _clipped_steps(x: np.ndarray, scale: np.ndarray | float, low: float, high: float) -> np.ndarray:
    """The codes as float32, in one new array: the search for scales spends its time here."""
    steps = np.asarray(np.asarray(x, np.float32) / np.asarray(scale, np.float32))
    round_half_up_np(steps, out=steps)
    return np.clip(steps, np.float32(low), np.float32(high), out=steps)


def binarize_np(weights: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    """NumPy twin of `binarize` (values only)."""
    return binary_codes_np(weights).astype(np.float32) * np.asarray(scale, np.float32)


def binary_codes_np(weights: np.ndarray) -> np.ndarray:
    """The integers behind `binarize`: -1 or 1, int32."""
    return np.where(np.asarray(weights) >= 0, 1, -1).astype(np.int32)


def mean_magnitude_np(weights: np.ndarray, axes: tuple[int, ...] | None = None) -> np.ndarray:
    """NumPy twin of `mean_magnitude`."""
    total = np.abs(weights).sum(axis=axes, keepdims=True, dtype=np.float64)
    return positive_np((total / (weights.size // total.size)).astype(np.float32))


def wrpn_weights_np(
    weights: np.ndarray, bits: int, axes: tuple[int, ...] | None = None
) -> np.ndarray:
    """NumPy twin of `wrpn_weights`."""
    if check_bits(bits, "weight bits") == OFF:
        return weights
    if bits == 1:
        return binarize_np(weights, mean_magnitude_np(weights, axes))
    levels = weight_levels(bits)
    return fake_quantize_np(weights, 1.0 / levels, -levels, levels)


def wrpn_activations_np(x: np.ndarray, bits: int) -> np.ndarray:
    """NumPy twin of `wrpn_activations`."""
    if check_bits(bits, "activation bits") == OFF:
        return x
    levels = activation_levels(bits)
    return fake_quantize_np(x, 1.0 / levels, 0, levels)


def affine_grid_np(minimum: float, maximum: float) -> tuple[np.float32, int]:
    """NumPy twin of `affine_grid`; the zero point is an int."""
    minimum = np.minimum(np.float32(minimum), np.float32(0))
    maximum = np.maximum(np.float32(maximum), np.float32(0))
    symmetric = -minimum == maximum > 0
    steps = np.float32(254 if symmetric else 255)
    scale = np.maximum((maximum - minimum) / steps, np.float32(SMALLEST_SCALE))
    return scale, 0 if symmetric else int(round_half_up_np(np.float32(-128) - minimum / scale))


def pixel_grid_np(minimum: float, maximum: float) -> tuple[np.float32, int, np.float32]:
    """NumPy twin of `pixel_grid`; the zero point is an int."""
    least = np.float32(minimum)
    scale = (np.float32(maximum) - least) / np.float32(255)
    lowest = np.floor(least / scale + np.float32(0.5 + HAIR))
    return scale, int(-128 - lowest), (lowest * scale - least) * np.float32(0.5)


def dorefa_codes_np(weights: np.ndarray, bits: int) -> np.ndarray:
    """NumPy twin of `dorefa_weights`: its integers, int32; they have the scale 1 / (2^k - 1)."""
    levels = activation_levels(bits)
    normal = np.tanh(weights.astype(np.float64))
    largest = max(np.abs(normal).max(), SMALLEST_SCALE)
    unit = (normal / (2.0 * largest) + 0.5).astype(np.float32)
    return 2 * round_half_up_np(unit * np.float32(levels)).astype(np.int32) - levels


def pact_np(x: np.ndarray, clip: float, levels: int) -> np.ndarray:
    """NumPy twin of `pact`."""
    scale = np.asarray(clip, np.float32) / np.float32(levels)
    return fake_quantize_np(x, scale, 0, levels)
