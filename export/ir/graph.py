"""Graphs: lists of operators over int8 tensors, quantized as ``scale * (code - zero_point)``.

There are two, with the same tensors: the trained graph (`export.ir.trained`), and the integer graph
that it becomes for a family of kernels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from export.ir import weight_dtypes
from export.ir.operators import Operator, Weighted
from export.ir.provenance import Provenance
from export.ir.tensors import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """Operators in the order they run, and the tensors they read and write.

    Attributes:
      tensors: every activation tensor by name, inputs and outputs among them.
      operators: in execution order.
      inputs: names of the input tensors.
      outputs: names of the output tensors.
      metadata: JSON-serializable, for the metadata of a .tflite file: 'name', 'description',
        'labels' (list of class names) and 'normalization' (by input, ``{'mean': [...], 'std':
        [...]}``) are used where present.
      provenance: the training that it comes from.
    """

    tensors: dict[str, Tensor]
    operators: list[Operator]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    provenance: Provenance = dataclasses.field(default_factory=Provenance)


class _Moved:
    """A method of earlier versions: whoever looks for it is told what to do instead."""

    def __init__(self, advice: str):
        self._advice = advice

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        raise AttributeError(f"{owner.__name__}.{self._name} is no more: {self._advice}.")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class IntegerGraph(Graph):
    """What a trained network is once nothing in it is a float.

    It is what the NumPy executor runs, what the TFLite writer writes, and what anyone rebuilding
    the network in C or on an FPGA needs: integers, scales and zero points, nothing else.
    """

    save = _Moved("save a graph with export.save(graph, path)")
    load = _Moved("load a graph with export.load(path)")
    validate = _Moved("a graph is checked where it is saved, loaded or written")

    @property
    def weighted(self) -> list[Weighted]:
        """The operators with a kernel, in execution order."""
        return [operator for operator in self.operators if isinstance(operator, Weighted)]


def stored_weights(graph: IntegerGraph) -> str:
    """The storage of a graph's kernels, by its narrowest: 'int8', 'int4' or 'int2'."""
    return weight_dtypes.choice(min((each.dtype_bits for each in graph.weighted), default=8))


def as_int8(graph: IntegerGraph) -> IntegerGraph:
    """The same graph, every kernel stored in 8 bits: the twin of an int4 or int2 file."""
    twins = {each.output: dataclasses.replace(each, dtype_bits=8) for each in graph.weighted}
    operators = [twins.get(operator.output, operator) for operator in graph.operators]
    return dataclasses.replace(graph, operators=operators)
