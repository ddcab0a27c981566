"""Lowering: a quantized Keras model becomes an integer graph.

Driven from the outputs: each layer is asked for its output on a grid, its own where it has one.
A layer without a grid of its own (a convolution whose ReLU carries the quantizer, the branches of a
concatenation) computes straight onto the grid that its reader names. Where a tensor is wanted on
another grid than its own, a 1x1 depthwise convolution moves it, exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tf_keras as keras

import wrpn_tf
from export import channels
from export.graph import (
    Add,
    Concatenate,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Grid,
    IntegerGraph,
    Operator,
    Pad,
    Pool2D,
    Reshape,
    Softmax,
    Tensor,
    Weighted,
)
from wrpn_tf import Kind, LayerView, OutputGrid

_SOFTMAX_GRID = OutputGrid(scale=1 / 256, low=0, high=255, bits=8)


class LoweringError(ValueError):
    """The model has no integer form; the message names the layers and says why."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """What is left to apply to a kernel's accumulator, per output channel, in float64.

    ``real = gain * accumulator * kernel_scale * input_scale + offset``
    """

    gain: np.ndarray
    offset: np.ndarray

    def then(self, gain: np.ndarray, offset: np.ndarray) -> Affine:
        """This followed by ``gain * real + offset``."""
        return Affine(gain=gain * self.gain, offset=gain * self.offset + offset)


def lower(model: keras.Model, metadata: Mapping[str, Any] | None = None) -> IntegerGraph:
    """The integer graph of a quantized model.

    Batch normalization is folded exactly: the codes trained are the codes in the graph, times the
    stretch, negated where a channel's gain is negative and 0 where it is 0.

    Args:
      model: from `wrpn_tf.quantize_model(..., first_last='integer')`, calibrated or trained.
      metadata: for `IntegerGraph.metadata`: 'name', 'labels', 'description'. 'normalization' is set
        from the input's grid, 'keras_layers' maps tensors to the Keras layers whose output they
        are, and 'inexact_channels' counts by operator the channels for which no bias reproduces
        every trained code.

    Raises:
      LoweringError: if a layer is in float or has not seen data (all are named), or has no integer
        form.
    """
    return _Lowering(wrpn_tf.view(model), dict(metadata or {})).run(model)


class _Lowering:
    def __init__(self, views: list[LayerView], metadata: dict[str, Any]):
        self._views = {view.name: view for view in views}
        self._metadata = metadata
        self._tensors: dict[str, Tensor] = {}
        self._grids: dict[str, OutputGrid] = {}
        self._operators: list[Operator] = []
        self._made: dict[tuple[str, OutputGrid | None], str] = {}
        self._layers: dict[str, str] = {}
        self._inexact: dict[str, int] = {}

    def run(self, model: keras.Model) -> IntegerGraph:
        self._check()
        inputs = [self._input(name) for name in model.input_names]
        for view in self._views.values():  # In execution order, so that no recursion goes deep.
            if view.grid is not None:
                self._produce(view.name, None)
        outputs = [self._produce(name, None) for name in model.output_names]
        metadata = {"name": model.name, "normalization": self._normalization(inputs[0])}
        metadata |= self._metadata
        metadata |= {"keras_layers": self._layers, "inexact_channels": self._inexact}
        return IntegerGraph(
            tensors=self._tensors,
            operators=self._operators,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            metadata=metadata,
        )

    def _check(self) -> None:
        floats, unseen = [], []
        for view in self._views.values():
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

    def _normalization(self, tensor: str) -> dict[str, list[float]]:
        """Mean and deviation, in pixel values 0 to 255, that give the model's real inputs."""
        grid = self._tensors[tensor].grid
        return {"mean": [float(grid.zero_point + 128)], "std": [1.0 / grid.scale]}

    # Tensors

    def _add(self, name: str, layer: str, shape, grid: OutputGrid) -> str:
        unique, count = name, 1
        while unique in self._tensors:
            count += 1
            unique = f"{name}_{count}"
        self._tensors[unique] = Tensor(
            shape=(1, *(int(size) for size in shape[1:])),
            grid=Grid(scale=grid.scale, zero_point=grid.zero_point),
            bits=grid.bits,
        )
        self._grids[unique] = grid
        self._layers[unique] = layer
        return unique

    def _emit(
        self, operator: type[Operator], inputs, view: LayerView, shape, grid, **fields
    ) -> str:
        output = self._add(view.name.removeprefix("quant_"), view.name, shape, grid)
        self._operators.append(operator(inputs=tuple(inputs), output=output, **fields))
        return output

    def _input(self, name: str) -> str:
        readers = [view for view in self._views.values() if view.inputs == (name,)]
        quantizer = next((view for view in readers if view.kind is Kind.INPUT), None)
        if quantizer is None:
            raise LoweringError(
                f"Input {name!r} is in float; quantize the model with first_last='integer'."
            )
        tensor = self._add(name, quantizer.name, quantizer.output_shape, quantizer.grid)
        self._made[quantizer.name, None] = tensor
        return tensor

    def _produce(self, name: str, grid: OutputGrid | None) -> str:
        """The tensor of a layer's output on `grid`; None: on its own."""
        if (name, grid) not in self._made:
            self._made[name, grid] = self._make(self._views[name], grid)
        return self._made[name, grid]

    def _make(self, view: LayerView, grid: OutputGrid | None) -> str:
        own = view.grid
        if own is not None and grid is not None and own != grid:
            return self._move(self._produce(view.name, None), view, grid)
        if view.kind is Kind.PASS:
            return self._pass(view, grid)
        if view.kind is Kind.SOFTMAX:
            source = self._produce(view.inputs[0], None)
            return self._emit(Softmax, [source], view, view.output_shape, _SOFTMAX_GRID)
        grid = grid or own
        if grid is None:
            raise LoweringError(
                f"The output of {view.name!r} is in float: it was quantized with 32 activation "
                "bits or first_last='paper'."
            )
        return self._compute(view, grid)

    def _move(self, tensor: str, view: LayerView, grid: OutputGrid) -> str:
        """The same values on another grid."""
        count = self._tensors[tensor].shape[-1]
        return self._depthwise_affine(
            tensor, view, view.output_shape, grid, np.ones(count), np.zeros(count)
        )

    # Layers

    def _compute(self, view: LayerView, grid: OutputGrid) -> str:
        shape = view.output_shape
        body = view
        if view.kind is Kind.RELU:
            body = self._views[view.inputs[0]]
            if body.grid is not None or body.kind not in (Kind.KERNEL, Kind.AFFINE, Kind.ADD):
                return self._move(self._produce(body.name, None), view, grid)
        # A grid that starts at 0 clips there: the quantizer itself is a ReLU.
        relu = grid.low == 0
        match body.kind:
            case Kind.KERNEL:
                return self._weighted(body, _bias(body), view, grid)
            case Kind.AFFINE:
                gain, offset = _batch_normalization(body)
                inner = self._views[body.inputs[0]]
                if inner.kind is Kind.KERNEL and inner.grid is None:
                    return self._weighted(inner, _bias(inner).then(gain, offset), view, grid)
                source = self._produce(inner.name, None)
                return self._depthwise_affine(source, view, shape, grid, gain, offset)
            case Kind.ADD:
                sources = [self._produce(name, None) for name in body.inputs]
                return self._emit(Add, sources, view, shape, grid, relu=relu)
            case Kind.CONCATENATE:
                sources = [self._produce(name, grid) for name in body.inputs]
                axis = int(body.layer.axis) % len(shape)
                return self._emit(Concatenate, sources, view, shape, grid, axis=axis)
            case Kind.AVERAGE:
                source = self._produce(body.inputs[0], grid)
                return self._pool("average", source, view, grid)
        raise LoweringError(f"Layer {view.name!r} ({view.kind}) has no integer form.")

    def _pool(self, kind: str, source: str, view: LayerView, grid: OutputGrid) -> str:
        layer = view.layer
        return self._emit(
            Pool2D,
            [source],
            view,
            view.output_shape,
            grid,
            kind=kind,
            window=tuple(layer.pool_size),
            strides=tuple(layer.strides),
            padding=layer.padding.upper(),
        )

    def _pass(self, view: LayerView, grid: OutputGrid | None) -> str:
        source = self._produce(view.inputs[0], grid)
        grid = self._grids[source]
        shape, layer = view.output_shape, view.layer
        match layer:
            case keras.layers.MaxPooling2D():
                return self._pool("max", source, view, grid)
            case keras.layers.GlobalMaxPooling2D():
                window = self._tensors[source].shape[1:3]
                pooled = self._emit(
                    Pool2D,
                    [source],
                    view,
                    (1, 1, 1, shape[-1]),
                    grid,
                    kind="max",
                    window=window,
                    strides=window,
                )
                return self._emit(Reshape, [pooled], view, shape, grid)
            case keras.layers.ZeroPadding2D():
                return self._emit(Pad, [source], view, shape, grid, padding=layer.padding)
        if self._tensors[source].shape[1:] == tuple(shape[1:]):
            return source
        return self._emit(Reshape, [source], view, shape, grid)

    # Weights

    def _weighted(self, body: LayerView, affine: Affine, view: LayerView, grid: OutputGrid) -> str:
        layer, kernel = body.layer, body.kernel
        assert kernel is not None
        source = self._produce(body.inputs[0], None)
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        shape = kernel.codes.shape
        taps = int(np.prod(shape[:2])) if depthwise else int(np.prod(shape[:-1]))
        codes = kernel.codes.reshape(taps, -1).T
        scale = np.broadcast_to(kernel.scale, shape).reshape(taps, -1)[0]
        fitted = self._fit(codes, scale, affine, source, view, grid)
        fields: dict[str, Any] = {}
        if not isinstance(layer, keras.layers.Dense):
            fields = {
                "strides": tuple(layer.strides),
                "dilation": tuple(layer.dilation_rate),
                "padding": layer.padding.upper(),
            }
        if depthwise:
            integers = fitted.kernel.T.reshape(1, *shape[:2], -1)
            operator: type[Weighted] = DepthwiseConv2D
        elif isinstance(layer, keras.layers.Dense):
            integers, operator = fitted.kernel, FullyConnected
        else:
            integers, operator = fitted.kernel.reshape(-1, *shape[:3]), Conv2D
        return self._emit_weighted(
            operator, source, view, view.output_shape, grid, integers, fitted, kernel.bits, fields
        )

    def _depthwise_affine(self, source, view, shape, grid, gain, offset) -> str:
        """``gain * real + offset`` per channel, as a 1x1 depthwise convolution with codes of 1."""
        count = len(gain)
        affine = Affine(gain=np.asarray(gain, np.float64), offset=np.asarray(offset, np.float64))
        fitted = self._fit(
            np.ones((count, 1), np.int64), np.ones(count, np.float32), affine, source, view, grid
        )
        flat = len(shape) == 2
        if flat:  # DEPTHWISE_CONV_2D takes images only.
            source = self._emit(Reshape, [source], view, (1, 1, 1, count), self._grids[source])
            self._layers[source] = self._layers[self._operators[-1].inputs[0]]
        integers = fitted.kernel.T.reshape(1, 1, 1, count)
        image = (1, 1, 1, count) if flat else shape
        output = self._emit_weighted(
            DepthwiseConv2D, source, view, image, grid, integers, fitted, 1, {}
        )
        return self._emit(Reshape, [output], view, shape, grid) if flat else output

    def _fit(self, codes, kernel_scale, affine, source, view, grid) -> channels.Channels:
        origin = self._grids[source]
        try:
            return channels.fit(
                codes,
                affine.gain * kernel_scale.astype(np.float64) * origin.scale,
                affine.offset,
                input_scale=origin.scale,
                input_low=origin.low,
                input_high=origin.high,
                output_scale=grid.scale,
                output_low=grid.low,
                output_high=grid.high,
            )
        except ValueError as error:
            raise LoweringError(f"Layer {view.name!r}: {error}.") from error

    def _emit_weighted(
        self, operator, source, view, shape, grid, integers, fitted, bits, fields
    ) -> str:
        output = self._emit(
            operator,
            [source],
            view,
            shape,
            grid,
            kernel=np.ascontiguousarray(integers),
            kernel_scale=fitted.scale,
            bias=fitted.bias,
            relu=grid.low == 0,
            stretch=fitted.stretch,
            bits=bits,
            **fields,
        )
        self._inexact[output] = int((~fitted.exact).sum())
        return output


def _bias(view: LayerView) -> Affine:
    """The layer's own bias after its accumulator."""
    assert view.kernel is not None
    count = view.output_shape[-1]
    bias = np.asarray(view.layer.bias, np.float64) if view.layer.use_bias else np.zeros(count)
    return Affine(gain=np.ones(count), offset=bias)


def _batch_normalization(view: LayerView) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset of batch normalization in inference, float64 per channel."""
    layer = view.layer
    mean = np.asarray(layer.moving_mean, np.float64)
    variance = np.asarray(layer.moving_variance, np.float64)
    gamma = np.asarray(layer.gamma, np.float64) if layer.scale else np.ones_like(mean)
    beta = np.asarray(layer.beta, np.float64) if layer.center else np.zeros_like(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = gamma / np.sqrt(variance + layer.epsilon)
    return gain, beta - mean * gain
