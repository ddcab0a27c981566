"""The TFLite form of each operator of the integer graph: code, version, options, constant inputs.

Versions are the lowest that mean int8, which is what fixed-function compilers and older runtimes
parse.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from export.ir.graph import IntegerGraph
from export.ir.operators import (
    Add,
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
    Resize,
    ResizeBilinear,
    ResizeNearest,
    Slice,
    Softmax,
    SpaceToDepth,
    Subtract,
    Transpose,
    TransposeConv2D,
)

RuntimeVersion = tuple[int, int, int]
# INT4 kernels came with 2.11 (TFLite tools/versioning/runtime_version.cc).
_NARROW_KERNELS: RuntimeVersion = (2, 11, 0)
_HALF_PIXEL_CENTERS: RuntimeVersion = (2, 3, 0)  # Of RESIZE_NEAREST_NEIGHBOR; likewise.
# Of TRANSPOSE, by the number of axes (op_version.cc there), and what runs them.
_TRANSPOSE_VERSIONS = {4: 2, 5: 4, 6: 6}
_TRANSPOSE_RUNTIMES: dict[int, RuntimeVersion] = {5: (2, 3, 0), 6: (2, 12, 0)}


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


Constants = Mapping[str, Any]


def no_constants(graph: IntegerGraph, operator: Operator) -> Constants:
    """Those of an operator that has none."""
    return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """How a class of operators is written.

    Attributes:
      opcode: its TFLite operator, from graph and operator.
      constants: its constant inputs beside a kernel and a bias, by name: int32 arrays, from graph
        and operator. They follow the other inputs.
      runtime_version: the first TensorFlow Lite that runs it with int8; most are in 1.14.
    """

    opcode: Callable[[IntegerGraph, Any], Opcode]
    constants: Callable[[IntegerGraph, Any], Constants] = no_constants
    runtime_version: RuntimeVersion = (1, 14, 0)


def opcode(graph: IntegerGraph, operator: Operator) -> Opcode:
    """The TFLite operator of `operator`, which is part of `graph`."""
    return FORMS[type(operator)].opcode(graph, operator)


def constants(graph: IntegerGraph, operator: Operator) -> Constants:
    """The constant inputs of `operator` beside kernel and bias, by name: see `Form`."""
    return FORMS[type(operator)].constants(graph, operator)


def min_runtime_version(graph: IntegerGraph) -> RuntimeVersion:
    """The first TensorFlow Lite that runs a graph."""
    needed = [FORMS[type(operator)].runtime_version for operator in graph.operators]
    if any(operator.dtype_bits < 8 for operator in graph.weighted):
        needed.append(_NARROW_KERNELS)
    resizes = [each for each in graph.operators if isinstance(each, ResizeNearest)]
    if any(_has_half_pixel_centers(graph, operator) for operator in resizes):
        needed.append(_HALF_PIXEL_CENTERS)
    transposes = [each for each in graph.operators if isinstance(each, Transpose)]
    needed += [_TRANSPOSE_RUNTIMES.get(len(each.axes), (1, 14, 0)) for each in transposes]
    return max(needed, default=(1, 14, 0))


def relu_opcode() -> Opcode:
    """RELU with one scale: clips codes below the zero point."""
    return _without_options("RELU", 2)


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


def _without_options(code: str, version: int) -> Opcode:
    return Opcode(
        code=getattr(schema.BuiltinOperator, code),
        version=version,
        options_type=schema.BuiltinOptions.NONE,
        options=None,
    )


def _conv(graph: IntegerGraph, operator: Conv2D) -> Opcode:
    version = 3 if operator.dtype_bits == 8 else 7
    return _named("CONV_2D", version, "Conv2D", **_convolution(operator))


def _grouped(graph: IntegerGraph, operator: GroupedConv2D) -> Opcode:
    return _named("CONV_2D", 6, "Conv2D", **_convolution(operator))


def _depthwise(graph: IntegerGraph, operator: DepthwiseConv2D) -> Opcode:
    depth = graph.tensors[operator.inputs[0]].shape[3]
    return _named(
        "DEPTHWISE_CONV_2D",
        3,  # INT4 too, nominally 7: the reference kernels compute it but refuse the number
        "DepthwiseConv2D",
        depthMultiplier=operator.kernel.shape[3] // depth,
        **_convolution(operator),
    )


def _transposed(graph: IntegerGraph, operator: TransposeConv2D) -> Opcode:
    # 3 is the first with a bias and the last that the Edge TPU takes; 4 fuses activations.
    return _named("TRANSPOSE_CONV", 3, "TransposeConv", **_window(operator))


def _dense(graph: IntegerGraph, operator: FullyConnected) -> Opcode:
    keeps = len(graph.tensors[operator.inputs[0]].shape) > 2
    version = 10 if operator.dtype_bits < 8 else 5 if keeps else 4
    fields = _activation(operator) | {"keepNumDims": keeps}
    return _named("FULLY_CONNECTED", version, "FullyConnected", **fields)


def _add(graph: IntegerGraph, operator: Add) -> Opcode:
    return _named("ADD", 2, "Add", **_activation(operator))


def _subtract(graph: IntegerGraph, operator: Subtract) -> Opcode:
    return _named("SUB", 2, "Sub", **_activation(operator))


def _maximum(graph: IntegerGraph, operator: Maximum) -> Opcode:
    return _named("MAXIMUM", 2, "MaximumMinimum")


def _minimum(graph: IntegerGraph, operator: Minimum) -> Opcode:
    return _named("MINIMUM", 2, "MaximumMinimum")


def _multiply(graph: IntegerGraph, operator: Multiply) -> Opcode:
    return _named("MUL", 2, "Mul", **_activation(operator))


def _pool(graph: IntegerGraph, operator: Pool2D) -> Opcode:
    name = "MAX_POOL_2D" if operator.kind == "max" else "AVERAGE_POOL_2D"
    height, width = operator.window
    size = {"filterHeight": height, "filterWidth": width}
    return _named(name, 2, "Pool2D", **size, **_window(operator))


def _concatenate(graph: IntegerGraph, operator: Concatenate) -> Opcode:
    return _named("CONCATENATION", 2, "Concatenation", axis=operator.axis)


def _pad(graph: IntegerGraph, operator: Pad) -> Opcode:
    return _named("PADV2", 2, "PadV2") if operator.lowest else _named("PAD", 2, "Pad")


def _slice(graph: IntegerGraph, operator: Slice) -> Opcode:
    # All of the batch, whatever it is: SLICE itself would not run at another.
    to_the_start = sum(1 << axis for axis, end in enumerate(_ends(graph, operator)) if end < 0)
    return _named("STRIDED_SLICE", 2, "StridedSlice", beginMask=1, endMask=1 | to_the_start)


def _transpose(graph: IntegerGraph, operator: Transpose) -> Opcode:
    version = _TRANSPOSE_VERSIONS[max(4, len(operator.axes))]
    return _named("TRANSPOSE", version, "Transpose")


def _depth_to_space(graph: IntegerGraph, operator: DepthToSpace) -> Opcode:
    # Which takes int8; the reference kernels know no other number.
    return _named("DEPTH_TO_SPACE", 1, "DepthToSpace", blockSize=operator.block_size)


def _space_to_depth(graph: IntegerGraph, operator: SpaceToDepth) -> Opcode:
    return _named("SPACE_TO_DEPTH", 2, "SpaceToDepth", blockSize=operator.block_size)


def _nearest(graph: IntegerGraph, operator: ResizeNearest) -> Opcode:
    centers = _has_half_pixel_centers(graph, operator)
    version = 3 if centers else 2
    fields = {"halfPixelCenters": centers}
    return _named("RESIZE_NEAREST_NEIGHBOR", version, "ResizeNearestNeighbor", **fields)


def _has_half_pixel_centers(graph: IntegerGraph, operator: ResizeNearest) -> bool:
    shapes = (graph.tensors[name].shape for name in (operator.inputs[0], operator.output))
    return operator.half_pixel_centers(*shapes)


def _bilinear(graph: IntegerGraph, operator: ResizeBilinear) -> Opcode:
    return _named("RESIZE_BILINEAR", 3, "ResizeBilinear", halfPixelCenters=True)


def _reshape(graph: IntegerGraph, operator: Reshape) -> Opcode:
    return _named("RESHAPE", 1, "Reshape", newShape=_free_batch(graph, operator))


def _logistic(graph: IntegerGraph, operator: Logistic) -> Opcode:
    return _without_options("LOGISTIC", 2)


def _softmax(graph: IntegerGraph, operator: Softmax) -> Opcode:
    return _named("SOFTMAX", 2, "Softmax", beta=1.0)


def _activation(operator: Any) -> dict[str, int]:
    kinds = schema.ActivationFunctionType
    return {"fusedActivationFunction": kinds.RELU if operator.relu else kinds.NONE}


def _window(operator: Convolution | TransposeConv2D | Pool2D) -> dict[str, int]:
    padding = schema.Padding.SAME if operator.padding == "SAME" else schema.Padding.VALID
    height, width = operator.strides
    return {"padding": padding, "strideH": height, "strideW": width}


def _convolution(operator: Convolution) -> dict[str, int]:
    height, width = operator.dilation
    dilation = {"dilationHFactor": height, "dilationWFactor": width}
    return _activation(operator) | _window(operator) | dilation


def _free_batch(graph: IntegerGraph, operator: Operator) -> list[int]:
    return [-1, *graph.tensors[operator.output].shape[1:]]


def _shape(graph: IntegerGraph, operator: TransposeConv2D) -> Constants:
    return {"shape": graph.tensors[operator.output].shape}


def _amounts(graph: IntegerGraph, operator: Pad) -> Constants:
    return {"padding": [(0, 0), *operator.padding, (0, 0)]}


def _part(graph: IntegerGraph, operator: Slice) -> Constants:
    return {
        "begin": [0, *operator.begin],
        "end": _ends(graph, operator),
        "strides": [1, *operator.steps],
    }


def _ends(graph: IntegerGraph, operator: Slice) -> list[int]:
    """One step beyond the last index of each axis; below 0 where that is before the first."""
    batch, *sizes = graph.tensors[operator.output].shape
    axes = zip(operator.begin, operator.steps, sizes, strict=True)
    return [batch, *(begin + step * size for begin, step, size in axes)]


def _axes(graph: IntegerGraph, operator: Transpose) -> Constants:
    return {"axes": operator.axes}


def _size(graph: IntegerGraph, operator: Resize) -> Constants:
    return {"size": graph.tensors[operator.output].shape[1:3]}


def _new_shape(graph: IntegerGraph, operator: Reshape) -> Constants:
    return {"shape": _free_batch(graph, operator)}


FORMS: dict[type[Operator], Form] = {
    Conv2D: Form(opcode=_conv),
    GroupedConv2D: Form(opcode=_grouped, runtime_version=(2, 9, 0)),
    DepthwiseConv2D: Form(opcode=_depthwise),
    TransposeConv2D: Form(opcode=_transposed, constants=_shape, runtime_version=(2, 3, 0)),
    FullyConnected: Form(opcode=_dense),
    Add: Form(opcode=_add),
    Subtract: Form(opcode=_subtract),
    Maximum: Form(opcode=_maximum),
    Minimum: Form(opcode=_minimum),
    Multiply: Form(opcode=_multiply),
    Pool2D: Form(opcode=_pool),
    Concatenate: Form(opcode=_concatenate),
    Pad: Form(opcode=_pad, constants=_amounts),
    Slice: Form(opcode=_slice, constants=_part),
    Transpose: Form(opcode=_transpose, constants=_axes),
    DepthToSpace: Form(opcode=_depth_to_space, runtime_version=(2, 1, 0)),
    SpaceToDepth: Form(opcode=_space_to_depth),
    ResizeNearest: Form(opcode=_nearest, constants=_size),
    ResizeBilinear: Form(opcode=_bilinear, constants=_size, runtime_version=(2, 2, 0)),
    Reshape: Form(opcode=_reshape, constants=_new_shape),
    Logistic: Form(opcode=_logistic),
    Softmax: Form(opcode=_softmax),
}
"""How each operator is written."""
