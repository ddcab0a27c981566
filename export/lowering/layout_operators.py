"""Layers that move, select or average codes: their output is on their input's grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from export.ir.operators import (
    DepthToSpace,
    Pad,
    Pool2D,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    Slice,
    SpaceToDepth,
    Transpose,
)
from export.lowering.builder import GraphBuilder
from wrpn_tf import LayerView, class_name


def moved(builder: GraphBuilder, view: LayerView, source: str) -> str:
    """The output of a layer of kind PASS.

    Args:
      builder: receives the operator, if there is one.
      view: the layer.
      source: name of the tensor it reads.

    Returns:
      The name of its output, which is `source` where nothing happens in inference.
    """
    grid, shape = builder.tensors[source].quantization, builder.tensors[source].shape
    layer = view.layer
    match class_name(layer):
        case "MaxPooling2D":
            return pool(builder, "max", view, source)
        case "GlobalMaxPooling2D":
            window: dict[str, Any] = {"window": shape[1:3], "strides": shape[1:3]}
            image = (1, 1, 1, shape[-1])
            part = "" if layer.keepdims else "_window"
            source = builder.emit(Pool2D, [source], view, grid, image, part, kind="max", **window)
        case "ZeroPadding2D":
            return builder.emit(Pad, [source], view, grid, padding=layer.padding)
        case "LowestPadding2D":
            return builder.emit(Pad, [source], view, grid, padding=layer.padding, lowest=True)
        case "Cropping2D":
            begin = (layer.cropping[0][0], layer.cropping[1][0], 0)
            return builder.emit(Slice, [source], view, grid, begin=begin)
        case "UpSampling2D":
            return builder.emit(ResizeNearest, [source], view, grid)
        case "Permute":
            return _transposed(builder, view, source, (0, *layer.dims))
        case "DepthToSpace":
            return builder.emit(DepthToSpace, [source], view, grid, block_size=layer.block_size)
        case "SpaceToDepth":
            return builder.emit(SpaceToDepth, [source], view, grid, block_size=layer.block_size)
        case "Slice":
            source = _sliced(builder, view, source, layer.slices)
    if builder.tensors[source].shape[1:] == view.output_shape[1:]:
        return source
    return builder.emit(Reshape, [source], view, grid)


def _sliced(
    builder: GraphBuilder,
    view: LayerView,
    source: str,
    slices: Sequence[int | tuple[int | None, int | None, int | None]],
) -> str:
    """The part that slices as Python's select, with size 1 on an axis of which one index is."""
    sizes = builder.tensors[source].shape[1:]
    parts = [slice(i, i + 1 or None) if isinstance(i, int) else slice(*i) for i in slices]
    ranges = [range(size)[part] for part, size in zip(parts, sizes, strict=True)]
    if ranges == [range(size) for size in sizes]:
        return source
    keeps_axes = len(view.output_shape) == len(sizes) + 1
    return builder.emit(
        Slice,
        [source],
        view,
        builder.tensors[source].quantization,
        (1, *map(len, ranges)),
        "" if keeps_axes else "_part",
        begin=tuple(part.start for part in ranges),
        strides=tuple(part.step for part in ranges),
    )


def _transposed(builder: GraphBuilder, view: LayerView, source: str, axes: tuple[int, ...]) -> str:
    """The axes in another order; axes that stay side by side are one for the operator.

    The Edge TPU takes no more than four axes, and older kernels neither.
    """
    grid, sizes = builder.tensors[source].quantization, builder.tensors[source].shape
    runs = [[0]]  # The batch stays by itself.
    for axis in axes[1:]:
        if axis > 1 and runs[-1][-1] == axis - 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    if len(axes) <= 4 or len(runs) == len(axes):
        return builder.emit(Transpose, [source], view, grid, axes=axes)
    ordered = sorted(runs)
    shape = tuple(math.prod(sizes[axis] for axis in run) for run in ordered)
    order = tuple(ordered.index(run) for run in runs)
    layer = builder.layers[source]
    source = builder.emit(Reshape, [source], view, grid, shape, "_merged")
    builder.layers[source] = layer
    merged = tuple(shape[axis] for axis in order)
    source = builder.emit(Transpose, [source], view, grid, merged, "_transposed", axes=order)
    return builder.emit(Reshape, [source], view, grid)


def averaged(builder: GraphBuilder, view: LayerView, source: str) -> str:
    """The output of a layer of kind AVERAGE, whose input is on the grid of its output."""
    if class_name(view.layer) == "QuantizedUpSampling2D":
        return builder.emit(ResizeBilinear, [source], view, builder.tensors[source].quantization)
    return pool(builder, "average", view, source)


def pool(builder: GraphBuilder, kind: str, view: LayerView, source: str) -> str:
    """Pooling by 'max' or 'average' with the window of the layer."""
    layer = view.layer
    return builder.emit(
        Pool2D,
        [source],
        view,
        builder.tensors[source].quantization,
        kind=kind,
        window=tuple(layer.pool_size),
        strides=tuple(layer.strides),
        padding=layer.padding.upper(),
    )
