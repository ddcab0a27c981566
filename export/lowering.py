"""Lowering: a quantized Keras model becomes an integer graph.

Driven by demand: each layer is asked for its output on a grid, its own where it has one. A layer
without a grid of its own (a convolution whose ReLU carries the quantizer, the branches of a
concatenation) computes straight onto the grid that its reader names. Where a tensor is wanted on
another grid than its own, a 1x1 depthwise convolution moves it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tf_keras as keras

import wrpn_tf
from export import folding, storage
from export.builder import GraphBuilder
from export.folding import Affine
from export.graph import (
    Add,
    Concatenate,
    DepthwiseConv2D,
    IntegerGraph,
    Pad,
    Pool2D,
    Reshape,
    Softmax,
)
from wrpn_tf import Kind, LayerView, OutputGrid

_SOFTMAX_GRID = OutputGrid(scale=1 / 256, low=0, high=255, bits=8)
_FUSED_WITH_RELU = (Kind.KERNEL, Kind.AFFINE, Kind.ADD)


class LoweringError(ValueError):
    """The model has no integer form; the message names the layers and says why."""


def lower(
    model: keras.Model, metadata: Mapping[str, Any] | None = None, *, weights: str = "int8"
) -> IntegerGraph:
    """The integer graph of a quantized model.

    Batch normalization is folded exactly: the codes trained are the codes in the graph, times the
    stretch, negated where a channel's gain is negative and 0 where it is 0.

    Args:
      model: from `wrpn_tf.quantize_model(..., first_last='integer')`, calibrated or trained.
      metadata: for `IntegerGraph.metadata`: 'name', 'labels', 'description'. 'normalization' is set
        from the input's grid, 'keras_layers' maps tensors to the Keras layers whose output they
        are, and 'inexact_channels' counts by operator and by target (`export.kernels.TARGETS`)
        the channels whose integers do not give the trained code for every possible input;
        'trained_grids' holds each tensor's scale, smallest and largest code as trained.
      weights: how a .tflite file is to hold the codes, 'int8', 'int4' or 'int2': each kernel in the
        narrowest storage from there on that holds its codes (`export.storage`). The narrower, the
        smaller the stretch and the coarser the grid of the biases.

    Raises:
      LoweringError: if a layer is in float or has not seen data (all are named), or has no integer
        form.
    """
    views = {view.name: view for view in wrpn_tf.view(model)}
    _check_quantized(views)
    lowering = _Lowering(views, weights)
    inputs = [lowering.input(name) for name in model.input_names]
    for view in views.values():  # In execution order, so that no recursion goes deep.
        if view.grid is not None:
            lowering.produce(view.name, None)
    outputs = [lowering.produce(name, None) for name in model.output_names]
    built = lowering.builder
    grid = built.tensors[inputs[0]].grid
    pixels = {"mean": [float(grid.zero_point + 128)], "std": [1.0 / grid.scale]}
    facts = {
        "keras_layers": built.layers,
        "inexact_channels": built.inexact,
        "trained_grids": {name: list(grid) for name, grid in built.trained_grids.items()},
    }
    return IntegerGraph(
        tensors=built.tensors,
        operators=built.operators,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        metadata={"name": model.name, "normalization": pixels} | dict(metadata or {}) | facts,
    )


def _check_quantized(views: Mapping[str, LayerView]) -> None:
    """Raises LoweringError that names all layers in float or without data."""
    floats, unseen = [], []
    for view in views.values():
        if view.kind is None or (view.kind is Kind.KERNEL and view.kernel is None):
            floats.append(view.name)
        if view.observes and view.grid is None:
            unseen.append(view.name)
    if floats:
        raise LoweringError(
            f"Layers in float: {', '.join(floats)}. Quantize the model with "
            "wrpn_tf.quantize_model(model, first_last='integer') and at most 8 bits."
        )
    if unseen:
        raise LoweringError(
            f"Layers whose range has seen no data: {', '.join(unseen)}. Train the model or "
            "call wrpn_tf.calibrate."
        )


def _clipped(view: LayerView, grid: OutputGrid) -> OutputGrid:
    """The codes of `grid` that the layer's output can take: a ReLU's are not negative."""
    return dataclasses.replace(grid, low=max(grid.low, 0)) if view.kind is Kind.RELU else grid


class _Lowering:
    """Produces tensors on demand, each once."""

    def __init__(self, views: Mapping[str, LayerView], weights: str):
        storage.check_weights(weights)
        self._views = views
        self._weights = weights
        self._made: dict[tuple[str, OutputGrid | None], str] = {}
        self.builder = GraphBuilder()

    def input(self, name: str) -> str:
        """The tensor of a model input."""
        readers = [view for view in self._views.values() if view.inputs == (name,)]
        quantizer = next((view for view in readers if view.kind is Kind.INPUT), None)
        if quantizer is None or quantizer.grid is None:
            raise LoweringError(
                f"Input {name!r} is in float; quantize the model with first_last='integer'."
            )
        tensor = self.builder.tensor(name, quantizer.name, quantizer.output_shape, quantizer.grid)
        self._made[quantizer.name, None] = tensor
        return tensor

    def produce(self, name: str, grid: OutputGrid | None) -> str:
        """The tensor of a layer's output on `grid`; None: on its own."""
        if (name, grid) not in self._made:
            self._made[name, grid] = self._make(self._views[name], grid)
        return self._made[name, grid]

    def _make(self, view: LayerView, grid: OutputGrid | None) -> str:
        if view.grid is not None and grid is not None and view.grid != grid:
            return self._move(self.produce(view.name, None), view, grid)
        if view.kind is Kind.PASS:
            return self._pass(view, grid)
        if view.kind is Kind.SOFTMAX:
            source = self.produce(view.inputs[0], None)
            return self.builder.emit(Softmax, [source], view, _SOFTMAX_GRID)
        grid = grid or view.grid
        if grid is None:
            raise LoweringError(
                f"The output of {view.name!r} is in float: it was quantized with 32 activation "
                "bits or first_last='paper'."
            )
        try:
            return self._compute(view, grid)
        except LoweringError:
            raise
        except ValueError as error:
            raise LoweringError(f"Layer {view.name!r}: {error}.") from error

    def _compute(self, view: LayerView, grid: OutputGrid) -> str:
        """The operator behind a layer, or behind the chain of layers that ends in it.

        A k-bit grid starts at 0: its quantizer clips there, so a ReLU before it adds nothing.
        """
        body = view
        if view.kind is Kind.RELU:
            body = self._views[view.inputs[0]]
            if body.grid is not None or body.kind not in _FUSED_WITH_RELU:
                return self._move(self.produce(body.name, None), view, grid)
        match body.kind:
            case Kind.KERNEL:
                affine = folding.own_bias(body.layer, self._channels(body))
                return self._weighted(body, view, grid, affine)
            case Kind.AFFINE:
                inner = self._views[body.inputs[0]]
                if inner.kind is Kind.KERNEL and inner.grid is None:
                    affine = folding.batch_normalization(body.layer, inner.layer)
                    return self._weighted(inner, view, grid, affine)
                affine = folding.batch_normalization(body.layer)
                return self._affine(self.produce(inner.name, None), view, grid, affine)
            case Kind.ADD:
                sources = [self.produce(name, None) for name in body.inputs]
                relu = _clipped(view, grid).low == 0
                return self.builder.emit(Add, sources, view, grid, relu=relu)
            case Kind.CONCATENATE:
                sources = [self.produce(name, grid) for name in body.inputs]
                axis = int(body.layer.axis) % len(view.output_shape)
                return self.builder.emit(Concatenate, sources, view, grid, axis=axis)
            case Kind.AVERAGE:
                source = self.produce(body.inputs[0], grid)
                return self._pool("average", source, view, grid)
        raise LoweringError(f"Layer {view.name!r} ({view.kind}) has no integer form.")

    def _pool(self, kind: str, source: str, view: LayerView, grid: OutputGrid) -> str:
        layer = view.layer
        return self.builder.emit(
            Pool2D,
            [source],
            view,
            grid,
            kind=kind,
            window=tuple(layer.pool_size),
            strides=tuple(layer.strides),
            padding=layer.padding.upper(),
        )

    def _pass(self, view: LayerView, grid: OutputGrid | None) -> str:
        """Layers that move or select codes: their output is on their input's grid."""
        source = self.produce(view.inputs[0], grid)
        grid = self.builder.grids[source]
        shape = self.builder.tensors[source].shape
        match view.layer:
            case keras.layers.MaxPooling2D():
                return self._pool("max", source, view, grid)
            case keras.layers.GlobalMaxPooling2D():
                window = {"window": shape[1:3], "strides": shape[1:3]}
                image = (1, 1, 1, shape[-1])
                source = self.builder.emit(
                    Pool2D, [source], view, grid, image, kind="max", **window
                )
            case keras.layers.ZeroPadding2D() as layer:
                return self.builder.emit(Pad, [source], view, grid, padding=layer.padding)
        if self.builder.tensors[source].shape[1:] == view.output_shape[1:]:
            return source
        return self.builder.emit(Reshape, [source], view, grid)

    def _weighted(self, body: LayerView, view: LayerView, grid: OutputGrid, affine: Affine) -> str:
        """A convolution or dense layer, and the batch normalization after it, if any."""
        assert body.kernel is not None
        source = self.produce(body.inputs[0], None)
        operator, fitted, fields = folding.fit_kernel(
            body,
            body.kernel,
            affine,
            self.builder.grids[source],
            _clipped(view, grid),
            self._weights,
        )
        return self.builder.emit_weighted(operator, source, view, grid, fitted, **fields)

    def _move(self, source: str, view: LayerView, grid: OutputGrid) -> str:
        """The same values on another grid."""
        return self._affine(source, view, grid, folding.identity(self._channels(view)))

    def _affine(self, source: str, view: LayerView, grid: OutputGrid, affine: Affine) -> str:
        """A gain and an offset for each channel: a 1x1 depthwise convolution with codes of 1."""
        count = len(affine.gain)
        origin = self.builder.grids[source]
        fitted = folding.fit(
            DepthwiseConv2D,
            np.ones((count, 1), np.int64),
            np.ones(count, np.float32),
            affine,
            origin,
            _clipped(view, grid),
        )
        image = view.output_shape if len(view.output_shape) == 4 else (1, 1, 1, count)
        if image is not view.output_shape:  # DEPTHWISE_CONV_2D takes images only.
            layer = self.builder.layers[source]
            source = self.builder.emit(Reshape, [source], view, origin, image)
            self.builder.layers[source] = layer
        kernel = np.ascontiguousarray(fitted.kernel.T).reshape(1, 1, 1, count)
        output = self.builder.emit_weighted(
            DepthwiseConv2D, source, view, grid, fitted, shape=image, kernel=kernel, bits=1
        )
        if image is view.output_shape:
            return output
        return self.builder.emit(Reshape, [output], view, grid)

    @staticmethod
    def _channels(view: LayerView) -> int:
        return int(view.output_shape[-1] or 0)
