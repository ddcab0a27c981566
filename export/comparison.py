"""Comparing codes: device with executor, device with Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tf_keras as keras

from export.graph import IntegerGraph, Operator, Tensor


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
    steps = codes.astype(np.float32) - np.float32(tensor.grid.zero_point)
    return steps * np.float32(tensor.grid.scale)


def quantize(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """int8 codes of real values: half-way cases up, clipped to the grid's range."""
    steps = np.floor(values.astype(np.float32) / np.float32(tensor.grid.scale) + np.float32(0.5))
    low = max(-128, 127 - (2**tensor.bits - 1))
    return np.clip(steps + tensor.grid.zero_point, low, 127).astype(np.int8)


class KerasTwin:
    """Runs the part of the Keras evaluation graph that one operator stands for."""

    def __init__(self, model: keras.Model, graph: IntegerGraph):
        self._model = model
        self._graph = graph
        self._layers: dict[str, str] = graph.metadata["keras_layers"]
        self._parts: dict[str, keras.Model] = {}

    def codes(self, operator: Operator, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The operator's output codes by Keras, from the device's codes of its inputs."""
        tensors = self._graph.tensors
        inputs = [dequantize(values[name], tensors[name]) for name in operator.inputs]
        if operator.output not in self._parts:
            self._parts[operator.output] = self._part(operator)
        part = self._parts[operator.output]
        inputs = [
            array.reshape(-1, *tensor.shape[1:])
            for array, tensor in zip(inputs, part.inputs, strict=True)
        ]
        output = part(inputs if len(inputs) > 1 else inputs[0], training=False).numpy()
        target = tensors[operator.output]
        return quantize(output, target).reshape(-1, *target.shape[1:])

    def _part(self, operator: Operator) -> keras.Model:
        inputs = [self._output(name) for name in operator.inputs]
        return keras.Model(inputs, self._output(operator.output))

    def _output(self, tensor: str):
        return self._model.get_layer(self._layers[tensor]).output
