"""Layers that move, select or average codes: their output is on their input's grid."""

from __future__ import annotations

from typing import Any

import tf_keras as keras

import wrpn_tf
from export.ir.operators import Pad, Pool2D, Reshape, ResizeBilinear, ResizeNearest, Slice
from export.lowering.builder import GraphBuilder
from wrpn_tf import LayerView


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
    match view.layer:
        case keras.layers.MaxPooling2D():
            return pool(builder, "max", view, source)
        case keras.layers.GlobalMaxPooling2D():
            window: dict[str, Any] = {"window": shape[1:3], "strides": shape[1:3]}
            image = (1, 1, 1, shape[-1])
            source = builder.emit(
                Pool2D, [source], view, grid, image, "_window", kind="max", **window
            )
        case keras.layers.ZeroPadding2D() as layer:
            return builder.emit(Pad, [source], view, grid, padding=layer.padding)
        case keras.layers.Cropping2D() as layer:
            begin = (layer.cropping[0][0], layer.cropping[1][0], 0)
            return builder.emit(Slice, [source], view, grid, begin=begin)
        case keras.layers.UpSampling2D():
            return builder.emit(ResizeNearest, [source], view, grid)
    if shape[1:] == view.output_shape[1:]:
        return source
    return builder.emit(Reshape, [source], view, grid)


def averaged(builder: GraphBuilder, view: LayerView, source: str) -> str:
    """The output of a layer of kind AVERAGE, whose input is on the grid of its output."""
    if isinstance(view.layer, wrpn_tf.QuantizedUpSampling2D):
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
