"""The TFLite operator that stands for each operator of the integer graph: code, version, options.

Versions are the lowest that mean int8, which is what fixed-function compilers and older runtimes
parse.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from export.ir.graph import (
    Add,
    Concatenate,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    GroupedConv2D,
    IntegerGraph,
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
    Subtract,
    TransposeConv2D,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opcode:
    """A TFLite operator.

    Attributes:
      code: of `BuiltinOperator`; all in use are below 127, so that the deprecated field holds them.
      version: of the operator.
      options_type: of `BuiltinOptions`.
      options: the options table, or None for an operator without options.
    """

    code: int
    version: int
    options_type: int
    options: Any


def opcode(graph: IntegerGraph, operator: Operator) -> Opcode:
    """The TFLite operator of `operator`, which is part of `graph`.

    Raises:
      TypeError: for a class of operators that has none.
    """
    if isinstance(operator, Conv2D):
        version = 6 if isinstance(operator, GroupedConv2D) else 3 if operator.dtype_bits == 8 else 7
        return _named("CONV_2D", version, "Conv2D", **_convolution(operator))
    if isinstance(operator, DepthwiseConv2D):
        depth = graph.tensors[operator.inputs[0]].shape[3]
        return _named(
            "DEPTHWISE_CONV_2D",
            3,  # INT4 too, nominally 7: the reference kernels compute it but refuse the number
            "DepthwiseConv2D",
            depthMultiplier=operator.kernel.shape[3] // depth,
            **_convolution(operator),
        )
    if isinstance(operator, TransposeConv2D):
        # 3 is the first with a bias and the last that the Edge TPU takes; 4 fuses activations.
        return _named("TRANSPOSE_CONV", 3, "TransposeConv", **_window(operator))
    if isinstance(operator, FullyConnected):
        keeps = len(graph.tensors[operator.inputs[0]].shape) > 2
        version = 10 if operator.dtype_bits < 8 else 5 if keeps else 4
        fields = _activation(operator) | {"keepNumDims": keeps}
        return _named("FULLY_CONNECTED", version, "FullyConnected", **fields)
    if isinstance(operator, Add):
        return _named("ADD", 2, "Add", **_activation(operator))
    if isinstance(operator, Subtract):
        return _named("SUB", 2, "Sub", **_activation(operator))
    if isinstance(operator, (Maximum, Minimum)):
        name = type(operator).__name__.upper()
        return _named(name, 2, "MaximumMinimum")
    if isinstance(operator, Multiply):
        return _named("MUL", 2, "Mul", **_activation(operator))
    if isinstance(operator, Pool2D):
        name = "MAX_POOL_2D" if operator.kind == "max" else "AVERAGE_POOL_2D"
        height, width = operator.window
        return _named(
            name, 2, "Pool2D", filterHeight=height, filterWidth=width, **_window(operator)
        )
    if isinstance(operator, Concatenate):
        return _named("CONCATENATION", 2, "Concatenation", axis=operator.axis)
    if isinstance(operator, Pad):
        return _named("PAD", 2, "Pad")
    if isinstance(operator, Slice):
        # All of the batch, whatever it is: SLICE itself would not run at another.
        return _named("STRIDED_SLICE", 2, "StridedSlice", beginMask=1, endMask=1)
    if isinstance(operator, ResizeNearest):
        return _named("RESIZE_NEAREST_NEIGHBOR", 2, "ResizeNearestNeighbor")
    if isinstance(operator, ResizeBilinear):
        return _named("RESIZE_BILINEAR", 3, "ResizeBilinear", halfPixelCenters=True)
    if isinstance(operator, Reshape):
        shape = [-1, *graph.tensors[operator.output].shape[1:]]
        return _named("RESHAPE", 1, "Reshape", newShape=shape)
    if isinstance(operator, Logistic):
        none = schema.BuiltinOptions.NONE
        code = schema.BuiltinOperator.LOGISTIC
        return Opcode(code=code, version=2, options_type=none, options=None)
    if isinstance(operator, Softmax):
        return _named("SOFTMAX", 2, "Softmax", beta=1.0)
    raise TypeError(f"{type(operator).__name__} has no TFLite operator")


def relu_opcode() -> Opcode:
    """RELU on one grid: clips codes below the zero point."""
    none = schema.BuiltinOptions.NONE
    code = schema.BuiltinOperator.RELU
    return Opcode(code=code, version=2, options_type=none, options=None)


def _named(code: str, version: int, options: str, **fields: Any) -> Opcode:
    """An operator by the schema's names, with the fields of its options table."""
    table = getattr(schema, f"{options}OptionsT")()
    for name, value in fields.items():
        setattr(table, name, value)
    return Opcode(
        code=getattr(schema.BuiltinOperator, code),
        version=version,
        options_type=getattr(schema.BuiltinOptions, f"{options}Options"),
        options=table,
    )


def _activation(operator: Any) -> dict[str, int]:
    kinds = schema.ActivationFunctionType
    return {"fusedActivationFunction": kinds.RELU if operator.relu else kinds.NONE}


def _window(operator: Any) -> dict[str, int]:
    padding = schema.Padding.SAME if operator.padding == "SAME" else schema.Padding.VALID
    height, width = operator.strides
    return {"padding": padding, "strideH": height, "strideW": width}


def _convolution(operator: Conv2D | DepthwiseConv2D) -> dict[str, int]:
    height, width = operator.dilation
    dilation = {"dilationHFactor": height, "dilationWFactor": width}
    return _activation(operator) | _window(operator) | dilation
