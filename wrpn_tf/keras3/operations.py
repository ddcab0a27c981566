"""Operations in functional graphs (``x * 2``, ``keras.ops.relu(x)``) as Keras layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from wrpn_tf.graph.canonical import rescaling
from wrpn_tf.graph.nodes import known_sizes
from wrpn_tf.graph.own_layers import split_slices
from wrpn_tf.graph.roles import operation_name
from wrpn_tf.keras3.own_layers import (
    Clip,
    DepthToSpace,
    LowestPadding2D,
    Slice,
    SpaceToDepth,
    Stack,
)

_ADD = ("numpy.Add",)
_SUBTRACT = ("numpy.Subtract",)
_MULTIPLY = ("numpy.Multiply",)
_DIVIDE = ("numpy.Divide", "numpy.TrueDivide")
_NEGATE = ("numpy.Negative",)
_MAXIMUM = ("numpy.Maximum",)
_MINIMUM = ("numpy.Minimum",)
_BINARY: dict[str, type[keras.layers.Layer]] = {
    **dict.fromkeys(_ADD, layers.Add),
    **dict.fromkeys(_SUBTRACT, layers.Subtract),
    **dict.fromkeys(_MULTIPLY, layers.Multiply),
    **dict.fromkeys(_MAXIMUM, layers.Maximum),
    **dict.fromkeys(_MINIMUM, layers.Minimum),
}
_WHOLE = (None, None, None)


def layer_of(node: Any) -> Any:
    """The layer of a node of a Keras graph, or one of fewer kinds that computes the same.

    Normalization over the last axis becomes a Rescaling layer. Of `keras.ops` those become layers
    that `_CALLS` lists, sums, differences, products, maxima and minima of two tensors, and
    arithmetic with one constant for all or for each channel; others stay, and so do those with
    arguments that no layer stands for.
    """
    operation = node.operation
    if type(operation) is layers.Normalization:
        return _fixed_normalization(operation)
    if isinstance(operation, layers.Layer):
        return operation
    name = operation_name(operation)
    made = _CALLS[name](_Call(node)) if name in _CALLS else _arithmetic(name, node)
    return operation if made is None else made


def parts_of(node: Any) -> list[Slice]:
    """The layers for the outputs of a node of a Keras graph that splits a tensor; else none."""
    if operation_name(node.operation) != "numpy.Split":
        return []
    call = _Call(node)
    sizes = [tuple(output.shape) for output in node.outputs]
    return split_slices(Slice, call.name, call.shape, call.operation.axis, sizes)


class _Call:
    """The call of an operation.

    Attributes:
      operation: with its arguments that are no tensors.
      name: of the operation in its model.
      first: the first argument: a tensor, or a list of tensors.
      others: all other arguments of the call.
      shape: of the first argument.
      output_shape: of the output.
    """

    def __init__(self, node: Any):
        self.operation, self.name = node.operation, node.operation.name
        given = [*node.arguments.args, *node.arguments.kwargs.values()]
        self.first: Any = given[0]
        self.others = [value for value in given[1:] if value is not None]
        self.shape = tuple(getattr(self.first, "shape", ()))
        self.output_shape = tuple(node.outputs[0].shape)

    @property
    def joins(self) -> bool:
        """Whether the first argument is several tensors, none of them a constant."""
        several = isinstance(self.first, list | tuple) and len(self.first) > 1
        return several and all(map(_is_symbolic, self.first))


def _clip(call: _Call) -> keras.layers.Layer | None:
    return _limited(call.operation.x_min, call.operation.x_max, call.name)


def _limited(minimum: Any, maximum: Any, name: str) -> keras.layers.Layer | None:
    bounds = [None if bound is None else _number(bound) for bound in (minimum, maximum)]
    if (minimum is None, maximum is None) != (bounds[0] is None, bounds[1] is None):
        return None
    low, high = bounds
    is_relu = low == 0 and (high is None or high >= 0)
    return layers.ReLU(high, name=name) if is_relu else Clip(low, high, name=name)


def _relu(call: _Call) -> keras.layers.Layer | None:
    operation = call.operation
    limits = (operation.max_value, operation.negative_slope, operation.threshold)
    if any(limit is not None and limit < 0 for limit in limits):
        return None
    return layers.ReLU(*limits, name=call.name)


def _number(value: Any) -> float | None:
    """A finite constant that is one number, or None."""
    array = _array(value)
    if array is None or array.size != 1 or not np.isfinite(array).all():
        return None
    return float(array.ravel()[0])


def _concatenate(call: _Call) -> keras.layers.Layer | None:
    return layers.Concatenate(axis=call.operation.axis, name=call.name) if call.joins else None


def _stack(call: _Call) -> keras.layers.Layer | None:
    axis = call.operation.axis % len(call.output_shape)
    return Stack(axis, name=call.name) if call.joins and axis else None


def _transpose(call: _Call) -> keras.layers.Layer | None:
    axes = [axis % len(call.shape) for axis in call.operation.axes or ()]
    return layers.Permute(axes[1:], name=call.name) if axes and axes[0] == 0 else None


def _reshape(call: _Call) -> keras.layers.Layer | None:
    """The shape that it gives, where that leaves the batch alone."""
    before, after = known_sizes(call.shape), known_sizes(call.output_shape)
    known = before and after and call.output_shape[0] is None
    if not known or math.prod(before) != math.prod(after):
        return None
    return layers.Reshape(after, name=call.name)


def _cast(call: _Call) -> keras.layers.Layer | None:
    return rescaling(layers, 1.0, 0.0, call.name) if call.operation.dtype == "float32" else None


def _item(call: _Call) -> keras.layers.Layer | None:
    """A slice that keeps the batch as a whole; or axes of size 1 that are added."""
    (key,) = call.others
    parts = list(key) if isinstance(key, list | tuple) else [key]
    if any(part is None for part in parts):
        others = [part for part in parts if part is not None and part is not Ellipsis]
        whole = all(_bounds(part) == _WHOLE for part in others)
        return _reshape(call) if whole and parts[0] is not None else None
    for index, part in enumerate(parts):
        if part is Ellipsis:
            missing = len(call.shape) - len(parts) + 1
            parts[index : index + 1] = [slice(None)] * missing
            break
    parts += [slice(None)] * (len(call.shape) - len(parts))
    bounds = [_bounds(part) for part in parts]
    if None in bounds or bounds[0] != _WHOLE:
        return None
    return _slice(call, bounds[1:])


def _bounds(part: Any) -> int | tuple[int | None, int | None, int | None] | None:
    """Start, stop and step of a slice, or an index."""
    if isinstance(part, int | np.integer):
        return int(part)
    if not isinstance(part, slice):
        return None
    found = (part.start, part.stop, part.step)
    if not all(value is None or isinstance(value, int | np.integer) for value in found):
        return None
    start, stop, step = (None if value is None else int(value) for value in found)
    return start, stop, None if step == 1 else step


def _slice(call: _Call, bounds: Sequence[Any]) -> keras.layers.Layer | None:
    return Slice(bounds, name=call.name) if known_sizes(call.shape) else None


def _flip(call: _Call) -> keras.layers.Layer | None:
    axes = call.operation.axis
    if axes is None:
        return None
    flipped = {axis % len(call.shape) for axis in np.ravel(axes).tolist()}
    if 0 in flipped:
        return None
    steps = [-1 if axis in flipped else None for axis in range(1, len(call.shape))]
    return _slice(call, [(None, None, step) for step in steps])


def _pad(call: _Call) -> keras.layers.Layer | None:
    """With zeros, of images and sequences; with minus infinity, of images."""
    values = [_array(value) for value in call.others]
    zeros, lowest = (
        all(value is not None and np.all(value == wanted) for value in values)
        for wanted in (0, -math.inf)
    )
    pairs = [tuple(map(int, pair)) for pair in np.atleast_2d(call.operation.pad_width).tolist()]
    if call.operation.mode != "constant" or len(pairs) != len(call.shape):
        return None
    first, *inner, last = pairs
    if any(first) or any(last) or not (zeros or lowest):
        return None
    if not zeros:
        return LowestPadding2D(inner, name=call.name) if len(inner) == 2 else None
    if len(inner) == 2:
        return layers.ZeroPadding2D(tuple(inner), name=call.name)
    return layers.ZeroPadding1D(inner[0], name=call.name) if len(inner) == 1 else None


def _pooling(image: type) -> Callable[[_Call], keras.layers.Layer | None]:
    def make(call: _Call) -> keras.layers.Layer | None:
        operation = call.operation
        if len(call.shape) != 4 or operation.data_format != "channels_last":
            return None
        return image(
            operation.pool_size, operation.strides, padding=operation.padding, name=call.name
        )

    return make


def _reduction(sequence: type, image: type) -> Callable[[_Call], keras.layers.Layer | None]:
    def make(call: _Call) -> keras.layers.Layer | None:
        axes, rank = call.operation.axis, len(call.shape)
        pooling = {3: sequence, 4: image}.get(rank)
        if axes is None or pooling is None or getattr(call.operation, "initial", None) is not None:
            return None
        if sorted(axis % rank for axis in np.ravel(axes).tolist()) != list(range(1, rank - 1)):
            return None
        return pooling(keepdims=bool(call.operation.keepdims), name=call.name)

    return make


def _blocks(image: type) -> Callable[[_Call], keras.layers.Layer | None]:
    def make(call: _Call) -> keras.layers.Layer | None:
        if call.operation.data_format != "channels_last" or not known_sizes(call.shape):
            return None
        return image(call.operation.block_size, name=call.name)

    return make


def _resize(call: _Call) -> keras.layers.Layer | None:
    operation = call.operation
    plain = not (
        operation.antialias or operation.crop_to_aspect_ratio or operation.pad_to_aspect_ratio
    )
    known = operation.interpolation in ("bilinear", "nearest") and len(call.shape) == 4
    if not plain or not known or operation.data_format != "channels_last":
        return None
    return layers.Resizing(
        *operation.size,
        interpolation=operation.interpolation,
        data_format="channels_last",
        name=call.name,
    )


_CALLS: dict[str, Callable[[_Call], keras.layers.Layer | None]] = {
    "activations.ReLU": _relu,
    "nn.Relu": lambda call: layers.ReLU(name=call.name),
    "nn.Relu6": lambda call: layers.ReLU(6.0, name=call.name),
    "nn.Sigmoid": lambda call: layers.Activation("sigmoid", name=call.name),
    "nn.Silu": lambda call: layers.Activation("silu", name=call.name),
    "nn.HardSigmoid": lambda call: layers.Activation("hard_sigmoid", name=call.name),
    "nn.HardSilu": lambda call: layers.Activation("hard_silu", name=call.name),
    "nn.LeakyRelu": lambda call: layers.LeakyReLU(call.operation.negative_slope, name=call.name),
    "nn.Softmax": lambda call: layers.Softmax(call.operation.axis, name=call.name),
    "numpy.Tanh": lambda call: layers.Activation("tanh", name=call.name),
    "nn.Tanh": lambda call: layers.Activation("tanh", name=call.name),
    "numpy.Stack": _stack,
    "numpy.Clip": _clip,
    "numpy.Concatenate": _concatenate,
    "numpy.Transpose": _transpose,
    "numpy.Reshape": _reshape,
    "numpy.ExpandDims": _reshape,
    "numpy.Squeeze": _reshape,
    "core.Cast": _cast,
    "numpy.GetItem": _item,
    "numpy.Flip": _flip,
    "numpy.Pad": _pad,
    "nn.MaxPool": _pooling(layers.MaxPooling2D),
    "nn.AveragePool": _pooling(layers.AveragePooling2D),
    "nn.DepthToSpace": _blocks(DepthToSpace),
    "nn.SpaceToDepth": _blocks(SpaceToDepth),
    "numpy.Mean": _reduction(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D),
    "numpy.Max": _reduction(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D),
    "image.Resize": _resize,
}
"""By operation: the layer that stands for a call of it, or None."""


def _arithmetic(name: str, node: Any) -> keras.layers.Layer | None:
    """The layer of a sum, product, ... of two tensors, or of one and a constant."""
    operands = [*node.arguments.args, *node.arguments.kwargs.values()]
    if all(map(_is_symbolic, operands)) and len(operands) == 2:
        return _BINARY[name](name=node.operation.name) if name in _BINARY else None
    if name in (*_MAXIMUM, *_MINIMUM):
        (constant,) = [operand for operand in operands if not _is_symbolic(operand)]
        low, high = (constant, None) if name in _MAXIMUM else (None, constant)
        return _limited(low, high, node.operation.name)
    affine = _affine(name, operands)
    return None if affine is None else rescaling(layers, *affine, name=node.operation.name)


def _fixed_normalization(layer: layers.Normalization) -> keras.layers.Layer:
    """The layer with its adapted statistics as constants, where they belong to the last axis."""
    statistics = [getattr(layer, "mean", None), getattr(layer, "variance", None)]
    if any(value is None for value in statistics):
        return layer
    mean, variance = (
        np.asarray(keras.ops.convert_to_numpy(value), np.float64) for value in statistics
    )
    if max(mean.size, variance.size) not in (1, mean.shape[-1] if mean.ndim else 1):
        return layer
    mean, variance = mean.reshape(-1), variance.reshape(-1)
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    if layer.invert:
        return rescaling(layers, deviation, mean, layer.name)
    return rescaling(layers, 1.0 / deviation, -mean / deviation, layer.name)


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _affine(name: str, operands: list[Any]) -> tuple[Any, Any] | None:
    """Scale and offset of an operation on one tensor and a constant, or None."""
    if name in _NEGATE and len(operands) == 1:
        return -1.0, 0.0
    if len(operands) != 2 or _is_symbolic(operands[0]) == _is_symbolic(operands[1]):
        return None
    tensor, constant = operands if _is_symbolic(operands[0]) else operands[::-1]
    value = _per_channel(constant, tensor.shape[-1])
    if value is None:
        return None
    first = tensor is operands[0]
    if name in _ADD:
        return 1.0, value
    if name in _SUBTRACT:
        return (1.0, -value) if first else (-1.0, value)
    if name in _MULTIPLY:
        return value, 0.0
    if name in _DIVIDE and first:
        return 1.0 / value, 0.0
    return None


def _per_channel(constant: Any, channels: int | None) -> np.ndarray | None:
    """A constant as a number or one for each channel; None where it is neither."""
    value = _array(constant)
    if value is None:
        return None
    if value.size == 1:
        return value.reshape(())
    return value.reshape(-1) if value.size == channels == value.shape[-1] else None


def _array(constant: Any) -> np.ndarray | None:
    try:
        return np.asarray(keras.ops.convert_to_numpy(constant), np.float32)
    except (TypeError, ValueError):
        return None
