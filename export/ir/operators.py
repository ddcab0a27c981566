"""The operators of the integer graph: each class is all that an operator means.

A class has the operator's attributes, how many tensors it reads, the shape that it gives, which of
its tensors share a scale, and what else must hold for TFLite's kernels to compute it. What others
do with operators (execution, TFLite's opcodes, rounding rules, proofs, C) are tables from class to
function, one for each of these concerns.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from export.ir import geometry, nearest, weight_dtypes
from export.ir.provenance import TRAINED
from export.ir.tensors import Tensor
from wrpn_tf import QuantizationParameters

_INT32_MAX = 2**31 - 1
_INT16_MAX = 2**15 - 1
_MULTIPLIER_LIMIT = 256
_BLOCK = 1 << 24  # Codes that are looked at together.
_MOST_AXES = 6  # With more, XNNPACK refuses a model, or leaves operators to other kernels.
# Others do not fit the fixed-point positions of the built-in kernels.
_BILINEAR_FACTORS = frozenset(2**power for power in range(7))

PRODUCT_MAX = 2**31 - 2**10
"""The most output steps that kernels keep: int32, less a zero point and float32's rounding."""

PROBABILITIES = QuantizationParameters(scale=1 / 256, low=0, high=255, bits=8)
"""Of what LOGISTIC and SOFTMAX give, the only parameters that their kernels take."""

Shape = tuple[int, ...]


class ScaleConstraint(enum.Enum):
    """Which tensors of an operator must have one scale and one zero point.

    Members:
      NONE: none; each tensor has its own.
      SAME_AS_INPUT: the output has those of the one input, whose codes it moves or averages.
      ALL_EQUAL: all inputs and the output have the same.
      FIXED_OUTPUT: the output has `PROBABILITIES`.
    """

    NONE = "none"
    SAME_AS_INPUT = "same as input"
    ALL_EQUAL = "all equal"
    FIXED_OUTPUT = "fixed output"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Operator:
    """One operator: reads the tensors named `inputs`, writes the tensor named `output`.

    Class attributes:
      arity: how many tensors it reads; None: one or more.
      scale_constraint: which of its tensors share scale and zero point.
      takes_images: whether its first input must be ``[1, height, width, channels]``.
      most_axes: how many its inputs may have.
    """

    inputs: tuple[str, ...]
    output: str

    arity: ClassVar[int | None] = 1
    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.NONE
    takes_images: ClassVar[bool] = False
    most_axes: ClassVar[float] = math.inf

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        """The shape that the operator gives.

        Args:
          inputs: shapes of the tensors it reads.
          declared: the shape that the graph has for the output. `Reshape`, `Slice` and resizing
            have no other word of it: they check it and give it.

        Raises:
          ValueError: the operator cannot take these shapes.
        """
        return inputs[0]

    def check(self, inputs: Sequence[Tensor], output: Tensor) -> None:
        """Raises ValueError where the operator does not compute `output` from `inputs`.

        Args:
          inputs: the tensors it reads, each sound by itself.
          output: the tensor it writes.

        Raises:
          ValueError: says what is wrong.
        """
        if not inputs or (self.arity is not None and len(inputs) != self.arity):
            wanted = "at least 1" if self.arity is None else self.arity
            raise ValueError(f"{type(self).__name__} has {len(inputs)} inputs, not {wanted}")
        self._check_scales(inputs, output)
        self._check_numbers(inputs, output)
        if self.takes_images and len(inputs[0].shape) != 4:
            raise ValueError(
                f"input {self.inputs[0]!r} has shape {inputs[0].shape}, not 4 dimensions"
            )
        for tensor in inputs:
            if len(tensor.shape) > self.most_axes:
                raise ValueError(f"{tensor.shape} has more than {self.most_axes} axes")
        shape = self.output_shape([tensor.shape for tensor in inputs], output.shape)
        if shape != output.shape:
            raise ValueError(f"the output has shape {output.shape}, the operator gives {shape}")

    def _check_scales(self, inputs: Sequence[Tensor], output: Tensor) -> None:
        constraint, found = self.scale_constraint, output.quantization
        if constraint in (ScaleConstraint.SAME_AS_INPUT, ScaleConstraint.ALL_EQUAL):
            for name, tensor in zip(self.inputs, inputs, strict=True):
                if not tensor.quantization.same_scale(found):
                    raise ValueError(
                        f"input {name!r} has {_words(tensor.quantization)}, the output has "
                        f"{_words(found)}"
                    )
        if constraint is ScaleConstraint.FIXED_OUTPUT and not found.same_scale(PROBABILITIES):
            raise ValueError(f"the output has {_words(found)}, not {_words(PROBABILITIES)}")

    def _check_numbers(self, inputs: Sequence[Tensor], output: Tensor) -> None:
        """Raises ValueError for attributes or scales that the kernels do not compute with."""


def _words(quantization: QuantizationParameters) -> str:
    return f"scale {quantization.scale} and zero point {quantization.zero_point}"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Weighted(Operator):
    """An operator with a kernel: ``accumulator = sum(kernel * (input - input_zero_point)) + bias``.

    Attributes:
      kernel: int8; the trained codes times `code_multiplier`. Layout as in TFLite: see the
        subclasses.
      kernel_scale: float32, one positive scale per output channel (of the multiplied codes).
      bias: int32, one per output channel, in steps of ``input_scale * kernel_scale``.
      relu: whether codes below the output's zero point are clipped to it (fused RELU).
      code_multiplier: the factor by which the trained codes were multiplied, at least 1.
      bits: weight bits the layer was trained with.
      dtype_bits: bits in which a .tflite file holds a code of the kernel: 8, 4 or 2
        (`export.ir.weight_dtypes`).
      trained: `TRAINED`, one record per output channel: what `export.prove` holds the integers
        against; None where nothing is known of a training.

    Class attributes:
      channel_axis: the axis of the kernel that is the output channels.
      rank: dimensions of the kernel.
    """

    kernel: np.ndarray
    kernel_scale: np.ndarray
    bias: np.ndarray
    relu: bool = False
    code_multiplier: int = 1
    bits: int = 8
    dtype_bits: int = 8
    trained: np.ndarray | None = None

    channel_axis: ClassVar[int] = 0
    rank: ClassVar[int] = 4

    @property
    def rows(self) -> np.ndarray:
        """The kernel as int8 ``[channels, taps]``."""
        return self.kernel.reshape(self.kernel.shape[0], -1)

    @classmethod
    def kernel_of(cls, rows: np.ndarray, window: Sequence[int]) -> np.ndarray:
        """The kernel with given `rows` and a window of given height and width."""
        return rows.reshape(len(rows), *window, -1)

    @property
    def row_length(self) -> int:
        """Length of the kernel's last axis, whose codes lie side by side in a file."""
        return self.kernel.shape[-1]

    def _check_numbers(self, inputs: Sequence[Tensor], output: Tensor) -> None:
        self._check_kernel()
        self._check_accumulator()
        (source,) = inputs
        with np.errstate(over="ignore"):  # Infinity is refused.
            step = np.float32(source.quantization.scale) * self.kernel_scale
            step = step / np.float32(output.quantization.scale)
        if not step.max() < _MULTIPLIER_LIMIT:
            channel = int(step.argmax())
            raise ValueError(
                f"one accumulator step of channel {channel} is {step[channel]:g} output steps; "
                f"XNNPACK refuses models with {_MULTIPLIER_LIMIT} or more"
            )
        if not step.min() > 0:
            channel = int(step.argmin())
            raise ValueError(f"one accumulator step of channel {channel} rounds to 0 output steps")
        reach = self._magnitude() * step.astype(np.float64)
        if reach.max() > PRODUCT_MAX:
            channel = int(reach.argmax())
            raise ValueError(
                f"the accumulator of channel {channel} reaches {reach[channel]:.0f} output steps; "
                "kernels keep 32 bits, and give the wrong end beyond"
            )

    def _check_kernel(self) -> None:
        kernel, scale, bias = self.kernel, self.kernel_scale, self.bias
        if kernel.dtype != np.int8 or kernel.ndim != self.rank or kernel.size == 0:
            raise ValueError(
                f"the kernel is {kernel.dtype} {kernel.shape}, not int8 with {self.rank} dimensions"
            )
        channels = (kernel.shape[self.channel_axis],)
        if scale.dtype != np.float32 or scale.shape != channels:
            raise ValueError(f"kernel_scale is {scale.dtype} {scale.shape}, not float32 {channels}")
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError("kernel_scale is not positive and finite")
        if bias.dtype != np.int32 or bias.shape != channels:
            raise ValueError(f"the bias is {bias.dtype} {bias.shape}, not int32 {channels}")
        if kernel.min() < -127:
            raise ValueError("the kernel holds -128; codes lie in [-127, 127]")
        if self.dtype_bits not in weight_dtypes.LARGEST:
            raise ValueError(f"storage of {self.dtype_bits} bits; 8, 4 and 2 exist")
        if np.abs(kernel).max() > weight_dtypes.LARGEST[self.dtype_bits]:
            raise ValueError(f"the kernel does not fit its storage of {self.dtype_bits} bits")
        trained = self.trained
        if trained is not None and (trained.dtype != TRAINED or trained.shape != channels):
            raise ValueError(
                f"what was trained is {trained.dtype} {trained.shape}, not {TRAINED} {channels}"
            )
        if self.code_multiplier < 1:
            raise ValueError(f"code multiplier {self.code_multiplier} is below 1")
        if self.code_multiplier > weight_dtypes.LARGEST[8]:
            raise ValueError(f"code multiplier {self.code_multiplier} is above 127")
        if not 1 <= self.bits <= 8:
            raise ValueError(f"weights of {self.bits} bits; 1 to 8 exist")

    def _check_accumulator(self) -> None:
        magnitude = self._magnitude()
        limit = accumulator_limit(self.dtype_bits)
        if magnitude.max() > limit:
            worst = int(magnitude.argmax())
            bits = "int32" if limit == _INT32_MAX else f"the {limit} of INT4 kernels in XNNPACK"
            raise ValueError(
                f"the accumulator of channel {worst} reaches {magnitude[worst]}, beyond {bits}"
            )

    def _magnitude(self) -> np.ndarray:
        """How far from 0 the accumulators can be, int64 ``[channels]``."""
        rows = self.rows
        step = max(1, _BLOCK // rows.shape[1])  # Not all as int64: eight times the kernel.
        blocks = [rows[start : start + step] for start in range(0, len(rows), step)]
        sums = [np.abs(block.astype(np.int64)).sum(axis=1) for block in blocks]
        return 255 * np.concatenate(sums) + np.abs(self.bias.astype(np.int64))


def accumulator_limit(dtype_bits: int) -> int:
    """The largest magnitude of an accumulator, whose kernel is stored in 8, 4 or 2 bits.

    XNNPACK has 16 times the accumulator of INT4 kernels in 32 bits.
    """
    return _INT32_MAX // 16 if dtype_bits == 4 else _INT32_MAX


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Convolution(Weighted):
    """What convolutions have in common: a window that moves over the image.

    Attributes:
      strides: vertical and horizontal step of the window, at least 1.
      dilation: vertical and horizontal distance of its taps, at least 1.
      padding: 'SAME' or 'VALID'.
    """

    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str = "VALID"

    takes_images: ClassVar[bool] = True

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        batch, *_, depth = inputs[0]
        if not self._fits(depth):
            raise ValueError(f"kernel {self.kernel.shape} does not fit {depth} channels")
        height, width = self.kernel.shape[1:3]
        size = _positions(inputs[0], (height, width), self.strides, self.dilation, self.padding)
        return (batch, *size, self.kernel.shape[self.channel_axis])

    def _fits(self, depth: int) -> bool:
        """Whether the kernel takes an input with `depth` channels."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Conv2D(Convolution):
    """CONV_2D; kernel ``[out, height, width, in]``."""

    def _fits(self, depth: int) -> bool:
        return depth == self.kernel.shape[3]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GroupedConv2D(Conv2D):
    """CONV_2D in groups; kernel ``[out, height, width, in / groups]``.

    The n-th of the groups of output channels reads the n-th of the groups of input channels.
    """

    def groups(self, depth: int) -> int:
        """How many groups it has over an input with `depth` channels."""
        return depth // self.kernel.shape[3]

    def _fits(self, depth: int) -> bool:
        groups = self.groups(depth)
        channels, *_, part = self.kernel.shape
        return groups > 1 and depth == groups * part and channels % groups == 0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DepthwiseConv2D(Convolution):
    """DEPTHWISE_CONV_2D; kernel ``[1, height, width, out]``, ``out = in * depth_multiplier``."""

    channel_axis: ClassVar[int] = 3

    @property
    def rows(self) -> np.ndarray:
        """The kernel as int8 ``[channels, taps]``."""
        return self.kernel.reshape(-1, self.kernel.shape[3]).T

    @classmethod
    def kernel_of(cls, rows: np.ndarray, window: Sequence[int]) -> np.ndarray:
        """The kernel with given `rows` and a window of given height and width."""
        return np.ascontiguousarray(rows.T).reshape(1, *window, -1)

    def _fits(self, depth: int) -> bool:
        first, *_, channels = self.kernel.shape
        return first == 1 and channels % depth == 0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TransposeConv2D(Weighted):
    """TRANSPOSE_CONV; kernel ``[out, height, width, in]``; padding is 'SAME' or 'VALID'.

    Each input pixel adds its steps times the kernel to a window of the output. In a .tflite file
    `relu` is an operator of its own behind it: see `export.flatbuffer.opcodes`.
    """

    strides: tuple[int, int] = (1, 1)
    padding: str = "VALID"

    takes_images: ClassVar[bool] = True

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        batch, height, width, depth = inputs[0]
        channels, *window, taken = self.kernel.shape
        if taken != depth:
            raise ValueError(f"kernel {self.kernel.shape} does not fit {depth} channels")
        if min(self.strides) < 1:
            raise ValueError("strides must be at least 1")
        axes = zip((height, width), window, self.strides, strict=True)
        sizes = [geometry.transposed_size(*axis, self.padding) for axis in axes]
        return (batch, *sizes, channels)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FullyConnected(Weighted):
    """FULLY_CONNECTED over the last axis of a ``[batch, ..., in]`` tensor; kernel ``[out, in]``."""

    rank: ClassVar[int] = 2

    @classmethod
    def kernel_of(cls, rows: np.ndarray, window: Sequence[int]) -> np.ndarray:
        """The kernel with given `rows`; there is no window."""
        return rows

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        (source,) = inputs
        channels, taken = self.kernel.shape
        if taken != source[-1]:
            raise ValueError(f"kernel {self.kernel.shape} does not fit the input {source}")
        return (*source[:-1], channels)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Binary(Operator):
    """What operators on two tensors of one shape have in common."""

    arity: ClassVar[int | None] = 2
    most_axes: ClassVar[float] = _MOST_AXES

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        left, right = inputs
        if left != right:
            raise ValueError(f"shapes {left} and {right} differ")
        return left


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sum(Binary):
    """What ADD and SUB have in common: ``left + sign * right``, with an optional fused RELU.

    Attributes:
      relu: whether codes below the output's zero point are clipped to it.
    """

    relu: bool = False

    sign: ClassVar[int]

    def _check_numbers(self, inputs: Sequence[Tensor], output: Tensor) -> None:
        largest = sum(
            max(127 - each.zero_point, 128 + each.zero_point) * each.scale
            for each in (tensor.quantization for tensor in inputs)
        )
        reach = abs(output.quantization.zero_point) + largest / output.quantization.scale
        if reach > _INT16_MAX:
            raise ValueError(
                f"the sum reaches {reach:.0f} output steps; the built-in kernels keep 16 bits"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Add(Sum):
    """ADD of two tensors of one shape."""

    sign: ClassVar[int] = 1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Subtract(Sum):
    """SUB of the second of two tensors from the first."""

    sign: ClassVar[int] = -1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Maximum(Binary):
    """MAXIMUM of two tensors of one shape."""

    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.ALL_EQUAL


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Minimum(Binary):
    """MINIMUM of two tensors of one shape."""

    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.ALL_EQUAL


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Multiply(Binary):
    """MUL of two tensors, with an optional fused RELU.

    The shapes are equal, or the second has size 1 on some axes and is repeated there: a factor for
    each channel, or for each pixel.

    Attributes:
      relu: whether codes below the output's zero point are clipped to it.
    """

    relu: bool = False

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        left, right = inputs
        if len(left) == len(right) and all(b in (1, a) for a, b in zip(left, right, strict=True)):
            return left
        return super().output_shape(inputs, declared)

    def _check_numbers(self, inputs: Sequence[Tensor], output: Tensor) -> None:
        scales = [np.float32(tensor.quantization.scale) for tensor in inputs]
        step = float(np.prod(scales)) / output.quantization.scale
        if not step < 1:
            raise ValueError(
                f"one step of the product is {step:g} output steps; the built-in kernels take "
                "less than 1"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Logistic(Operator):
    """LOGISTIC, ``1 / (1 + exp(-x))``."""

    most_axes: ClassVar[float] = _MOST_AXES
    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.FIXED_OUTPUT


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Softmax(Operator):
    """SOFTMAX over the last axis."""

    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.FIXED_OUTPUT


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pool2D(Operator):
    """MAX_POOL_2D or AVERAGE_POOL_2D.

    Attributes:
      kind: 'max' or 'average'.
      window: height and width of the window, at least 1.
      strides: its vertical and horizontal step, at least 1.
      padding: 'SAME' or 'VALID'.
    """

    kind: str
    window: tuple[int, int]
    strides: tuple[int, int]
    padding: str = "VALID"

    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.SAME_AS_INPUT
    takes_images: ClassVar[bool] = True

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        if self.kind not in ("max", "average"):
            raise ValueError(f"kind must be 'max' or 'average', not {self.kind!r}")
        batch, *_, depth = inputs[0]
        size = _positions(inputs[0], self.window, self.strides, (1, 1), self.padding)
        return (batch, *size, depth)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Concatenate(Operator):
    """CONCATENATION along `axis` (counted with the batch as 0)."""

    axis: int

    arity: ClassVar[int | None] = None
    most_axes: ClassVar[float] = _MOST_AXES
    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.ALL_EQUAL

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        first, axis = inputs[0], self.axis
        if not 1 <= axis < len(first):
            raise ValueError(f"axis {axis} is outside [1, {len(first) - 1}]")
        rests = {shape[:axis] + shape[axis + 1 :] for shape in inputs}
        if len(rests) > 1 or len({len(shape) for shape in inputs}) > 1:
            raise ValueError(f"shapes {list(inputs)} do not concatenate along axis {axis}")
        return (*first[:axis], sum(shape[axis] for shape in inputs), *first[axis + 1 :])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pad(Operator):
    """PAD or PADV2: more pixels around images.

    Attributes:
      padding: ``((top, bottom), (left, right))``.
      lowest: with the lowest code, in front of a max pooling; else with the zero point.
    """

    padding: tuple[tuple[int, int], tuple[int, int]]
    lowest: bool = False

    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.SAME_AS_INPUT
    takes_images: ClassVar[bool] = True

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        if min(min(pair) for pair in self.padding) < 0:
            raise ValueError(f"padding {self.padding} is negative")
        (top, bottom), (left, right) = self.padding
        batch, height, width, depth = inputs[0]
        return (batch, height + top + bottom, width + left + right, depth)

    def value(self, quantization: QuantizationParameters) -> int:
        """The code that it pads with, on a grid."""
        return quantization.zero_point + (quantization.low if self.lowest else 0)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Slice(Operator):
    """STRIDED_SLICE: a part of the input, of the output's shape.

    Attributes:
      begin: first index on each axis but the batch.
      strides: from an index to the next, on each axis but the batch; not 0, below 0 for a reversed
        order. Empty: 1 on all.
    """

    begin: tuple[int, ...]
    strides: tuple[int, ...] = ()

    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.SAME_AS_INPUT

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        (source,) = inputs
        if len(source) != len(declared) or len(self.begin) != len(source) - 1:
            raise ValueError(f"{source} from {self.begin} does not give {declared}")
        if len(self.steps) != len(self.begin) or 0 in self.steps:
            raise ValueError(f"strides {self.strides} must be as many as {self.begin}, and not 0")
        axes = zip(self.begin, self.steps, declared[1:], strict=True)
        lasts = [begin + step * (size - 1) for begin, step, size in axes]
        ends = zip((*self.begin, *lasts), source[1:] * 2, strict=True)
        if not all(0 <= end < size for end, size in ends):
            raise ValueError(f"{declared} from {self.begin} reaches outside {source}")
        return declared

    @property
    def steps(self) -> tuple[int, ...]:
        """`strides`, 1 on all axes where they are left out."""
        return self.strides or (1,) * len(self.begin)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Transpose(Operator):
    """TRANSPOSE: the axes in another order.

    Attributes:
      axes: the input's axis for each of the output's; the batch, 0, stays the first.
    """

    axes: tuple[int, ...]

    most_axes: ClassVar[float] = _MOST_AXES
    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.SAME_AS_INPUT

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        (source,) = inputs
        if self.axes[:1] != (0,) or sorted(self.axes) != list(range(len(source))):
            raise ValueError(f"{self.axes} is no order of the axes of {source}, the batch first")
        return tuple(source[axis] for axis in self.axes)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DepthToSpace(Operator):
    """DEPTH_TO_SPACE: the channels of a pixel become a block of pixels.

    Attributes:
      block_size: height and width of a block, at least 2.
    """

    block_size: int

    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.SAME_AS_INPUT
    takes_images: ClassVar[bool] = True

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        batch, height, width, depth = inputs[0]
        size = self.block_size
        if size < 2 or depth % size**2:
            raise ValueError(f"{depth} channels are not blocks of {size} x {size}")
        return (batch, height * size, width * size, depth // size**2)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SpaceToDepth(Operator):
    """SPACE_TO_DEPTH: a block of pixels becomes the channels of one.

    Attributes:
      block_size: height and width of a block, at least 2.
    """

    block_size: int

    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.SAME_AS_INPUT
    takes_images: ClassVar[bool] = True

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        batch, height, width, depth = inputs[0]
        size = self.block_size
        if size < 2 or height % size or width % size:
            raise ValueError(f"{inputs[0]} is not made of blocks of {size} x {size}")
        return (batch, height // size, width // size, depth * size**2)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Resize(Operator):
    """What resizing has in common: height and width grow by whole factors."""

    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.SAME_AS_INPUT
    takes_images: ClassVar[bool] = True

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        (source,) = inputs
        if len(declared) != 4 or (source[0], source[3]) != (declared[0], declared[3]):
            raise ValueError(f"{source} is not enlarged to {declared} by whole factors")
        if declared[1] % source[1] or declared[2] % source[2]:
            raise ValueError(f"{source} is not enlarged to {declared} by whole factors")
        return declared

    def factors(self, source: Shape, output: Shape) -> tuple[int, int]:
        """By what height and width grow between two shapes."""
        return output[1] // source[1], output[2] // source[2]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ResizeNearest(Resize):
    """RESIZE_NEAREST_NEIGHBOR to the output's height and width, whole multiples of the input's."""

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        shape = super().output_shape(inputs, declared)
        self.half_pixel_centers(inputs[0], declared)
        return shape

    def half_pixel_centers(self, source: Shape, output: Shape) -> bool:
        """Whether a file must have the form with half-pixel centers: see `export.ir.nearest`.

        Raises:
          ValueError: no form is known to be exact.
        """
        axes = zip(source[1:3], self.factors(source, output), strict=True)
        return any([nearest.needs_half_pixel_centers(*axis) for axis in axes])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ResizeBilinear(Resize):
    """RESIZE_BILINEAR between centers of pixels, to powers of 2 up to 64 times the input's size.

    XNNPACK's float32 positions are exact up to 2^23 output rows, the fixed point of the others up
    to 2^21 input rows; `nearest.LIMIT` is within both.
    """

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        shape = super().output_shape(inputs, declared)
        if not _BILINEAR_FACTORS.issuperset(self.factors(inputs[0], declared)):
            raise ValueError(
                f"{inputs[0]} is enlarged to {declared}; only powers of 2 up to 64 are exact"
            )
        if max(declared[1:3]) >= nearest.LIMIT:
            raise ValueError(f"{declared}: kernels are exact below {nearest.LIMIT} rows or columns")
        return shape


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Reshape(Operator):
    """RESHAPE to the output tensor's shape."""

    scale_constraint: ClassVar[ScaleConstraint] = ScaleConstraint.SAME_AS_INPUT

    def output_shape(self, inputs: Sequence[Shape], declared: Shape) -> Shape:
        if math.prod(declared) != math.prod(inputs[0]):
            raise ValueError(f"{inputs[0]} does not reshape to {declared}")
        return declared


def _positions(
    image: Shape,
    window: tuple[int, int],
    strides: tuple[int, int],
    dilation: tuple[int, int],
    padding: str,
) -> tuple[int, int]:
    """At how many places a window lies in an image, by height and by width."""
    if min(*window, *strides, *dilation) < 1:
        raise ValueError("windows, strides and dilations must be at least 1")
    height, width = (
        geometry.output_size(image[axis + 1], window[axis], strides[axis], dilation[axis], padding)
        for axis in (0, 1)
    )
    if min(height, width) < 1:
        raise ValueError(f"the window {window} does not fit the input {image}")
    return height, width


OPERATORS: dict[str, type[Operator]] = {
    cls.__name__: cls
    for cls in (
        Conv2D,
        GroupedConv2D,
        DepthwiseConv2D,
        TransposeConv2D,
        FullyConnected,
        Add,
        Subtract,
        Maximum,
        Minimum,
        Multiply,
        Pool2D,
        Concatenate,
        Pad,
        Slice,
        Transpose,
        DepthToSpace,
        SpaceToDepth,
        ResizeNearest,
        ResizeBilinear,
        Reshape,
        Logistic,
        Softmax,
    )
}
"""All operators by name, as saved graphs name them."""
