"""An integer graph as C99: its numbers as arrays, and the calls that compute it."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from export.c99 import arena, literals, templates, views
from export.c99.literals import number
from export.ir import geometry
from export.ir.graph import IntegerGraph
from export.ir.operators import (
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
    Sum,
    Transpose,
    TransposeConv2D,
    Weighted,
)
from export.ir.validation import check_integers
from export.kernel_sets import (
    addition,
    logistic,
    multiplication,
    requantization,
    rules,
    softmax,
)
from wrpn_tf.terminal import printable

KERNEL_SET = "tflm"
"""Whose integers the C code computes."""

_MOST_CONSTANTS = 2**27
_SOFTMAX_CLASSES = 2**13
RUNTIME = pathlib.Path(__file__).parent / "runtime"
_LIBRARY = frozenset(
    """
    assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdarg
    stdbool stddef stdint stdio stdlib string strings tgmath time wchar wctype
    """.split()
)
_HEADERS = _LIBRARY | {path.stem for path in RUNTIME.glob("*.h")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The C files of a graph.

    Attributes:
      header: text of ``NAME.h``.
      body: text of ``NAME.c``.
      arena: bytes of memory that the tensors take while it runs.
      constants: bytes of its arrays: kernels, their scales, biases, multipliers, windows, tables.
    """

    header: str
    body: str
    arena: int
    constants: int


def check_name(name: str) -> None:
    """Raises ValueError where files and C names cannot begin with a name."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"{name!r} is no name in C: letters, digits and underscores are")
    if name.lower() in _HEADERS:  # Where the case of files does not count, too.
        raise ValueError(
            f"{name}.h would hide a header of the C library or of the kernels; give another name"
        )


def generate(graph: IntegerGraph, name: str) -> Source:
    """The C source of a graph; it computes what TensorFlow Lite Micro computes.

    Args:
      graph: a valid graph.
      name: prefix of all names, a C identifier.

    Raises:
      TypeError: the graph is a trained one, without integers.
      ValueError: `name` is no C identifier or hides a header, or an operator has no C form (it is
        named).
    """
    check_integers(graph)
    check_name(name)
    missing = without_form(graph)
    if missing:
        raise ValueError(missing)
    constants = sum(each.kernel.size for each in graph.weighted)
    if constants > _MOST_CONSTANTS:
        raise ValueError(
            f"the kernels have {constants:,} codes; C source is written for up to "
            f"{_MOST_CONSTANTS:,}"
        )
    return _Generator(graph, name).generate()


def without_form(graph: IntegerGraph) -> str:
    """A sentence on the first operator that has no C form; empty where all have one."""
    for operator in graph.operators:
        if type(operator) not in CALLS:
            return f"{operator.output!r}: {type(operator).__name__} has no C form"
        axes = len(graph.tensors[operator.output].shape) - 1
        if axes > views.AXES:
            return f"{operator.output!r} has {axes} axes, more than {views.AXES} have no C form"
        classes = graph.tensors[operator.output].shape[-1]
        if isinstance(operator, Softmax) and classes >= _SOFTMAX_CLASSES:
            return (
                f"{operator.output!r}: a softmax of {classes:,} classes has no C form, it has one "
                f"below {_SOFTMAX_CLASSES:,}"
            )
    return ""


class _Generator:
    def __init__(self, graph: IntegerGraph, name: str):
        self._graph = graph
        self._name = name
        self._offsets, self._arena = arena.plan(graph)
        self._order = [*graph.inputs, *(operator.output for operator in graph.operators)]
        self._arrays: list[tuple[str, str]] = []
        self._constants = 0

    def generate(self) -> Source:
        calls: list[str] = []
        for name in self._graph.inputs:
            calls.append(f"memcpy({self._at(name)}, *inputs++, {self._size(name)});")
            calls.append(self._observed(name))
        for index, operator in enumerate(self._graph.operators):
            title = _comment(f"{index}: {type(operator).__name__} {operator.output}")
            calls.append(f"/* {title} */")
            calls += CALLS[type(operator)](self, f"{self._name}_{index}", operator)
            calls.append(self._observed(operator.output))
        for name in self._graph.outputs:
            calls.append(f"memcpy(*outputs++, {self._at(name)}, {self._size(name)});")
        return Source(
            header=self._header(),
            body=self._body(calls),
            arena=self._arena,
            constants=self._constants,
        )

    def _header(self) -> str:
        guard, sizes = f"{self._name.upper()}_H_", self._order
        prototype = templates.PROTOTYPE.format(name=self._name)
        inputs, outputs = (
            "\n".join(
                f" *   {_comment(name)}: int8 {self._graph.tensors[name].shape[1:]}"
                for name in names
            )
            for names in (self._graph.inputs, self._graph.outputs)
        )
        arrays = "\n".join(declared for declared, _ in self._arrays)
        return templates.HEADER.format(
            name=self._name,
            guard=guard,
            prototype=prototype,
            count=len(sizes),
            inputs=inputs,
            outputs=outputs,
            arrays=arrays,
            arena=self._arena,
        )

    def _body(self, calls: list[str]) -> str:
        rows = []
        for name in self._order:
            quantization = self._graph.tensors[name].quantization
            scale = number(np.float32(quantization.scale))
            fields = (literals.string(name), self._size(name), scale, quantization.zero_point)
            rows.append(f"{{{', '.join(map(str, fields))}}}")
        return templates.BODY.format(
            name=self._name,
            prototype=templates.PROTOTYPE.format(name=self._name),
            arrays="\n\n".join(defined for _, defined in self._arrays),
            tensors="{\n" + "".join(f"    {row},\n" for row in rows) + "}",
            arena=self._arena,
            count=len(rows),
            calls="\n".join(map(_wrapped, calls)),
        )

    def _size(self, name: str) -> int:
        return math.prod(self._graph.tensors[name].shape)

    def _at(self, name: str) -> str:
        return f"arena + {self._offsets[name]}"

    def _observed(self, name: str) -> str:
        index = self._order.index(name)
        return f"if (observe) observe(&{self._name}_tensors[{index}], {self._at(name)});"

    def _arguments(self, operator: Operator) -> str:
        """Where the codes of its inputs and of its output are."""
        return ", ".join(self._at(name) for name in (*operator.inputs, operator.output))

    def _zero_points(self, operator: Operator) -> str:
        points = (self._graph.tensors[name].quantization.zero_point for name in operator.inputs)
        return ", ".join(map(str, points))

    def _weighted(self, prefix: str, operator: Weighted) -> str:
        arrays = self._weights(prefix, operator)
        ends = f"{self._zero_points(operator)}, {self._to(operator)}, {self._arguments(operator)}"
        return f"{arrays}, {ends}"

    def dense(self, prefix: str, operator: FullyConnected) -> list[str]:
        arguments = self._weighted(prefix, operator)
        outputs, inputs = operator.kernel.shape
        rows = self._size(operator.output) // outputs
        return [f"wrpn_fully_connected({rows}, {inputs}, {outputs}, {arguments});"]

    def depthwise(self, prefix: str, operator: DepthwiseConv2D) -> list[str]:
        arguments = self._weighted(prefix, operator)
        window = self._window(prefix, operator, operator.kernel.shape[1:3], operator.dilation)
        return [f"wrpn_depthwise_conv2d({window}, {arguments});"]

    def conv(self, prefix: str, operator: Conv2D) -> list[str]:
        arguments = self._weighted(prefix, operator)
        window = self._window(prefix, operator, operator.kernel.shape[1:3], operator.dilation)
        groups = self._graph.tensors[operator.inputs[0]].shape[3] // operator.kernel.shape[3]
        return [f"wrpn_conv2d({window}, {groups}, {arguments});"]

    def transposed(self, prefix: str, operator: TransposeConv2D) -> list[str]:
        arguments = self._weighted(prefix, operator)
        _, height, width, _ = operator.kernel.shape
        window, strides = (height, width), operator.strides
        sizes = self._graph.tensors[operator.output].shape[1:3]
        axes = zip(sizes, window, strides, (1, 1), strict=True)
        cut = [geometry.pad_amounts(*axis, operator.padding)[0] for axis in axes]
        geometry_name = self._geometry(prefix, operator, *window, *strides, 1, 1, *cut)
        return [f"wrpn_transpose_conv2d({geometry_name}, {arguments});"]

    def sum(self, prefix: str, operator: Sum) -> list[str]:
        multipliers = addition.builtin_multipliers(self._parameters(operator))
        name = self._multipliers(prefix, *multipliers)
        ends = f"{self._zero_points(operator)}, {self._to(operator)}, {self._arguments(operator)}"
        function = "wrpn_add" if operator.sign > 0 else "wrpn_subtract"
        return [f"{function}({self._size(operator.output)}, {name}, {ends});"]

    def multiply(self, prefix: str, operator: Multiply) -> list[str]:
        scale = multiplication.product_scale(self._parameters(operator), KERNEL_SET)
        mantissa, shift = requantization.quantize_multiplier(np.array([scale]))
        name = self._multipliers(prefix, mantissa, shift)
        left, right = (self._graph.tensors[name].shape for name in operator.inputs)
        view = self._view(prefix, views.repeated(right, left))
        ends = f"{self._zero_points(operator)}, {self._to(operator)}, {self._arguments(operator)}"
        return [f"wrpn_multiply({view}, {name}, {ends});"]

    def extremum(self, prefix: str, operator: Maximum | Minimum) -> list[str]:
        function = "wrpn_maximum" if isinstance(operator, Maximum) else "wrpn_minimum"
        return [f"{function}({self._size(operator.output)}, {self._arguments(operator)});"]

    def logistic(self, prefix: str, operator: Logistic) -> list[str]:
        source = self._graph.tensors[operator.inputs[0]].quantization
        self._array(f"{prefix}_table", logistic.table(source, KERNEL_SET))
        size, ends = self._size(operator.output), self._arguments(operator)
        return [f"wrpn_lookup({size}, {prefix}_table, {ends});"]

    def softmax(self, prefix: str, operator: Softmax) -> list[str]:
        classes = self._graph.tensors[operator.output].shape[-1]
        rows = self._size(operator.output) // classes
        scale = self._graph.tensors[operator.inputs[0]].quantization.scale
        mantissa, shift, reach = softmax.fixed_point(scale)
        name = self._multipliers(prefix, np.array([mantissa]), np.array([shift]))
        return [f"wrpn_softmax({rows}, {classes}, {name}, {reach}, {self._arguments(operator)});"]

    def move(self, prefix: str, operator: Operator) -> list[str]:
        source, output = (self._graph.tensors[name].shape for name in _ends(operator))
        view = self._view(prefix, views.of(operator, source, output))
        return [f"wrpn_move({view}, {self._arguments(operator)});"]

    def bilinear(self, prefix: str, operator: ResizeBilinear) -> list[str]:
        shapes = (self._graph.tensors[name].shape for name in _ends(operator))
        window = self._geometry(prefix, operator, *operator.factors(*shapes), 1, 1, 1, 1, 0, 0)
        return [f"wrpn_resize_bilinear({window}, {self._arguments(operator)});"]

    def pool(self, prefix: str, operator: Pool2D) -> list[str]:
        window = self._window(prefix, operator, operator.window, (1, 1))
        return [f"wrpn_{operator.kind}_pool({window}, {self._arguments(operator)});"]

    def pad(self, prefix: str, operator: Pad) -> list[str]:
        window = self._pad_window(prefix, operator)
        value = operator.value(self._graph.tensors[operator.output].quantization)
        return [f"wrpn_pad({window}, {value}, {self._arguments(operator)});"]

    def reshape(self, prefix: str, operator: Reshape) -> list[str]:
        source, output = self._at(operator.inputs[0]), self._at(operator.output)
        return [f"memcpy({output}, {source}, {self._size(operator.output)});"]

    def concatenate(self, prefix: str, operator: Concatenate) -> list[str]:
        shape = self._graph.tensors[operator.output].shape
        outer = math.prod(shape[: operator.axis])
        stride = math.prod(shape[operator.axis :])
        calls, start = [], self._offsets[operator.output]
        for name in operator.inputs:
            inner = self._size(name) // outer
            calls.append(
                f"wrpn_concatenate({outer}, {inner}, {stride}, {self._at(name)}, arena + {start});"
            )
            start += inner
        return calls

    def _weights(self, prefix: str, operator: Weighted) -> str:
        """Arrays of kernel, bias and multipliers; returns their names, in a call's order."""
        source, target = (
            self._graph.tensors[name].quantization for name in (operator.inputs[0], operator.output)
        )
        real = rules.real_multiplier(operator, source.scale, target.scale, KERNEL_SET)
        self._array(f"{prefix}_kernel", operator.kernel)
        self._array(f"{prefix}_kernel_scale", operator.kernel_scale)
        self._array(f"{prefix}_bias", operator.bias)
        multipliers = self._multipliers(prefix, *requantization.quantize_multiplier(real))
        return f"{prefix}_kernel, {prefix}_bias, {multipliers}"

    def _array(self, name: str, values: np.ndarray) -> None:
        self._arrays.append(literals.array(name, values))
        self._constants += values.nbytes

    def _struct(self, kind: str, name: str, fields: str) -> None:
        """A constant of int32 fields, in braces."""
        self._arrays.append((f"extern const {kind} {name};", f"const {kind} {name} = {fields};"))
        self._constants += 4 * len(fields.split(","))

    def _multipliers(self, prefix: str, mantissa: np.ndarray, shift: np.ndarray) -> str:
        name = f"{prefix}_multiplier"
        self._arrays.append(literals.pairs("wrpn_multiplier", name, mantissa, shift))
        self._constants += 4 * (mantissa.size + shift.size)
        return name

    def _parameters(self, operator: Binary) -> addition.Parameters:
        left, right = (self._graph.tensors[name].quantization for name in operator.inputs)
        return left, right, self._graph.tensors[operator.output].quantization

    def _to(self, operator: Sum | Multiply | Weighted) -> str:
        zero_point = self._graph.tensors[operator.output].quantization.zero_point
        return f"(wrpn_output){{{zero_point}, {zero_point if operator.relu else -128}}}"

    def _window(
        self,
        prefix: str,
        operator: Convolution | Pool2D,
        window: tuple[int, int],
        dilation: tuple[int, int],
    ) -> str:
        sizes = self._graph.tensors[operator.inputs[0]].shape[1:3]
        axes = zip(sizes, window, operator.strides, dilation, strict=True)
        pads = [geometry.pad_amounts(*axis, operator.padding)[0] for axis in axes]
        return self._geometry(prefix, operator, *window, *operator.strides, *dilation, *pads)

    def _pad_window(self, prefix: str, operator: Pad) -> str:
        (top, _), (left, _) = operator.padding
        return self._geometry(prefix, operator, 1, 1, 1, 1, 1, 1, top, left)

    def _view(self, prefix: str, view: views.View) -> str:
        name = f"{prefix}_view"
        sizes, steps = (literals.braces(map(str, part)) for part in (view.sizes, view.steps))
        self._struct("wrpn_view", name, f"{{{sizes}, {steps}, {view.first}}}")
        return f"&{name}"

    def _geometry(self, prefix: str, operator: Operator, *values: int) -> str:
        shapes = (self._graph.tensors[name].shape for name in (operator.inputs[0], operator.output))
        name = f"{prefix}_window"
        fields = literals.braces(str(value) for shape in shapes for value in shape[1:])
        fields = fields.removesuffix("}") + "".join(f", {value}" for value in values) + "}"
        self._struct("wrpn_window", name, fields)
        return f"&{name}"


def _ends(operator: Operator) -> tuple[str, str]:
    return operator.inputs[0], operator.output


def _wrapped(statement: str) -> str:
    return textwrap.fill(
        statement,
        100,
        initial_indent="  ",
        subsequent_indent="      ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def _comment(text: str) -> str:
    """Text that may stand in a C comment: in one line, which joins no other, and with no end."""
    return printable(text).replace("*/", "* /").replace("/*", "/ *")


CALLS: dict[type[Operator], Callable[[_Generator, str, Any], list[str]]] = {
    Conv2D: _Generator.conv,
    GroupedConv2D: _Generator.conv,
    DepthwiseConv2D: _Generator.depthwise,
    FullyConnected: _Generator.dense,
    TransposeConv2D: _Generator.transposed,
    Add: _Generator.sum,
    Subtract: _Generator.sum,
    Maximum: _Generator.extremum,
    Minimum: _Generator.extremum,
    Multiply: _Generator.multiply,
    Pool2D: _Generator.pool,
    Concatenate: _Generator.concatenate,
    Pad: _Generator.pad,
    Slice: _Generator.move,
    Transpose: _Generator.move,
    DepthToSpace: _Generator.move,
    SpaceToDepth: _Generator.move,
    ResizeNearest: _Generator.move,
    ResizeBilinear: _Generator.bilinear,
    Reshape: _Generator.reshape,
    Logistic: _Generator.logistic,
    Softmax: _Generator.softmax,
}
"""By operator that has a C form: the statements that compute it, from the prefix of its arrays."""
