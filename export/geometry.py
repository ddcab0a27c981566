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


def transposed_size(size: int, window: int, stride: int, padding: str) -> int:
    """Length of one axis of a transposed convolution's output; `size` is its input's."""
    if padding == "SAME":
        return size * stride
    if padding == "VALID":
        return size * stride + max(window - stride, 0)
    raise ValueError(f"padding must be 'SAME' or 'VALID', not {padding!r}")


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
