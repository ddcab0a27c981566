"""Random small integer graphs, one operator each, for the tests of the exporter."""

from __future__ import annotations

import numpy as np

from export.ir.graph import IntegerGraph
from export.ir.operators import (
    PROBABILITIES,
    Add,
    Concatenate,
    Conv2D,
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
)
from export.ir.tensors import Tensor
from wrpn_tf import QuantizationParameters

ZERO_POINTS = (112, 124, 126, -128, 0, -7)
KINDS = (
    "conv",
    "grouped conv",
    "depthwise",
    "transposed",
    "dense",
    "dense per tensor",
    "add",
    "subtract",
    "maximum",
    "minimum",
    "multiply",
    "scale channels",
    "scale pixels",
    "max",
    "average",
    "concatenate",
    "pad",
    "slice",
    "strided slice",
    "transpose",
    "depth to space",
    "space to depth",
    "resize",
    "bilinear",
    "reshape",
    "logistic",
    "softmax",
)


def float32(value: float) -> float:
    return float(np.float32(value))


class Draw:
    """Seeded choices."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def one(self, *options):
        return options[self.rng.integers(len(options))]

    def size(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def quantization(self) -> QuantizationParameters:
        scale = self.one(1 / 15, 1 / 3, 1.0, 0.25, float(self.rng.uniform(0.01, 0.5)))
        return QuantizationParameters.int8(scale=float32(scale), zero_point=self.one(*ZERO_POINTS))

    def product_quantization(
        self, left: QuantizationParameters, right: QuantizationParameters
    ) -> QuantizationParameters:
        """A grid for products; half of the time a step of theirs is a power of two of its own."""
        multiplier = 2.0 ** self.rng.uniform(-12, -1)
        if self.one(True, False):
            multiplier = 2.0 ** np.round(np.log2(multiplier))
        scale = float32(left.scale * right.scale / multiplier)
        return QuantizationParameters.int8(scale=scale, zero_point=self.one(*ZERO_POINTS))

    def image(self) -> tuple[int, int, int, int]:
        return (1, self.size(3, 9), self.size(3, 9), self.size(1, 9))

    def codes(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.integers(-128, 128, shape).astype(np.int8)


def one_operator(kind: str, seed: int) -> IntegerGraph:
    """A graph of one operator of `kind`, all else drawn from `seed`."""
    draw = Draw(seed)
    inputs = {"input": Tensor(shape=draw.image(), quantization=draw.quantization())}
    tensor = inputs["input"]
    target = tensor.quantization
    names = ("input",)
    operator: Operator
    if kind in ("conv", "grouped conv", "depthwise"):
        if kind == "grouped conv":
            shape = (*tensor.shape[:3], draw.size(2, 4) * draw.size(1, 3))
            inputs["input"] = tensor = Tensor(shape=shape, quantization=tensor.quantization)
        operator, target = _convolution(draw, kind, tensor)
    elif kind == "transposed":
        target = draw.quantization()
        shape = (draw.size(1, 20), draw.size(1, 4), draw.size(1, 4), tensor.shape[3])
        operator = TransposeConv2D(
            inputs=names,
            output="output",
            strides=(draw.size(1, 3), draw.size(1, 3)),
            padding=draw.one("SAME", "VALID"),
            **_weights(draw, shape, shape[0], tensor.quantization, target),
        )
    elif kind in ("dense", "dense per tensor"):
        inputs["input"] = tensor = Tensor(
            shape=(1, draw.size(1, 40)), quantization=tensor.quantization
        )
        target = draw.quantization()
        shape = (draw.size(1, 12), tensor.shape[1])
        weights = _weights(draw, shape, shape[0], tensor.quantization, target)
        if kind == "dense per tensor":
            weights["kernel_scale"][:] = weights["kernel_scale"][0]
        operator = FullyConnected(inputs=names, output="output", **weights)
    elif kind in ("add", "subtract"):
        inputs["other"] = Tensor(shape=tensor.shape, quantization=draw.quantization())
        target = draw.quantization()
        binary = Add if kind == "add" else Subtract
        operator = binary(inputs=("input", "other"), output="output", relu=draw.one(True, False))
    elif kind in ("maximum", "minimum"):
        inputs["other"] = tensor
        extremum = Maximum if kind == "maximum" else Minimum
        operator = extremum(inputs=("input", "other"), output="output")
    elif kind in ("multiply", "scale channels", "scale pixels"):
        shape = tensor.shape
        if kind == "scale channels":
            shape = (1, 1, 1, shape[3])
        elif kind == "scale pixels":
            shape = draw.one((*shape[:3], 1), (1, shape[1], 1, 1), (1, 1, shape[2], shape[3]))
        inputs["other"] = Tensor(shape=shape, quantization=draw.quantization())
        target = draw.product_quantization(tensor.quantization, inputs["other"].quantization)
        operator = Multiply(inputs=("input", "other"), output="output", relu=draw.one(True, False))
    elif kind in ("max", "average"):
        operator = Pool2D(
            inputs=names,
            output="output",
            kind=kind,
            window=(draw.size(1, 3), draw.size(1, 3)),
            strides=(draw.size(1, 2), draw.size(1, 2)),
            padding=draw.one("SAME", "VALID"),
        )
    elif kind == "concatenate":
        axis = draw.size(1, 3)
        parts = [list(tensor.shape) for _ in range(draw.size(1, 2))]
        for index, shape in enumerate(parts):
            shape[axis] = draw.size(1, 5)
            inputs[f"other{index}"] = Tensor(shape=tuple(shape), quantization=tensor.quantization)
        operator = Concatenate(inputs=tuple(inputs), output="output", axis=axis)
    elif kind == "pad":
        amounts = ((draw.size(0, 2), draw.size(0, 2)), (draw.size(0, 2), draw.size(0, 2)))
        lowest = draw.one(True, False)
        operator = Pad(inputs=names, output="output", padding=amounts, lowest=lowest)
    elif kind == "slice":
        begin = tuple(draw.size(0, size - 1) for size in tensor.shape[1:])
        operator = Slice(inputs=names, output="output", begin=begin)
    elif kind == "strided slice":
        begin = tuple(draw.size(0, size - 1) for size in tensor.shape[1:])
        strides = tuple(draw.one(-2, -1, 1, 2, 3) for _ in begin)
        operator = Slice(inputs=names, output="output", begin=begin, strides=strides)
    elif kind == "transpose":
        rank = draw.size(2, 6)
        shape = (1, *(draw.size(1, 4) for _ in range(rank - 1)))
        inputs["input"] = tensor = Tensor(shape=shape, quantization=tensor.quantization)
        axes = (0, *(1 + draw.rng.permutation(rank - 1)).tolist())
        operator = Transpose(inputs=names, output="output", axes=axes)
    elif kind in ("depth to space", "space to depth"):
        size = draw.size(2, 3)
        batch, height, width, depth = tensor.shape
        by_block = (batch, height, width, depth * size**2)
        if kind == "space to depth":
            by_block = (batch, height * size, width * size, depth)
        inputs["input"] = tensor = Tensor(shape=by_block, quantization=tensor.quantization)
        moved = DepthToSpace if kind == "depth to space" else SpaceToDepth
        operator = moved(inputs=names, output="output", block_size=size)
    elif kind == "resize":
        operator = ResizeNearest(inputs=names, output="output")
    elif kind == "bilinear":
        operator = ResizeBilinear(inputs=names, output="output")
    elif kind == "logistic":
        target = PROBABILITIES
        operator = Logistic(inputs=names, output="output")
    elif kind == "reshape":
        operator = Reshape(inputs=names, output="output")
    elif kind == "softmax":
        inputs["input"] = tensor = Tensor(
            shape=(1, draw.size(2, 20)), quantization=tensor.quantization
        )
        target = PROBABILITIES
        operator = Softmax(inputs=names, output="output")
    else:
        raise ValueError(kind)
    shape = tensor.shape
    if kind == "reshape":
        shape = (1, int(np.prod(shape)))
    elif isinstance(operator, Slice):
        axes = zip(tensor.shape[1:], operator.begin, operator.steps, strict=True)
        lasts = [len(range(begin, size if step > 0 else -1, step)) for size, begin, step in axes]
        shape = (1, *(draw.size(1, last) for last in lasts))
    elif kind == "resize":
        shape = (1, shape[1] * draw.size(1, 4), shape[2] * draw.size(1, 4), shape[3])
    elif kind == "bilinear":
        powers = (1, 2, 4, 8, 64)
        shape = (1, shape[1] * draw.one(*powers), shape[2] * draw.one(*powers), shape[3])
    else:
        shape = operator.output_shape([inputs[name].shape for name in operator.inputs], ())
    return IntegerGraph(
        tensors={**inputs, "output": Tensor(shape=shape, quantization=target)},
        operators=[operator],
        inputs=tuple(inputs),
        outputs=("output",),
    )


def _convolution(draw: Draw, kind: str, tensor: Tensor) -> tuple[Operator, QuantizationParameters]:
    target = draw.quantization()
    window = (draw.size(1, 3), draw.size(1, 3))
    options = {
        "padding": draw.one("SAME", "VALID"),
        "strides": draw.one((1, 1), (2, 2), (1, 2), (2, 1)),
        "dilation": (1, 1),
    }
    if max(window[0] * 2 - 1, window[1] * 2 - 1) <= min(tensor.shape[1:3]):
        options["dilation"] = draw.one((1, 1), (2, 2))
    depth = tensor.shape[3]
    if kind != "depthwise":
        groups = (
            draw.one(*(n for n in range(2, depth + 1) if not depth % n)) if "grouped" in kind else 1
        )
        channels = draw.size(1, 20 // groups) * groups
        shape = (channels, *window, depth // groups)
        weights = _weights(draw, shape, channels, tensor.quantization, target)
        conv = GroupedConv2D if groups > 1 else Conv2D
        operator: Operator = conv(inputs=("input",), output="output", **weights, **options)
    else:
        channels = depth * draw.one(1, 2)
        weights = _weights(draw, (1, *window, channels), channels, tensor.quantization, target)
        operator = DepthwiseConv2D(inputs=("input",), output="output", **weights, **options)
    return operator, target


def _weights(
    draw: Draw,
    shape: tuple[int, ...],
    channels: int,
    source: QuantizationParameters,
    target: QuantizationParameters,
) -> dict:
    """Codes of 1, 2, 4 or 8 bits, stretched or not, and scales that use the output's range.

    Half of the time the multiplier is a power of two, where rounding ties are common.
    """
    bits, code_multiplier = draw.one((1, 127), (2, 127), (2, 1), (4, 18), (8, 1))
    limit = max(1, 2 ** (bits - 1) - 1)
    codes = draw.rng.integers(-limit, limit + 1, shape)
    if bits == 1:
        codes = np.where(codes == 0, 1, codes)
    taps = codes.size // channels
    accumulators = 100 * limit * code_multiplier * np.sqrt(taps)
    multiplier = draw.rng.uniform(20, 200, channels) / accumulators
    if draw.one(True, False):
        multiplier = 2.0 ** np.round(np.log2(multiplier))
    scale = (multiplier * target.scale / source.scale).astype(np.float32)
    bias = draw.rng.integers(-int(accumulators), int(accumulators) + 1, channels).astype(np.int32)
    return {
        "kernel": (codes * code_multiplier).astype(np.int8),
        "kernel_scale": scale,
        "bias": bias,
        "relu": draw.one(True, False),
        "code_multiplier": code_multiplier,
        "bits": bits,
    }


def network(seed: int) -> IntegerGraph:
    """A residual block, a depthwise branch, concatenation, padding, pools, dense and softmax."""
    draw = Draw(seed)
    image = QuantizationParameters.int8(scale=float32(1 / 127), zero_point=-1)
    low = QuantizationParameters.int8(scale=float32(1 / 15), zero_point=112)
    wide = QuantizationParameters.int8(scale=float32(0.03), zero_point=-4)
    known = {
        "image": ((1, 9, 8, 3), image),
        "stem": ((1, 9, 8, 12), low),
        "branch": ((1, 9, 8, 12), wide),
        "sum": ((1, 9, 8, 12), low),
        "depthwise": ((1, 5, 4, 24), low),
        "pooled": ((1, 5, 4, 12), low),
        "joined": ((1, 5, 4, 36), low),
        "padded": ((1, 6, 7, 36), low),
        "mean": ((1, 1, 1, 36), low),
        "flat": ((1, 36), low),
        "logits": ((1, 10), QuantizationParameters.int8(scale=float32(0.02), zero_point=7)),
        "output": ((1, 10), PROBABILITIES),
    }
    tensors = {
        name: Tensor(shape=shape, quantization=quantization)
        for name, (shape, quantization) in known.items()
    }

    def weights(shape: tuple[int, ...], channels: int, source: str, target: str) -> dict:
        ends = tensors[source].quantization, tensors[target].quantization
        return {"inputs": (source,), "output": target, **_weights(draw, shape, channels, *ends)}

    operators: list[Operator] = [
        Conv2D(padding="SAME", **weights((12, 3, 3, 3), 12, "image", "stem")),
        Conv2D(padding="SAME", **weights((12, 3, 3, 12), 12, "stem", "branch")),
        Add(inputs=("branch", "stem"), output="sum", relu=True),
        DepthwiseConv2D(
            padding="SAME", strides=(2, 2), **weights((1, 3, 3, 24), 24, "sum", "depthwise")
        ),
        Pool2D(
            inputs=("sum",),
            output="pooled",
            kind="max",
            window=(2, 2),
            strides=(2, 2),
            padding="SAME",
        ),
        Concatenate(inputs=("depthwise", "pooled"), output="joined", axis=3),
        Pad(inputs=("joined",), output="padded", padding=((0, 1), (1, 2))),
        Pool2D(inputs=("padded",), output="mean", kind="average", window=(6, 7), strides=(1, 1)),
        Reshape(inputs=("mean",), output="flat"),
        FullyConnected(**weights((10, 36), 10, "flat", "logits")),
        Softmax(inputs=("logits",), output="output"),
    ]
    return IntegerGraph(
        tensors=tensors,
        operators=operators,
        inputs=("image",),
        outputs=("output",),
        metadata={
            "name": "network",
            "description": "A network for tests",
            "labels": [f"class {index}" for index in range(10)],
            "normalization": {"image": {"mean": [127.5], "std": [127.5]}},
        },
    )
