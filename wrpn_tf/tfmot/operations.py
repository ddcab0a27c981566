"""TensorFlow operations in functional graphs (``x * 2``, ``tf.nn.relu(x)``) as Keras layers."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers
from tf_keras.src.layers.core.tf_op_layer import TFOpLambda

from wrpn_tf.graph.canonical import rescaling
from wrpn_tf.graph.nodes import known_sizes
from wrpn_tf.graph.own_layers import split_slices
from wrpn_tf.tfmot.own_layers import Clip, DepthToSpace, Slice, SpaceToDepth, Stack

_ADD = ("__operators__.add", "math.add", "nn.bias_add")
_SUBTRACT = ("math.subtract",)
_MULTIPLY = ("math.multiply",)
_DIVIDE = ("math.truediv", "math.divide")
_NEGATE = ("math.negative",)
_MAXIMUM = ("math.maximum",)
_MINIMUM = ("math.minimum",)
_UNARY: dict[str, Callable[[str], keras.layers.Layer]] = {
    "nn.relu": lambda name: layers.ReLU(name=name),
    "nn.relu6": lambda name: layers.ReLU(6.0, name=name),
    "math.sigmoid": lambda name: layers.Activation("sigmoid", name=name),
    "nn.silu": lambda name: layers.Activation("swish", name=name),
    "nn.softmax": lambda name: layers.Softmax(name=name),
    "identity": lambda name: layers.Identity(name=name),
}
_BINARY: dict[str, type[keras.layers.Layer]] = {
    **dict.fromkeys(_ADD, layers.Add),
    **dict.fromkeys(_SUBTRACT, layers.Subtract),
    **dict.fromkeys(_MULTIPLY, layers.Multiply),
    **dict.fromkeys(_MAXIMUM, layers.Maximum),
    **dict.fromkeys(_MINIMUM, layers.Minimum),
}


def layer_of(node: Any) -> keras.layers.Layer:
    """The layer of a node of a Keras graph, or one of fewer kinds that computes the same.

    Normalization over the last axis becomes a Rescaling layer. Of TensorFlow's operations those
    become layers that `_CALLS` lists, sums, differences, products, maxima and minima of two
    tensors, arithmetic with one constant for all or for each channel, and ReLU, ReLU6, sigmoid,
    swish and softmax over the last axis; others stay, and so do those with arguments that no layer
    stands for.
    """
    layer = node.layer
    if type(layer) is layers.Normalization:
        return _fixed_normalization(layer)
    if not isinstance(layer, TFOpLambda):
        return layer
    function = layer.get_config()["function"]
    call = _Call(node)
    if function in _CALLS:
        made = _CALLS[function](call)
    elif function in _UNARY:
        made = _UNARY[function](layer.name)
    else:
        made = _arithmetic(function, call)
    return made if made is not None and not call.left else layer


def parts_of(node: Any) -> list[Slice]:
    """The layers for the outputs of a node of a Keras graph that splits a tensor; else none."""
    if not isinstance(node.layer, TFOpLambda) or node.layer.get_config()["function"] != "split":
        return []
    call = _Call(node)
    axis = call.integers("axis", 0)
    sizes = [tuple(output.shape) for output in tf.nest.flatten(node.outputs)]
    return [] if axis is None else split_slices(Slice, call.name, call.shape, axis[0], sizes)


class _Call:
    """The call of an operation.

    Attributes:
      name: of the operation in its model.
      first: the first argument: a tensor, or a list of tensors.
      left: the other arguments by name, without those that have their default, until they are
        taken.
    """

    def __init__(self, node: Any):
        self.name = node.layer.name
        function = inspect.signature(node.layer.function)
        (_, self.first), *others = function.bind(
            *node.call_args, **node.call_kwargs
        ).arguments.items()
        self.left = {
            name: value
            for name, value in others
            if not (
                name == "name" or value is None or _equal(value, function.parameters[name].default)
            )
        }
        if self.left.get("data_format") == "NHWC":
            del self.left["data_format"]
        self._node = node

    @property
    def joins(self) -> bool:
        """Whether the first argument is several tensors, none of them a constant."""
        several = isinstance(self.first, list | tuple) and len(self.first) > 1
        return several and all(map(_is_symbolic, self.first))

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of the first argument."""
        return tuple(self.first.shape)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Of the one output."""
        return tuple(self._node.outputs.shape)

    def take(self, name: str, default: Any = None) -> Any:
        """The value of an argument, which is then understood; of a constant tensor, an array."""
        return _value(self.left.pop(name, default))

    def integers(self, name: str, default: Any = None) -> tuple[int, ...] | None:
        """Likewise of one or several whole numbers; None where it is something else."""
        value = self.take(name, default)
        try:
            array = np.asarray(value)
        except (TypeError, ValueError):
            return None
        if array.dtype.kind not in "iu":
            return None
        return tuple(map(int, array.ravel()))


def _equal(value: Any, default: Any) -> bool:
    return isinstance(value, bool | int | float | str) and value == default


def _leaky_relu(call: _Call) -> keras.layers.Layer:
    return layers.LeakyReLU(call.take("alpha", 0.2), name=call.name)


def _clip_by_value(call: _Call) -> keras.layers.Layer | None:
    return _clip(call, call.take("clip_value_min"), call.take("clip_value_max"))


def _clip(call: _Call, minimum: Any, maximum: Any) -> keras.layers.Layer | None:
    bounds = [None if bound is None else _number(bound) for bound in (minimum, maximum)]
    if (minimum is None, maximum is None) != (bounds[0] is None, bounds[1] is None):
        return None
    low, high = bounds
    is_relu = low == 0 and (high is None or high >= 0)
    return layers.ReLU(high, name=call.name) if is_relu else Clip(low, high, name=call.name)


def _number(value: Any) -> float | None:
    """A finite constant that is one number, or None."""
    try:
        array = np.asarray(_value(value), np.float32)
    except (TypeError, ValueError):
        return None
    return float(array.ravel()[0]) if array.size == 1 and np.isfinite(array).all() else None


def _concat(call: _Call) -> keras.layers.Layer | None:
    axis = call.integers("axis")
    if axis is None or not call.joins:
        return None
    return layers.Concatenate(axis[0], name=call.name)


def _stack(call: _Call) -> keras.layers.Layer | None:
    axis = call.integers("axis", 0)
    rank = len(call.output_shape)
    if axis is None or not call.joins or axis[0] % rank == 0:
        return None
    return Stack(axis[0] % rank, name=call.name)


def _add_n(call: _Call) -> keras.layers.Layer | None:
    return layers.Add(name=call.name) if call.joins else None


def _cast(call: _Call) -> keras.layers.Layer | None:
    to = tf.as_dtype(call.take("dtype"))
    return rescaling(layers, 1.0, 0.0, call.name) if to == tf.float32 else None


def _depth_to_space(call: _Call) -> keras.layers.Layer:
    return DepthToSpace(int(call.take("block_size")), name=call.name)


def _space_to_depth(call: _Call) -> keras.layers.Layer:
    return SpaceToDepth(int(call.take("block_size")), name=call.name)


def _transpose(call: _Call) -> keras.layers.Layer | None:
    axes = call.integers("perm", range(len(call.shape))[::-1])
    if axes is None or axes[0] != 0:
        return None
    return layers.Permute(axes[1:], name=call.name)


def _reshape(call: _Call) -> keras.layers.Layer | None:
    """The shape that it gives, where that leaves the batch alone."""
    call.left.pop("shape", None)
    call.left.pop("axis", None)
    before, after = known_sizes(call.shape), known_sizes(call.output_shape)
    known = before and after and call.output_shape[0] is None
    if not known or math.prod(before) != math.prod(after):
        return None
    return layers.Reshape(after, name=call.name)


def _getitem(call: _Call) -> keras.layers.Layer | None:
    """A slice that keeps the batch as a whole; or axes of size 1 that are added."""
    parts = call.take("slice_spec")
    parts = list(parts) if isinstance(parts, list | tuple) else [parts]
    if any(part is None for part in parts):
        others = [part for part in parts if part is not None and part is not Ellipsis]
        whole = all(_bounds(part) == (None, None, None) for part in others)
        return _reshape(call) if whole and parts[0] is not None else None
    for index, part in enumerate(parts):
        if part is Ellipsis:
            missing = len(call.shape) - len(parts) + 1
            parts[index : index + 1] = [slice(None)] * missing
            break
    parts += [slice(None)] * (len(call.shape) - len(parts))
    bounds = [_bounds(part) for part in parts]
    if None in bounds or bounds[0] != (None, None, None):
        return None
    return _slice(call, bounds[1:])


def _bounds(part: Any) -> int | tuple[int | None, int | None, int | None] | None:
    """Start, stop and step of a slice as an operation or its configuration has it, or an index."""
    part = _value(part)
    if isinstance(part, int | np.integer):
        return int(part)
    if isinstance(part, slice):
        part = {"start": part.start, "stop": part.stop, "step": part.step}
    if not isinstance(part, dict):
        return None
    found = [_value(part[name]) for name in ("start", "stop", "step")]
    if any(value is not None and np.ndim(value) != 0 for value in found):
        return None
    start, stop, step = (None if value is None else int(value) for value in found)
    return start, stop, None if step == 1 else step


def _slice(call: _Call, bounds: Sequence[Any]) -> keras.layers.Layer | None:
    return Slice(bounds, name=call.name) if known_sizes(call.shape) else None


def _slice_of_size(call: _Call) -> keras.layers.Layer | None:
    begin, size = call.integers("begin"), call.integers("size")
    if begin is None or size is None or begin[0] != 0 or size[0] != -1:
        return None
    ends = [None if n == -1 else b + n for b, n in zip(begin[1:], size[1:], strict=True)]
    return _slice(call, [(b, end, None) for b, end in zip(begin[1:], ends, strict=True)])


def _crop_to_box(call: _Call) -> keras.layers.Layer | None:
    names = "offset_height", "offset_width", "target_height", "target_width"
    found = [value[0] for name in names if (value := call.integers(name))]
    if len(found) < len(names) or len(call.shape) != 4:
        return None
    top, left, height, width = found
    rows, columns = (top, top + height, None), (left, left + width, None)
    return _slice(call, [rows, columns, (None, None, None)])


def _central_crop(call: _Call) -> keras.layers.Layer | None:
    call.left.pop("central_fraction", None)
    before, after = known_sizes(call.shape), known_sizes(call.output_shape)
    if len(before) != 3 or not after:
        return None
    sizes = list(zip(before[:2], after[:2], strict=True))
    starts = [(old - new) // 2 for old, new in sizes]
    parts = [(start, start + new, None) for start, (_, new) in zip(starts, sizes, strict=True)]
    return _slice(call, [*parts, (None, None, None)])


def _reverse(call: _Call) -> keras.layers.Layer | None:
    axes = call.integers("axis")
    return None if axes is None else _reversed(call, axes)


def _reversed(call: _Call, axes: Sequence[int]) -> keras.layers.Layer | None:
    flipped = {axis % len(call.shape) for axis in axes}
    if 0 in flipped:
        return None
    steps = [-1 if axis in flipped else None for axis in range(1, len(call.shape))]
    return _slice(call, [(None, None, step) for step in steps])


def _gather(call: _Call) -> keras.layers.Layer | None:
    """Of indices that are evenly spaced."""
    indices, axes = call.integers("indices"), call.integers("axis", 0)
    if indices is None or axes is None or len(indices) < 2:
        return None
    axis, (first, second, *_) = axes[0] % len(call.shape), indices
    step = second - first
    last = indices[-1] + (1 if step > 0 else -1)
    if axis == 0 or not step or tuple(range(first, last, step)) != indices or first < 0:
        return None
    whole = (None, None, None)
    part = (first, None if last < 0 else last, None if step == 1 else step)
    parts = [part if each == axis else whole for each in range(1, len(call.shape))]
    return _slice(call, parts)


def _pad(call: _Call) -> keras.layers.Layer | None:
    """With zeros, of images and sequences."""
    amounts = call.integers("paddings")
    mode = call.take("mode", "CONSTANT")
    if amounts is None or mode not in ("CONSTANT", "constant"):
        return None
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    first, *inner, last = pairs
    if any(first) or any(last) or len(pairs) != len(call.shape):
        return None
    if len(inner) == 2:
        return layers.ZeroPadding2D(tuple(inner), name=call.name)
    return layers.ZeroPadding1D(inner[0], name=call.name) if len(inner) == 1 else None


def _pooling(image: type, call: _Call) -> keras.layers.Layer | None:
    window, strides = (call.integers(name) for name in ("ksize", "strides"))
    padding = call.take("padding")
    if (
        window is None
        or strides is None
        or padding not in ("SAME", "VALID")
        or len(call.shape) != 4
    ):
        return None
    sizes = [_of_height_and_width(each) for each in (window, strides)]
    return None if None in sizes else image(*sizes, padding=padding.lower(), name=call.name)


def _of_height_and_width(sizes: tuple[int, ...]) -> tuple[int, int] | None:
    """Sizes as TensorFlow's pooling takes them: one, two, or four with batch and channels."""
    if len(sizes) == 4 and (sizes[0], sizes[3]) == (1, 1):
        sizes = sizes[1:3]
    height, *others = sizes
    return (height, others[0] if others else height) if len(others) < 2 else None


def _reduction(sequence: type, image: type, call: _Call) -> keras.layers.Layer | None:
    axes = call.integers("axis")
    keepdims = bool(call.take("keepdims", False))
    if axes is None:
        return None
    rank = len(call.shape)
    pooling = {3: sequence, 4: image}.get(rank)
    if pooling is None or sorted(axis % rank for axis in axes) != list(range(1, rank - 1)):
        return None
    return pooling(keepdims=keepdims, name=call.name)


def _resize(call: _Call) -> keras.layers.Layer | None:
    size, method = call.integers("size"), call.take("method", "bilinear")
    if size is None or len(size) != 2 or method not in ("bilinear", "nearest"):
        return None
    return layers.Resizing(*size, interpolation=method, name=call.name)


_CALLS: dict[str, Callable[[_Call], keras.layers.Layer | None]] = {
    "nn.leaky_relu": _leaky_relu,
    "clip_by_value": _clip_by_value,
    "concat": _concat,
    "math.add_n": _add_n,
    "stack": _stack,
    "cast": _cast,
    "nn.depth_to_space": _depth_to_space,
    "nn.space_to_depth": _space_to_depth,
    "compat.v1.transpose": _transpose,
    "transpose": _transpose,
    "reshape": _reshape,
    "expand_dims": _reshape,
    "compat.v1.squeeze": _reshape,
    "squeeze": _reshape,
    "__operators__.getitem": _getitem,
    "slice": _slice_of_size,
    "image.crop_to_bounding_box": _crop_to_box,
    "image.central_crop": _central_crop,
    "reverse": _reverse,
    "image.flip_left_right": lambda call: _reversed(call, [2] if len(call.shape) == 4 else [0]),
    "image.flip_up_down": lambda call: _reversed(call, [1] if len(call.shape) == 4 else [0]),
    "compat.v1.gather": _gather,
    "gather": _gather,
    "compat.v1.pad": _pad,
    "pad": _pad,
    "nn.max_pool2d": functools.partial(_pooling, layers.MaxPooling2D),
    "nn.avg_pool2d": functools.partial(_pooling, layers.AveragePooling2D),
    "nn.max_pool": functools.partial(_pooling, layers.MaxPooling2D),
    "nn.avg_pool": functools.partial(_pooling, layers.AveragePooling2D),
    "math.reduce_mean": functools.partial(
        _reduction, layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D
    ),
    "math.reduce_max": functools.partial(
        _reduction, layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D
    ),
    "image.resize": _resize,
    "math.tanh": lambda call: layers.Activation("tanh", name=call.name),
}
"""By function: the layer that stands for a call of it, or None; with its arguments taken."""


def _arithmetic(function: str, call: _Call) -> keras.layers.Layer | None:
    """The layer of a sum, product, ... of two tensors, or of one and a constant."""
    operands = [call.first, *(call.left.pop(name) for name in ("y", "bias") if name in call.left)]
    if all(map(_is_symbolic, operands)) and len(operands) == 2:
        return _BINARY[function](name=call.name) if function in _BINARY else None
    if function in (*_MAXIMUM, *_MINIMUM):
        constants = [each for each in operands if not _is_symbolic(each)]
        limits = constants[0], None
        return _clip(call, *(limits if function in _MAXIMUM else limits[::-1]))
    affine = _affine(function, operands)
    return None if affine is None else rescaling(layers, *affine, name=call.name)


def _fixed_normalization(layer: layers.Normalization) -> keras.layers.Layer:
    """The layer with its adapted statistics as constants, where they belong to the last axis."""
    statistics = [
        _value(layer.mean, layer.input_mean),
        _value(layer.variance, layer.input_variance),
    ]
    if any(value is None for value in statistics):
        return layer
    mean, variance = (np.asarray(value, np.float64) for value in statistics)
    if max(mean.size, variance.size) not in (1, mean.shape[-1] if mean.ndim else 1):
        return layer
    mean, variance = mean.reshape(-1), variance.reshape(-1)
    deviation = np.maximum(np.sqrt(variance), keras.backend.epsilon())
    if layer.invert:
        return rescaling(layers, deviation, mean, layer.name)
    return rescaling(layers, 1.0 / deviation, -mean / deviation, layer.name)


def _value(constant: Any, given: Any = None) -> Any:
    """A constant's value where it is a tensor.

    In a `tf.Graph`, where it may not have one, it is what was `given` for the tensor, or None.
    """
    if isinstance(constant, tf.Variable):
        return constant.numpy() if tf.executing_eagerly() else None
    if not isinstance(constant, tf.Tensor):
        return constant
    value = tf.get_static_value(constant)
    if value is None and given is not None:
        return np.broadcast_to(np.asarray(given, np.float32), constant.shape)
    return value


def _is_symbolic(value: Any) -> bool:
    return hasattr(value, "_keras_history")


def _affine(function: str, operands: list[Any]) -> tuple[Any, Any] | None:
    """Scale and offset of an operation on one tensor and a constant, or None."""
    if function in _NEGATE and len(operands) == 1:
        return -1.0, 0.0
    if len(operands) != 2 or _is_symbolic(operands[0]) == _is_symbolic(operands[1]):
        return None
    tensor, constant = operands if _is_symbolic(operands[0]) else operands[::-1]
    value = _per_channel(constant, tensor.shape[-1])
    if value is None:
        return None
    first = tensor is operands[0]
    if function in _ADD:
        return 1.0, value
    if function in _SUBTRACT:
        return (1.0, -value) if first else (-1.0, value)
    if function in _MULTIPLY:
        return value, 0.0
    if function in _DIVIDE and first:
        return 1.0 / value, 0.0
    return None


def _per_channel(constant: Any, channels: int | None) -> np.ndarray | None:
    """A constant as a number or one for each channel; None where it is neither."""
    try:
        value = np.asarray(_value(constant), np.float32)
    except (TypeError, ValueError):
        return None
    if value.size == 1:
        return value.reshape(())
    return value.reshape(-1) if value.size == channels == value.shape[-1] else None
