"""Lowering: a quantized Keras model becomes a trained graph.

Driven by demand: each layer is asked for its output on a grid, its own where it has one. A layer
without a grid of its own (a convolution whose ReLU carries the quantizer, the branches of a
concatenation) computes straight onto the grid that its reader names. Where a tensor is wanted on
another grid than its own, a 1x1 depthwise convolution moves it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

import wrpn_tf
from export.ir.operators import (
    PROBABILITIES,
    Add,
    Concatenate,
    DepthwiseConv2D,
    Logistic,
    Maximum,
    Minimum,
    Multiply,
    Operator,
    Reshape,
    Softmax,
    Subtract,
)
from export.ir.trained import TrainedGraph, TrainedKernel
from export.lowering import folding, layout_operators
from export.lowering.builder import GraphBuilder
from export.lowering.folding import Affine
from wrpn_tf import Fusion, Kind, LayerView, QuantizationParameters, class_name

_PROBABILITIES: dict[Kind, type[Operator]] = {Kind.SIGMOID: Logistic, Kind.SOFTMAX: Softmax}
_EXTREMA: dict[str, type[Operator]] = {"Maximum": Maximum, "Minimum": Minimum}


class LoweringError(ValueError):
    """The model has no integer form; the message names the layers and says why."""


class FloatError(LoweringError):
    """Something that the model computes was left in float."""


def lower(
    model: Any, metadata: Mapping[str, Any] | None = None, **options: NoReturn
) -> TrainedGraph:
    """What a quantized model was trained to compute, exactly: codes, scales and parameters.

    Nothing in it depends on a device; `export.realize` makes integers of it.

    Args:
      model: from `wrpn_tf.quantize_model(..., first_last='integer')`, calibrated or trained.
      metadata: for `Graph.metadata`: 'name', 'labels', 'description', and what else JSON can hold.
        'normalization' is set from the quantization of each input.
      **options: none; those of earlier versions are `export.realize`'s.

    Raises:
      FloatError: if a layer is in float; all are named.
      LoweringError: if layers have not seen data (all are named) or have no integer form.
      TypeError: if an option is given, or metadata that JSON cannot hold.
    """
    for name in options:
        raise TypeError(
            f"export.lower() takes no {name!r}: it gives what was trained, and "
            "export.realize(trained, weights=…, split_groups=…) makes integers of it"
        )
    _check_flat(model)
    _check_finite(model)
    fusion = wrpn_tf.fusion_groups(model)
    views = fusion.layers
    _check_quantized(views)
    lowering = _Lowering(fusion)
    inputs = [lowering.input(view.name) for view in views.values() if not view.inputs]
    for view in views.values():  # In execution order, so that no recursion goes deep.
        if view.grid is not None:
            lowering.produce(view.name, None)
    outputs: list[str] = []
    for name in fusion.results:
        tensor = lowering.produce(name, None)
        # A file has each output once, and none that is an input.
        is_taken = tensor in (*inputs, *outputs)
        outputs.append(lowering.copy(tensor, views[name]) if is_taken else tensor)
    built = lowering.builder
    built.prune(outputs)
    pixels = {name: _normalization(built.tensors[name].quantization) for name in inputs}
    return TrainedGraph(
        tensors=built.tensors,
        operators=built.operators,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        metadata={"name": model.name, "normalization": pixels} | _metadata(metadata or {}),
        provenance=built.provenance(),
    )


def _metadata(given: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as a file holds them: names, descriptions and labels are text."""
    found = dict(given)
    for key in ("name", "description"):
        if found.get(key) is not None:
            found[key] = str(found[key])
    if found.get("labels") is not None:
        found["labels"] = [str(label) for label in found["labels"]]
    json.dumps(found)  # Else the file would be written, and `export.save` would not.
    return found


def _normalization(quantization: QuantizationParameters) -> dict[str, list[float]]:
    """``real = (pixel - mean) / std`` for the pixels 0 to 255 that stand for codes -128 to 127."""
    return {"mean": [float(quantization.zero_point + 128)], "std": [1.0 / quantization.scale]}


def _check_finite(model: Any) -> None:
    """Raises LoweringError that names the layers whose kernels, scales or ranges are no numbers."""
    kernels = wrpn_tf.named_kernel_quantizers(model).items()
    variables = [(name, [kernel, *each.values()]) for name, (_, kernel, each) in kernels]
    outputs = wrpn_tf.named_output_quantizers(model).items()
    variables += [(name, list(each.values())) for name, (_, each) in outputs]
    wrong = [name for name, each in variables if not all(map(_is_finite, each))]
    if wrong:
        raise LoweringError(
            f"Layers whose kernel, scale or range is NaN or infinite: {', '.join(wrong)}. The "
            "training has diverged."
        )


def _is_finite(variable: Any) -> bool:
    return bool(np.isfinite(variable.numpy()).all())


def _check_flat(model: Any) -> None:
    """Raises LoweringError for a quantized model in another: nothing is settled or compared there.

    `wrpn_tf.quantize_model` gives a flat one.
    """
    for layer in getattr(model, "layers", ()):
        if hasattr(layer, "layers") and wrpn_tf.named_output_quantizers(layer):
            raise LoweringError(
                f"Model {model.name!r} has a quantized model as its layer {layer.name!r}: export "
                f"that one, model.get_layer({layer.name!r}), or quantize the whole model, built of "
                "the float one."
            )


def _check_quantized(views: Mapping[str, LayerView]) -> None:
    """Raises LoweringError that names all layers in float, without data or in training."""
    training = [view.name for view in views.values() if view.always_trains]
    if training:
        raise LoweringError(
            f"Layers called with training=True: {', '.join(training)}. An integer graph has no "
            "randomness, and no statistics of a batch: quantize the model built without "
            "training=True, and give it the weights of this one with set_weights."
        )
    floats, unseen = [], []
    for view in views.values():
        if view.kind is None or (view.kind is Kind.KERNEL and view.kernel is None):
            floats.append(view.name)
        if view.observes and view.grid is None:
            unseen.append(view.name)
    if floats:
        raise FloatError(
            f"Layers in float: {', '.join(floats)}. Quantize the model with "
            "wrpn_tf.quantize_model(model, first_last='integer') and at most 8 bits."
        )
    if unseen:
        raise LoweringError(
            f"Layers whose range has seen no data: {', '.join(unseen)}. Train the model or "
            "call wrpn_tf.calibrate."
        )


def _clipped(view: LayerView, grid: QuantizationParameters) -> QuantizationParameters:
    """The codes of `grid` that the layer's output can take: a ReLU's are not negative."""
    return dataclasses.replace(grid, low=max(grid.low, 0)) if view.kind is Kind.RELU else grid


def _check_maximum(view: LayerView, grid: QuantizationParameters) -> None:
    """Raises LoweringError for a ReLU whose maximum is below the largest code of its output."""
    if view.maximum is None or math.floor(view.maximum / grid.scale + 0.5) >= grid.high:
        return
    raise LoweringError(
        f"ReLU {view.own_name!r} has the maximum {view.maximum:g} and no quantizer that clips "
        f"there, and what reads it takes values up to {grid.high * grid.scale:g}. Quantize the "
        "float model anew, with activation bits for this layer."
    )


def _with_use(affine: Affine, use: LayerView | None) -> Affine:
    """With the offset of one use of a layer that is used several times."""
    if use is None:
        return affine
    offset = np.asarray(use.layer.offset, np.float64)
    return dataclasses.replace(affine, offset=affine.offset + offset)


class _Lowering:
    """Produces tensors on demand, each once."""

    def __init__(self, fusion: Fusion[LayerView]):
        self._fusion = fusion
        self._views = fusion.layers
        self._made: dict[tuple[str, QuantizationParameters | None], str] = {}
        self.builder = GraphBuilder()

    def input(self, name: str) -> str:
        """The tensor of a model input."""
        readers = [view for view in self._views.values() if view.inputs == (name,)]
        quantizer = next((view for view in readers if view.kind is Kind.INPUT), None)
        if quantizer is None or quantizer.grid is None:
            raise FloatError(
                f"Input {name!r} is in float; quantize the model with first_last='integer'."
            )
        tensor = self.builder.tensor(name, quantizer.name, quantizer.output_shape, quantizer.grid)
        self._made[quantizer.name, None] = tensor
        return tensor

    def produce(self, name: str, grid: QuantizationParameters | None) -> str:
        """The tensor of a layer's output on `grid`; None: on its own."""
        if grid == self._views[name].grid:
            grid = None
        if (name, grid) not in self._made:
            self._made[name, grid] = self._make(self._views[name], grid)
        return self._made[name, grid]

    def copy(self, source: str, view: LayerView) -> str:
        """Another tensor with the codes of `source`."""
        quantization = self.builder.tensors[source].quantization
        return self.builder.emit(Reshape, [source], view, quantization, part="_copy")

    def _make(self, view: LayerView, grid: QuantizationParameters | None) -> str:
        if view.grid is not None and grid is not None and view.grid != grid:
            return self._move(self.produce(view.name, None), view, grid)
        if view.kind is Kind.PASS:
            return layout_operators.moved(self.builder, view, self.produce(view.inputs[0], grid))
        if view.kind in _PROBABILITIES:
            source = self.produce(view.inputs[0], None)
            return self.builder.emit(_PROBABILITIES[view.kind], [source], view, PROBABILITIES)
        grid = grid or view.grid
        # An average rounds codes, and in Keras real values where it has no grid of its own.
        if grid is None or (view.kind is Kind.AVERAGE and view.grid is None):
            raise FloatError(
                f"The output of {view.name!r} is in float: it was quantized with 32 activation "
                "bits or first_last='paper'."
            )
        try:
            return self._compute(view, grid)
        except LoweringError:
            raise
        except ValueError as error:
            raise LoweringError(f"Layer {view.name!r}: {error}.") from error

    def _compute(self, view: LayerView, grid: QuantizationParameters) -> str:
        """The operator behind a layer, or behind the chain of layers that ends in it.

        A k-bit grid starts at 0: its quantizer clips there, so a ReLU before it adds nothing.
        """
        _check_maximum(view, grid)
        group = self._fusion.group(view.name)
        body = group.body
        match body.kind:
            case Kind.RELU:
                return self._move(self.produce(body.inputs[0], None), view, grid)
            case Kind.KERNEL:
                affine = folding.own_bias(body.layer, self._channels(body))
                if group.affine is not None:
                    affine = folding.affine(group.affine.layer, self._channels(body), body.layer)
                affine = _with_use(affine, group.use)
                return self._kernel(body, view, grid, affine)
            case Kind.AFFINE:
                affine = _with_use(folding.affine(body.layer, self._channels(body)), group.use)
                # Of pixels, which are rounded with a shift.
                affine = dataclasses.replace(affine, offset=affine.offset + view.shift)
                return self._affine(self.produce(body.inputs[0], None), view, grid, affine)
            case Kind.ADD:
                sources = [self.produce(name, None) for name in body.inputs]
                relu = _clipped(view, grid).low == 0
                operator = Subtract if class_name(body.layer) == "Subtract" else Add
                return self.builder.emit(operator, sources, view, grid, relu=relu)
            case Kind.MULTIPLY:
                sources = [self.produce(name, None) for name in body.inputs]
                sources.sort(key=lambda name: -np.prod(self.builder.tensors[name].shape))
                sources = self._fine_factors(sources, view, grid)
                relu = _clipped(view, grid).low == 0
                return self.builder.emit(Multiply, sources, view, grid, relu=relu)
            case Kind.CONCATENATE:
                sources = [self.produce(name, grid) for name in body.inputs]
                if class_name(body.layer) == "Ramp":
                    return self.builder.emit(self._ramp(body), sources, view, grid)
                if class_name(body.layer) in _EXTREMA:
                    return self.builder.emit(_EXTREMA[class_name(body.layer)], sources, view, grid)
                axis = int(body.layer.axis) % len(view.output_shape)
                return self.builder.emit(Concatenate, sources, view, grid, axis=axis)
            case Kind.AVERAGE:
                source = self.produce(body.inputs[0], grid)
                return layout_operators.averaged(self.builder, view, source)
        raise LoweringError(f"Layer {view.name!r} ({view.kind}) has no integer form.")

    def _ramp(self, body: LayerView) -> type[Operator]:
        """Which of a value and its multiple a PReLU gives: the larger, for slopes up to 1."""
        slopes = np.ravel(self._fusion.group(body.inputs[1]).body.layer.alpha)
        if (slopes <= 1).all():
            return Maximum
        if (slopes >= 1).all():
            return Minimum
        above = np.flatnonzero(slopes > 1).tolist()
        raise LoweringError(
            f"PReLU {body.own_name!r} has slopes on both sides of 1 (above in "
            f"channels {above}): one operator takes the larger of a value and its multiple, or the "
            "smaller. Keep them with an alpha_constraint."
        )

    def _fine_factors(
        self, sources: list[str], view: LayerView, grid: QuantizationParameters
    ) -> list[str]:
        """The factors of a product, on finer grids where a step of theirs is no less than its own.

        A few codes become as many of 8 bits, 2, 4, ... times as far apart: the values stay.
        """
        fine = list(sources)
        for index in reversed(range(len(sources))):
            known = [self.builder.tensors[name].quantization for name in fine]
            if np.prod([np.float32(each.scale) for each in known]) < np.float32(grid.scale):
                break
            factor = 2 ** int(math.log2(255 // (known[index].high - known[index].low)))
            finer = dataclasses.replace(
                known[index],
                scale=known[index].scale / factor,
                low=known[index].low * factor,
                high=known[index].high * factor,
                bits=8,
            )
            if factor > 1:
                fine[index] = self._regridded(sources[index], view, finer)
        return fine

    def _regridded(self, source: str, view: LayerView, grid: QuantizationParameters) -> str:
        """The values that a layer reads, on another grid."""
        shape = self.builder.tensors[source].shape
        origin = self._views[self.builder.layers[source]]
        factor = f"{view.own_name}_factor"
        read = dataclasses.replace(origin, own_name=factor, output_shape=shape)
        return self._affine(source, read, grid, folding.identity(shape[-1]))

    def _kernel(
        self, body: LayerView, view: LayerView, grid: QuantizationParameters, affine: Affine
    ) -> str:
        """A convolution or dense layer, and the batch normalization after it, if any."""
        assert body.kernel is not None
        kernel, origin = body.kernel, self._views[body.inputs[0]]
        if origin.name in self._fusion.gains:
            gain = folding.affine(origin.layer, 1).gain
            kernel = dataclasses.replace(kernel, scale=kernel.scale * gain)
            origin = self._views[origin.inputs[0]]
        source = self.produce(origin.name, None)
        quantization = self.builder.tensors[source].quantization
        fields = folding.trained_kernel(body, kernel, affine, quantization)
        return self.builder.emit(TrainedKernel, [source], view, grid, **fields)

    def _move(self, source: str, view: LayerView, grid: QuantizationParameters) -> str:
        """The same values on another grid."""
        return self._affine(source, view, grid, folding.identity(self._channels(view)))

    def _affine(
        self, source: str, view: LayerView, grid: QuantizationParameters, affine: Affine
    ) -> str:
        """A gain and an offset for each channel: a 1x1 depthwise convolution with codes of 1."""
        count = len(affine.gain)
        origin = self.builder.tensors[source].quantization
        codes = np.ones((count, 1), np.int8)
        is_image = len(view.output_shape) == 4  # DEPTHWISE_CONV_2D takes nothing else.
        positions = math.prod(size or 1 for size in view.output_shape[1:-1])
        image = view.output_shape if is_image else (1, positions, 1, count)
        if not is_image:
            layer = self.builder.layers[source]
            source = self.builder.emit(Reshape, [source], view, origin, image, "_image")
            self.builder.layers[source] = layer
        output = self.builder.emit(
            TrainedKernel,
            [source],
            view,
            grid,
            image,
            part="" if is_image else "_moved",
            form=DepthwiseConv2D,
            codes=codes,
            bits=1,
            parameters=folding.parameters(codes, np.ones(count), affine, origin),
            has_weights=False,
        )
        return output if is_image else self.builder.emit(Reshape, [output], view, grid)

    @staticmethod
    def _channels(view: LayerView) -> int:
        return int(view.output_shape[-1] or 0)
