"""Window arithmetic of convolutions and pools, as in TFLite's kernels/padding.h."""

from __future__ import annotations

import numpy as np


def output_size(size: int, window: int, stride: int, dilation: int, padding: str) -> int:
    """Number of window positions along one axis; not positive where the window does not fit."""
    if padding == "SAME":
        return -(-size // stride)
    if padding == "VALID":
        return (size - (window - 1) * dilation - 1) // stride + 1
    raise ValueError(f"padding must be 'SAME' or 'VALID', not {padding!r}")


def pad_amounts(
    size: int, window: int, stride: int, dilation: int, padding: str
) -> tuple[int, int]:
    """Elements added (before, after) along one axis; SAME puts the odd one after."""
    positions = output_size(size, window, stride, dilation, padding)
    if padding == "VALID":
        return 0, 0
    total = max((positions - 1) * stride + (window - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def window_counts(size: int, window: int, stride: int, padding: str) -> np.ndarray:
    """How many elements windows hold along one axis, without padding: each number that occurs.

    Returns:
      int64, sorted.
    """
    positions = output_size(size, window, stride, 1, padding)
    before, _ = pad_amounts(size, window, stride, 1, padding)
    ends = min(positions, window // stride + 2)  # Between them windows are whole.
    first = np.arange(ends, dtype=np.int64)
    starts = np.concatenate([first, positions - 1 - first]) * stride - before
    return np.unique(np.minimum(starts + window, size) - np.maximum(starts, 0))


def transposed_size(size: int, window: int, stride: int, padding: str) -> int:
    """Length of one axis of a transposed convolution's output; `size` is its input's."""
    if padding == "SAME":
        return size * stride
    if padding == "VALID":
        return size * stride + max(window - stride, 0)
    raise ValueError(f"padding must be 'SAME' or 'VALID', not {padding!r}")


def bilinear(codes: np.ndarray, factors: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Bilinear interpolation between the centers of pixels; beyond the outermost, their values.

    Args:
      codes: integers ``[batch, height, width, channels]``.
      factors: by which height and width grow.

    Returns:
      int64 ``[batch, height * factor, width * factor, channels]``, and by what to divide it.
    """
    total: np.ndarray = codes.astype(np.int64)
    for axis, factor in zip((1, 2), factors, strict=True):
        size = total.shape[axis]
        # In units of 1 / (2 * factor) of an input pixel.
        place = 2 * np.arange(size * factor) + 1 - factor
        before, share = np.divmod(place, 2 * factor)
        share = share.reshape(-1, *(1,) * (3 - axis))
        one, other = (np.clip(index, 0, size - 1) for index in (before, before + 1))
        total = total.take(one, axis) * (2 * factor - share) + total.take(other, axis) * share
    return total, 4 * factors[0] * factors[1]


def windows(
    values: np.ndarray,
    window: tuple[int, int],
    strides: tuple[int, int],
    dilation: tuple[int, int],
    padding: str,
    fill: int,
) -> np.ndarray:
    """A view of every window, ``[batch, out_height, out_width, channels, height, width]``.

    Args:
      values: ``[batch, height, width, channels]``.
      window: height and width of the window.
      strides: vertical and horizontal step.
      dilation: vertical and horizontal distance between taps.
      padding: 'SAME' or 'VALID'.
      fill: value of the padded elements.
    """
    amounts = [
        pad_amounts(values.shape[axis + 1], window[axis], strides[axis], dilation[axis], padding)
        for axis in (0, 1)
    ]
    if any(amount != (0, 0) for amount in amounts):
        values = np.pad(values, ((0, 0), *amounts, (0, 0)), constant_values=fill)
    spans = tuple((window[axis] - 1) * dilation[axis] + 1 for axis in (0, 1))
    view: np.ndarray = np.lib.stride_tricks.sliding_window_view(
        values,
        spans,
        axis=(1, 2),  # type: ignore[call-overload]
    )
    return view[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]
