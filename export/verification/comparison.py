"""Comparing codes: device with executor, device with Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

import wrpn_tf
from export.ir.graph import IntegerGraph
from export.ir.operators import Operator
from export.ir.tensors import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """Codes of one tensor, compared.

    Attributes:
      name: the tensor.
      different: how many codes differ.
      total: how many were compared.
      largest: largest difference in codes.
    """

    name: str
    different: int
    total: int
    largest: int


def compare(name: str, one: np.ndarray, other: np.ndarray) -> Difference:
    """Compares two arrays of codes of one shape.

    Raises:
      ValueError: if the shapes differ.
    """
    if one.shape != other.shape:
        raise ValueError(f"{name}: shapes {one.shape} and {other.shape} differ")
    gaps = np.abs(one.astype(np.int32) - other.astype(np.int32))
    return Difference(
        name=name,
        different=int(np.count_nonzero(gaps)),
        total=gaps.size,
        largest=int(gaps.max(initial=0)),
    )


def add(one: Difference, other: Difference) -> Difference:
    """The comparison of both batches together."""
    return Difference(
        name=one.name,
        different=one.different + other.different,
        total=one.total + other.total,
        largest=max(one.largest, other.largest),
    )


def dequantize(codes: np.ndarray, tensor: Tensor) -> np.ndarray:
    """float32 real values of int8 codes, as Keras computes them: code times scale."""
    steps = codes.astype(np.float32) - np.float32(tensor.quantization.zero_point)
    return steps * np.float32(tensor.quantization.scale)


def quantize(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """int8 codes of real values: half-way cases up, clipped to the tensor's range."""
    quantization = tensor.quantization
    steps = np.floor(values.astype(np.float32) / np.float32(quantization.scale) + np.float32(0.5))
    steps = np.clip(steps, quantization.low, quantization.high)
    return (steps + quantization.zero_point).astype(np.int8)


class KerasTwin:
    """Runs the part of the Keras evaluation graph that one operator stands for."""

    def __init__(self, model: Any, graph: IntegerGraph):
        self._model = model
        self._graph = graph
        self._layers = graph.provenance.layers
        split = graph.provenance.split_convolutions
        self._sources = {name: convolution.source for name, convolution in split.items()}
        self._views = {view.name: view for view in wrpn_tf.view(model)}

    def knows(self, operator: Operator) -> bool:
        """Whether the operator's output is that of a layer, and not a part of it."""
        return operator.output in self._layers

    def codes(self, operator: Operator, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The operator's output codes by Keras, from the device's codes of its inputs."""
        known = {}
        source = self._sources.get(operator.output)
        for name in (source,) if source else operator.inputs:
            reals = dequantize(values[name], self._graph.tensors[name])
            shape = self._views[self._layers[name]].output_shape
            known[self._layers[name]] = reals.reshape(-1, *shape[1:])
        target = self._graph.tensors[operator.output]
        output = self._evaluate(self._layers[operator.output], known)
        return quantize(output, target).reshape(-1, *target.shape[1:])

    def _evaluate(self, name: str, known: Mapping[str, np.ndarray]) -> np.ndarray:
        """A layer's real output, from the outputs of the layers in `known`."""
        if name in known:
            return known[name]
        inputs = [self._evaluate(origin, known) for origin in self._views[name].inputs]
        return wrpn_tf.infer_layer(self._model, self._views[name].use_of or name, inputs)
