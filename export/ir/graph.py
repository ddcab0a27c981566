"""The integer graph: what a trained network is once nothing in it is a float.

A list of operators over int8 tensors, each tensor on an affine grid
``real = scale * (code - zero_point)`` (TFLite quantization specification). It is what the NumPy
executor runs, what the TFLite writer writes, and what anyone rebuilding the network in C or on an
FPGA needs: integers, scales and zero points, nothing else.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Affine int8 grid: ``real = scale * (code - zero_point)``.

    Attributes:
      scale: positive step between neighbouring codes; exactly representable in float32.
      zero_point: code of the real value 0, in [-128, 127].
    """

    scale: float
    zero_point: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
    """An int8 activation tensor.

    Attributes:
      shape: dimensions with the batch first; the batch is 1.
      grid: the affine grid of its codes.
      bits: bits its codes need: at most ``2 ** bits`` distinct values ever occur.
    """

    shape: tuple[int, ...]
    grid: Grid
    bits: int = 8

    @property
    def low(self) -> int:
        """The smallest code, zero point subtracted."""
        return max(-128, 128 - 2**self.bits) - self.grid.zero_point

    @property
    def high(self) -> int:
        """The largest code, zero point subtracted."""
        return 127 - self.grid.zero_point


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Operator:
    """One operator: reads the tensors named `inputs`, writes the tensor named `output`."""

    inputs: tuple[str, ...]
    output: str


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Weighted(Operator):
    """An operator with a kernel: ``accumulator = sum(kernel * (input - input_zero_point)) + bias``.

    Attributes:
      kernel: int8; the trained codes times `code_multiplier`. Layout as in TFLite: see the
        subclasses.
      kernel_scale: float32, one positive scale per output channel (of the multiplied codes).
      bias: int32, one per output channel, on the grid ``input_scale * kernel_scale``.
      relu: whether codes below the output's zero point are clipped to it (fused RELU).
      code_multiplier: the factor by which the trained codes were multiplied, at least 1.
      bits: weight bits the layer was trained with.
      dtype_bits: bits in which a .tflite file holds a code of the kernel: 8, 4 or 2
        (`export.ir.weight_dtypes`).
      trained: `TRAINED`, one record per output channel: what `export.prove` holds the integers
        against; None where nothing is known of a training.
    """

    kernel: np.ndarray
    kernel_scale: np.ndarray
    bias: np.ndarray
    relu: bool = False
    code_multiplier: int = 1
    bits: int = 8
    dtype_bits: int = 8
    trained: np.ndarray | None = None


def channel_rows(operator: Weighted) -> np.ndarray:
    """The kernel as int8 ``[channels, taps]``."""
    kernel = operator.kernel
    if isinstance(operator, DepthwiseConv2D):
        return kernel.reshape(-1, kernel.shape[3]).T
    return kernel.reshape(kernel.shape[0], -1)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Conv2D(Weighted):
    """CONV_2D; kernel ``[out, height, width, in]``; padding is 'SAME' or 'VALID'."""

    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str = "VALID"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GroupedConv2D(Conv2D):
    """CONV_2D in groups; kernel ``[out, height, width, in / groups]``.

    The n-th of the groups of output channels reads the n-th of the groups of input channels.
    """


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DepthwiseConv2D(Weighted):
    """DEPTHWISE_CONV_2D; kernel ``[1, height, width, out]``, ``out = in * depth_multiplier``."""

    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str = "VALID"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TransposeConv2D(Weighted):
    """TRANSPOSE_CONV; kernel ``[out, height, width, in]``; padding is 'SAME' or 'VALID'.

    Each input pixel adds its steps times the kernel to a window of the output. In a .tflite file
    `relu` is an operator of its own behind it: see `export.flatbuffer.writer`.
    """

    strides: tuple[int, int] = (1, 1)
    padding: str = "VALID"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FullyConnected(Weighted):
    """FULLY_CONNECTED over the last axis of a ``[batch, ..., in]`` tensor; kernel ``[out, in]``."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Add(Operator):
    """ADD of two tensors of one shape, each on a grid of its own, with an optional fused RELU."""

    relu: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Subtract(Operator):
    """SUB of the second of two tensors from the first, else as `Add`."""

    relu: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Maximum(Operator):
    """MAXIMUM of two tensors of one shape; all grids equal."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Minimum(Operator):
    """MINIMUM of two tensors of one shape; all grids equal."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Multiply(Operator):
    """MUL of two tensors, each on a grid of its own, with an optional fused RELU.

    The shapes are equal, or the second is ``[1, 1, 1, channels]`` and scales the first's channels.
    """

    relu: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Logistic(Operator):
    """LOGISTIC, ``1 / (1 + exp(-x))``; the output's grid is scale 1/256, zero point -128."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pool2D(Operator):
    """MAX_POOL_2D or AVERAGE_POOL_2D (`kind` 'max' or 'average'); input and output share a grid."""

    kind: str
    window: tuple[int, int]
    strides: tuple[int, int]
    padding: str = "VALID"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Concatenate(Operator):
    """CONCATENATION along `axis` (counted with the batch as 0); all grids equal."""

    axis: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pad(Operator):
    """PAD height and width with the zero point: ``((top, bottom), (left, right))``."""

    padding: tuple[tuple[int, int], tuple[int, int]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Slice(Operator):
    """STRIDED_SLICE with stride 1: a part of the input, of the output's shape.

    Attributes:
      begin: first index on each axis but the batch.
    """

    begin: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ResizeNearest(Operator):
    """RESIZE_NEAREST_NEIGHBOR to the output's height and width, whole multiples of the input's."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ResizeBilinear(Operator):
    """RESIZE_BILINEAR between centers of pixels, to powers of 2 up to 64 times the input's size."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Reshape(Operator):
    """RESHAPE to the output tensor's shape; the grid stays."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Softmax(Operator):
    """SOFTMAX over the last axis; the output's grid is scale 1/256, zero point -128."""


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
        ResizeNearest,
        ResizeBilinear,
        Reshape,
        Logistic,
        Softmax,
    )
}


class _Moved:
    """A method of earlier versions: whoever looks for it is told what to do instead."""

    def __init__(self, advice: str):
        self._advice = advice

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        raise AttributeError(f"{owner.__name__}.{self._name} is no more: {self._advice}.")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class IntegerGraph:
    """Operators in the order they run, and the tensors they read and write.

    Attributes:
      tensors: every activation tensor by name, inputs and outputs among them.
      operators: in execution order.
      inputs: names of the input tensors.
      outputs: names of the output tensors.
      metadata: JSON-serializable; 'name', 'labels' (list of class names) and 'description' are
        used by the TFLite writer where present.
    """

    tensors: dict[str, Tensor]
    operators: list[Operator]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    save = _Moved("save a graph with export.save(graph, path)")
    load = _Moved("load a graph with export.load(path)")
    validate = _Moved("a graph is checked where it is saved, loaded or written")
