"""Random graphs of one operator with extreme parameters that graphs may have, and codes for them.

Scales over many powers of two, zero points and codes at both ends, kernels of nothing but ends,
biases up to int32, windows as large as images, long rows: what no trained network has all at once.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable

import numpy as np

from export.ir.graph import IntegerGraph
from export.ir.operators import (
    PROBABILITIES,
    Add,
    Binary,
    Concatenate,
    Conv2D,
    Convolution,
    DepthToSpace,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
    Logistic,
    Maximum,
    Minimum,
    Multiply,
    Operator,
    Pad,
    Pool2D,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    Slice,
    Softmax,
    SpaceToDepth,
    Subtract,
    Transpose,
    TransposeConv2D,
    Weighted,
    accumulator_limit,
)
from export.ir.tensors import Tensor
from export.ir.weight_dtypes import LARGEST
from export.kernel_sets.narrow_weights import DTYPE_BITS
from wrpn_tf import QuantizationParameters

_MOST_ELEMENTS = 1 << 15  # Of a tensor, so that ten thousand graphs take minutes.
_LARGEST_MULTIPLIER = 255.9
_LARGEST_PRODUCT = 2.0**31 - 2**11

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """An operator and its tensors: those that it reads, by name, and the one that it writes."""

    operator: Operator
    inputs: dict[str, Tensor]
    output: Tensor


class Draw:
    """Seeded choices."""

    def __init__(self, kind: str, seed: int) -> None:
        self.rng = np.random.default_rng([zlib.crc32(kind.encode()), seed])

    def one(self, *options):
        """One of the options."""
        return options[self.rng.integers(len(options))]

    def size(self, low: int, high: int) -> int:
        """A size; half of the time one of the smaller."""
        return int(self.rng.integers(low, self.one(high, min(high, low + 8)) + 1))

    def scale(self, low: float = -24, high: float = 12) -> float:
        """A float32 between two powers of two; a third of the time a power of two."""
        power = self.rng.uniform(low, high)
        return float(np.float32(2.0 ** self.one(power, power, np.round(power))))

    def zero_point(self) -> int:
        """Anything; most of the time an end, or one of a k-bit activation."""
        return int(self.one(-128, 127, 126, 112, 0, -1, self.rng.integers(-128, 128)))

    def quantization(self, scale: float | None = None) -> QuantizationParameters:
        """A grid."""
        return QuantizationParameters.int8(
            scale=self.scale() if scale is None else scale, zero_point=self.zero_point()
        )

    def codes(self, shape: Shape, zero_point: int) -> np.ndarray:
        """Codes of one kind: any, both ends, near the zero point, one only, or mostly an end."""
        anywhere = self.rng.integers(-128, 128, shape)
        ends = self.rng.choice([-128, 127], shape)
        match self.rng.integers(6):
            case 0 | 1:
                codes = anywhere
            case 2:
                codes = ends
            case 3:
                codes = zero_point + self.rng.integers(-2, 3, shape)
            case 4:
                codes = np.full(shape, self.one(-128, 127, self.rng.integers(-128, 128)))
            case _:
                codes = np.where(self.rng.random(shape) < 0.9, self.one(-128, 127), anywhere)
        return codes.clip(-128, 127).astype(np.int8)

    def image(self, most: int = 24, channels: int = 40) -> Shape:
        """A shape of an image that is not too large."""
        depth = self.size(1, channels)
        height = self.size(1, most)
        width = self.size(1, max(1, min(most, _MOST_ELEMENTS // (height * depth))))
        return (1, height, width, depth)

    def row(self, most: int) -> Shape:
        """A shape of one row."""
        return (1, self.size(1, most))


def one_operator(kind: str, seed: int) -> tuple[IntegerGraph, dict[str, np.ndarray]]:
    """A graph of one operator, and codes of its inputs.

    Args:
      kind: one of `KINDS`.
      seed: all else is drawn from it.
    """
    draw = Draw(kind, seed)
    drawn = KINDS[kind](draw)
    graph = IntegerGraph(
        tensors={**drawn.inputs, "output": drawn.output},
        operators=[drawn.operator],
        inputs=tuple(drawn.inputs),
        outputs=("output",),
    )
    batch = draw.one(1, 1, 2, 3)
    inputs = {
        name: draw.codes((batch, *tensor.shape[1:]), tensor.quantization.zero_point)
        for name, tensor in drawn.inputs.items()
    }
    return graph, inputs


def _convolution(draw: Draw, form: type[Convolution]) -> Drawn:
    shape = draw.image()
    depth, groups = shape[3], 1
    if form is GroupedConv2D:
        groups = draw.size(2, 5)
        depth = groups * draw.size(1, 6)
        shape = (*shape[:3], depth)
    padding = draw.one("SAME", "VALID")
    strides = (draw.size(1, 4), draw.size(1, 4))
    dilation = draw.one((1, 1), (1, 1), (draw.size(1, 3), draw.size(1, 3)))
    if dilation != (1, 1) and form is not DepthwiseConv2D:
        strides = (1, 1)
    # Within the image where nothing is padded.
    spans = [size if padding == "VALID" else size + 2 for size in shape[1:3]]
    window = [
        draw.size(1, max(1, min(7, (span - 1) // step + 1)))
        for span, step in zip(spans, dilation, strict=True)
    ]
    if form is DepthwiseConv2D:
        channels = depth * draw.one(1, 1, 1, 2, 3)
        kernel: Shape = (1, *window, channels)
    else:
        channels = groups * draw.size(1, 24)
        kernel = (channels, *window, depth // groups)
    source, target = draw.quantization(), draw.quantization()
    operator = form(
        inputs=("input",),
        output="output",
        padding=padding,
        strides=strides,
        dilation=dilation,
        **_weights(draw, form, kernel, channels, source, target),
    )
    return _finished(operator, {"input": Tensor(shape=shape, quantization=source)}, target)


def _transposed(draw: Draw) -> Drawn:
    shape = draw.image(most=10, channels=24)
    strides = (draw.size(1, 4), draw.size(1, 4))
    kernel = (draw.size(1, 24), draw.size(1, 6), draw.size(1, 6), shape[3])
    source, target = draw.quantization(), draw.quantization()
    operator = TransposeConv2D(
        inputs=("input",),
        output="output",
        strides=strides,
        padding=draw.one("SAME", "VALID"),
        **_weights(draw, TransposeConv2D, kernel, kernel[0], source, target),
    )
    return _finished(operator, {"input": Tensor(shape=shape, quantization=source)}, target)


def _dense(draw: Draw) -> Drawn:
    shape = draw.one(draw.row(3000), draw.row(64), draw.image(most=6))
    kernel = (draw.size(1, 40), shape[-1])
    source, target = draw.quantization(), draw.quantization()
    weights = _weights(draw, FullyConnected, kernel, kernel[0], source, target)
    if draw.one(True, False):
        weights["kernel_scale"][:] = weights["kernel_scale"][0]
    operator = FullyConnected(inputs=("input",), output="output", **weights)
    return _finished(operator, {"input": Tensor(shape=shape, quantization=source)}, target)


def _weights(
    draw: Draw,
    form: type[Weighted],
    shape: Shape,
    channels: int,
    source: QuantizationParameters,
    target: QuantizationParameters,
) -> dict:
    """A kernel with biases and scales for it, as fields of the operator."""
    dtype_bits = draw.one(8, *DTYPE_BITS[form])
    limit = LARGEST[dtype_bits]
    whole = draw.rng.integers(-limit, limit + 1, shape)
    match draw.rng.integers(5):
        case 0:
            kernel = draw.rng.choice([-limit, limit], shape)
        case 1:
            kernel = np.where(draw.rng.random(shape) < 0.8, 0, whole)
        case 2:
            kernel = draw.one(-1, 1) * np.abs(whole)
        case _:
            kernel = whole
    rows = np.moveaxis(kernel, form.channel_axis, 0).reshape(channels, -1)
    reach = np.abs(rows).sum(axis=1) * 255
    room = accumulator_limit(dtype_bits) - reach
    match draw.rng.integers(4):
        case 0:
            bias = np.zeros(channels, np.int64)
        case 1:
            bias = draw.rng.integers(-room, room + 1)
        case 2:
            bias = draw.rng.choice([-1, 1], channels) * room
        case _:
            bias = draw.rng.integers(-reach - 1, reach + 2)
    bias = bias.clip(-room, room)
    # Most of the time the codes have room in the output; else anything that the kernels take.
    middle = 8 - np.log2(reach / np.sqrt(rows.shape[1]) + 1)
    power = draw.one(middle, middle, middle, 0.0) + draw.rng.uniform(-3, 3, channels)
    if draw.one(True, False, False, False):
        power = draw.rng.uniform(-30, 8, channels)
    if draw.one(True, False):
        power = np.round(power)
    most = _LARGEST_PRODUCT / (reach + np.abs(bias) + 1)
    multiplier = np.minimum(2.0**power, np.minimum(most, _LARGEST_MULTIPLIER))
    scale = (multiplier * target.scale / source.scale).astype(np.float32)
    return {
        "kernel": kernel.astype(np.int8),
        "kernel_scale": scale,
        "bias": bias.astype(np.int32),
        "relu": draw.one(True, False),
        "dtype_bits": dtype_bits,
    }


def _pair(draw: Draw, operator: type[Binary]) -> Drawn:
    """A sum or difference: scales some powers of two apart."""
    left = draw.quantization(draw.scale(-16, 8))
    right = draw.quantization(float(np.float32(left.scale * draw.scale(-12, 12))))
    largest = max(left.scale, right.scale)
    target = draw.quantization(float(np.float32(largest * draw.scale(-6, 12))))
    shape = draw.one(draw.image(), draw.row(200))
    inputs = {
        name: Tensor(shape=shape, quantization=each) for name, each in (("a", left), ("b", right))
    }
    chosen = operator(inputs=("a", "b"), output="output", relu=draw.one(True, False))  # type: ignore[call-arg]
    return _finished(chosen, inputs, target)


def _extremum(draw: Draw, operator: type[Binary]) -> Drawn:
    tensor = Tensor(shape=draw.one(draw.image(), draw.row(200)), quantization=draw.quantization())
    chosen = operator(inputs=("a", "b"), output="output")
    return _finished(chosen, {"a": tensor, "b": tensor}, tensor.quantization)


def _product(draw: Draw) -> Drawn:
    left, right = draw.quantization(draw.scale(-16, 8)), draw.quantization(draw.scale(-16, 8))
    step = 2.0 ** draw.one(draw.rng.uniform(-20, 0), draw.rng.uniform(-2, 0), -draw.size(1, 20))
    target = draw.quantization(float(np.float32(left.scale * right.scale / step)))
    shape = draw.one(draw.image(), draw.row(200))
    gate = (1, *(draw.one(1, size) for size in shape[1:]))
    other = draw.one(shape, (1,) * (len(shape) - 1) + shape[-1:], gate)
    inputs = {
        "a": Tensor(shape=shape, quantization=left),
        "b": Tensor(shape=other, quantization=right),
    }
    operator = Multiply(inputs=("a", "b"), output="output", relu=draw.one(True, False))
    return _finished(operator, inputs, target)


def _pool(draw: Draw, kind: str) -> Drawn:
    tensor = Tensor(shape=draw.image(most=40), quantization=draw.quantization())
    padding = draw.one("SAME", "VALID")
    whole = draw.one(True, False, False)
    window = tuple(
        size if whole else draw.size(1, size if padding == "VALID" else size + 2)
        for size in tensor.shape[1:3]
    )
    operator = Pool2D(
        inputs=("input",),
        output="output",
        kind=kind,
        window=window,  # type: ignore[arg-type]
        strides=(draw.size(1, 5), draw.size(1, 5)),
        padding=padding,
    )
    return _finished(operator, {"input": tensor}, tensor.quantization)


def _concatenate(draw: Draw) -> Drawn:
    shape, grid = draw.one(draw.image(), draw.row(200)), draw.quantization()
    axis = draw.size(1, len(shape) - 1)
    inputs = {}
    for index in range(draw.size(1, 6)):
        part = (*shape[:axis], draw.size(1, 9), *shape[axis + 1 :])
        inputs[f"part{index}"] = Tensor(shape=part, quantization=grid)
    operator = Concatenate(inputs=tuple(inputs), output="output", axis=axis)
    return _finished(operator, inputs, grid)


def _pad(draw: Draw) -> Drawn:
    tensor = Tensor(shape=draw.image(), quantization=draw.quantization())
    amounts = ((draw.size(0, 9), draw.size(0, 9)), (draw.size(0, 9), draw.size(0, 9)))
    operator = Pad(inputs=("input",), output="output", padding=amounts)
    return _finished(operator, {"input": tensor}, tensor.quantization)


def _slice(draw: Draw) -> Drawn:
    tensor = Tensor(shape=draw.one(draw.image(), draw.row(200)), quantization=draw.quantization())
    begin = tuple(draw.size(0, size - 1) for size in tensor.shape[1:])
    strides = tuple(draw.one(1, 1, -1, draw.size(1, 5), -draw.size(1, 5)) for _ in begin)
    axes = zip(tensor.shape[1:], begin, strides, strict=True)
    room = [
        (size - 1 - first) // step if step > 0 else first // -step for size, first, step in axes
    ]
    declared = (1, *(draw.size(1, most + 1) for most in room))
    operator = Slice(
        inputs=("input",), output="output", begin=begin, strides=draw.one(strides, strides, ())
    )
    if not operator.strides:
        ends = zip(tensor.shape[1:], begin, strict=True)
        declared = (1, *(draw.size(1, size - first) for size, first in ends))
    return _finished(operator, {"input": tensor}, tensor.quantization, declared)


def _transpose(draw: Draw) -> Drawn:
    shape = draw.one(draw.image(), draw.image(most=12, channels=12), draw.row(200))
    if draw.one(True, False) and len(shape) == 4:
        shape = (*shape[:3], draw.size(1, 4), shape[3]) if math.prod(shape) < 8192 else shape
    tensor = Tensor(shape=shape, quantization=draw.quantization())
    axes = (0, *(1 + draw.rng.permutation(len(shape) - 1)).tolist())
    operator = Transpose(inputs=("input",), output="output", axes=axes)
    return _finished(operator, {"input": tensor}, tensor.quantization)


def _blocks(draw: Draw, operator: type[DepthToSpace | SpaceToDepth]) -> Drawn:
    block = draw.size(2, 5)
    _, height, width, depth = draw.image(most=12, channels=12)
    shape = (1, height, width, depth * block**2)
    if operator is SpaceToDepth:
        shape = (1, height * block, width * block, depth)
    tensor = Tensor(shape=shape, quantization=draw.quantization())
    chosen = operator(inputs=("input",), output="output", block_size=block)
    return _finished(chosen, {"input": tensor}, tensor.quantization)


def _nearest(draw: Draw) -> Drawn:
    return _resized(draw, ResizeNearest(inputs=("input",), output="output"), range(1, 130))


def _bilinear(draw: Draw) -> Drawn:
    operator = ResizeBilinear(inputs=("input",), output="output")
    return _resized(draw, operator, [2**power for power in range(7)])


def _resized(draw: Draw, operator: Operator, factors) -> Drawn:
    """Long in one direction or the other, and of up to as many elements as others have."""
    long, factor = draw.size(1, 300), draw.one(*factors)
    short, other = draw.one(1, 1, 2, 3), draw.one(1, 2, draw.one(*factors))
    room = max(1, 2 * _MOST_ELEMENTS // (long * factor))
    other = max(each for each in factors if each <= max(1, min(other, room // short)))
    depth = draw.size(1, max(1, min(20, room // (short * other))))
    shape, output = (1, long, short, depth), (1, long * factor, short * other, depth)
    if draw.one(True, False):
        shape, output = (1, short, long, depth), (1, short * other, long * factor, depth)
    tensor = Tensor(shape=shape, quantization=draw.quantization())
    return _finished(operator, {"input": tensor}, tensor.quantization, output)


def _reshape(draw: Draw) -> Drawn:
    tensor = Tensor(shape=draw.image(), quantization=draw.quantization())
    _, height, width, depth = tensor.shape
    declared = draw.one((1, height * width * depth), (1, width, height * depth), (1, height, depth))
    if math.prod(declared) != math.prod(tensor.shape):
        declared = (1, depth, height, width)
    operator = Reshape(inputs=("input",), output="output")
    return _finished(operator, {"input": tensor}, tensor.quantization, declared)


def _logistic(draw: Draw) -> Drawn:
    shape = draw.one(draw.image(), draw.row(600))
    tensor = Tensor(shape=shape, quantization=draw.quantization())
    operator = Logistic(inputs=("input",), output="output")
    return _finished(operator, {"input": tensor}, PROBABILITIES)


def _softmax(draw: Draw) -> Drawn:
    shape = draw.one(draw.row(2000), draw.row(64), draw.image(most=6))
    grid = draw.quantization(draw.one(draw.scale(), draw.scale(-8, 0)))
    operator = Softmax(inputs=("input",), output="output")
    return _finished(operator, {"input": Tensor(shape=shape, quantization=grid)}, PROBABILITIES)


def _finished(
    operator: Operator,
    inputs: dict[str, Tensor],
    target: QuantizationParameters,
    declared: Shape = (),
) -> Drawn:
    shape = operator.output_shape([inputs[name].shape for name in operator.inputs], declared)
    return Drawn(operator, inputs, Tensor(shape=shape, quantization=target))


KINDS: dict[str, Callable[[Draw], Drawn]] = {
    "CONV_2D": lambda draw: _convolution(draw, Conv2D),
    "CONV_2D with groups": lambda draw: _convolution(draw, GroupedConv2D),
    "DEPTHWISE_CONV_2D": lambda draw: _convolution(draw, DepthwiseConv2D),
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _dense,
    "ADD": lambda draw: _pair(draw, Add),
    "SUB": lambda draw: _pair(draw, Subtract),
    "MAXIMUM": lambda draw: _extremum(draw, Maximum),
    "MINIMUM": lambda draw: _extremum(draw, Minimum),
    "MUL": _product,
    "MAX_POOL_2D": lambda draw: _pool(draw, "max"),
    "AVERAGE_POOL_2D": lambda draw: _pool(draw, "average"),
    "CONCATENATION": _concatenate,
    "PAD": _pad,
    "STRIDED_SLICE": _slice,
    "TRANSPOSE": _transpose,
    "DEPTH_TO_SPACE": lambda draw: _blocks(draw, DepthToSpace),
    "SPACE_TO_DEPTH": lambda draw: _blocks(draw, SpaceToDepth),
    "RESIZE_NEAREST_NEIGHBOR": _nearest,
    "RESIZE_BILINEAR": _bilinear,
    "RESHAPE": _reshape,
    "LOGISTIC": _logistic,
    "SOFTMAX": _softmax,
}
"""By TFLite's name: what draws an operator and its tensors."""
