"""Realization: a trained graph becomes integers for a family of kernels."""

from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Sequence

import numpy as np

from export.ir.graph import Graph, IntegerGraph
from export.ir.operators import Operator, Weighted
from export.ir.provenance import SplitConvolution
from export.ir.trained import TrainedGraph, TrainedKernel
from export.ir.weight_dtypes import check_weights
from export.kernel_sets import narrow_weights
from export.kernel_sets.narrow_weights import Storage
from export.kernel_sets.rules import TARGETS
from export.realization import channels, grouped_convolutions, im2col
from export.realization.context import RequantizationContext
from export.realization.part_names import check_part_names


def realize(
    trained: TrainedGraph,
    *,
    weights: str = "int8",
    split_groups: bool = True,
    kernel_sets: Sequence[str] = TARGETS,
) -> IntegerGraph:
    """The integers with which kernels compute what was trained.

    The codes trained are the codes in the graph, times the code multiplier, negated where a
    channel's gain is negative and 0 where the output does not depend on them.
    `Provenance.inexact_channels` counts the channels that no integers make exact.

    Args:
      trained: from `export.lower`.
      weights: how a .tflite file is to hold the codes, 'int8', 'int4' or 'int2': each kernel in the
        narrowest storage from there on that holds its codes (`export.ir.weight_dtypes`) and costs
        little time (`export.kernel_sets.narrow_weights.storage`). A convolution in 4 bits is a
        dense layer over its windows. The narrower, the smaller the code multiplier and the coarser
        the grid of the biases.
      split_groups: see `export.realization.grouped_convolutions`: False leaves a grouped
        convolution one operator, which TFLite's kernels run and the Edge TPU does not.
      kernel_sets: of `export.kernel_sets.rules.TARGETS`, in the order of preference: where no
        integers are exact for all of them, they are for the first, and for as many of the others
        as go together with it.

    Raises:
      TypeError: if `trained` is not a trained graph.
      ValueError: if there are no such weights or kernel sets, or a part of a layer would have the
        name of another layer.
    """
    if not isinstance(trained, TrainedGraph):
        raise TypeError(
            "export.realize takes a TrainedGraph, which export.lower gives, not "
            f"{type(trained).__name__}"
        )
    check_weights(weights)
    check_kernel_sets(kernel_sets)
    graph = whole(
        trained, weights=weights, split_groups=split_groups, kernel_sets=tuple(kernel_sets)
    )
    return grouped_convolutions.split(graph) if split_groups else graph


def whole(
    trained: TrainedGraph, *, weights: str, split_groups: bool, kernel_sets: tuple[str, ...]
) -> IntegerGraph:
    """`realize`, with grouped convolutions as one operator each.

    Its integers are those of the parts where groups are to be split: kernels round a convolution
    without groups otherwise than one with groups.

    Args:
      trained: see `realize`.
      weights: see there.
      split_groups: whether groups are to be split.
      kernel_sets: see `realize`.
    """
    operators: list[Operator] = []
    inexact: dict[str, dict[str, int]] = {}
    tensors, quantization = dict(trained.tensors), dict(trained.provenance.quantization)
    split: dict[str, SplitConvolution] = {}
    for operator in trained.operators:
        if not isinstance(operator, TrainedKernel):
            operators.append(operator)
            continue
        stored = storage(trained, operator, weights)
        realized, inexact[operator.output] = _realized(
            trained, operator, stored, split_groups, kernel_sets
        )
        if stored.operator is not operator.form and im2col.copies_windows(operator):
            (source,) = operator.inputs
            written, parts = im2col.windows(operator, tensors[source], tensors[operator.output])
            check_part_names(parts, tensors, operator.output)
            operators += written
            tensors |= parts
            quantization |= dict.fromkeys(parts, quantization[source])
            split[operator.output] = SplitConvolution(source=source, parts=(operator.output,))
            realized = dataclasses.replace(realized, inputs=(written[-1].output,))
        operators.append(realized)
    return IntegerGraph(
        tensors=tensors,
        operators=operators,
        inputs=trained.inputs,
        outputs=trained.outputs,
        metadata=dict(trained.metadata),
        provenance=dataclasses.replace(
            trained.provenance,
            quantization=quantization,
            inexact_channels=inexact,
            split_convolutions=split,
        ),
    )


_KNOWN: weakref.WeakKeyDictionary[TrainedGraph, IntegerGraph] = weakref.WeakKeyDictionary()


def integers(graph: Graph) -> IntegerGraph:
    """The graph; a trained one as `realize` makes it by default, once."""
    if isinstance(graph, IntegerGraph):
        return graph
    assert isinstance(graph, TrainedGraph)
    if graph not in _KNOWN:
        _KNOWN[graph] = realize(graph)
    return _KNOWN[graph]


def is_narrowed(trained: TrainedGraph, weights: str) -> bool:
    """Whether any kernel of a trained graph is stored in fewer than 8 bits; see `realize`."""
    check_weights(weights)
    return any(storage(trained, kernel, weights).dtype_bits < 8 for kernel in trained.kernels)


def storage(trained: TrainedGraph, kernel: TrainedKernel, weights: str) -> Storage:
    """How a file holds one of the kernels of a trained graph.

    Args:
      trained: the graph.
      kernel: one of its kernels.
      weights: see `realize`.
    """
    # Codes of 1 that are no weights take no room worth saving, and 8 bits make the bias finest.
    return narrow_weights.storage(
        weights if kernel.has_weights else "int8",
        kernel.form,
        kernel.codes,
        copies=im2col.copies_windows(kernel),
        positions=math.prod(trained.tensors[kernel.output].shape[1:-1]),
    )


def _realized(
    trained: TrainedGraph,
    kernel: TrainedKernel,
    stored: Storage,
    split_groups: bool,
    kernel_sets: tuple[str, ...],
) -> tuple[Weighted, dict[str, int]]:
    """One operator with integers, and how many of its channels are inexact by target."""
    count = len(kernel.codes)
    draft = kernel.operator(
        stored.operator,
        kernel.codes,
        kernel_scale=np.ones(count, np.float32),
        bias=np.zeros(count, np.int32),
        relu=trained.provenance.quantization[kernel.output].low == 0,
        dtype_bits=stored.dtype_bits,
    )
    context = RequantizationContext.of(trained, draft, kernel_sets, split_groups=split_groups)
    fitted = channels.fit(kernel.codes, kernel.parameters, context)
    operator = kernel.operator(
        stored.operator,
        fitted.kernel,
        kernel_scale=fitted.scale,
        bias=fitted.bias,
        relu=fitted.relu,
        code_multiplier=fitted.code_multiplier,
        dtype_bits=stored.dtype_bits,
    )
    return operator, {target: int((~exact).sum()) for target, exact in fitted.exact.items()}


def check_kernel_sets(kernel_sets: Sequence[str]) -> None:
    """Raises ValueError where these are not one or more of `TARGETS`."""
    if not kernel_sets or isinstance(kernel_sets, str):
        raise ValueError(f"kernel_sets must list one or more of {', '.join(TARGETS)}")
    for kernel_set in kernel_sets:
        if kernel_set not in TARGETS:
            raise ValueError(
                f"kernel_sets must be of {', '.join(TARGETS)}; {kernel_set!r} is not among them"
            )
