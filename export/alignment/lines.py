"""Settling of lines: output scales at which a Rescaling's codes are the same in every kernel.

A line has no offset that trains, and a device's bias is a whole number of accumulator steps: a
127th of an input code. Where that puts a threshold on the wrong side of an accumulator, it does not
at another output scale, a hair away.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from export.ir.graph import Graph
from export.ir.operators import DepthwiseConv2D
from export.ir.trained import TrainedKernel
from export.kernel_sets.requantization import VECTOR
from export.kernel_sets.rules import TARGETS
from export.realization import channels
from export.realization.context import RequantizationContext
from wrpn_tf import QuantizationParameters


class Line:
    """The channels of an operator that has no weights: each kind of them, and each way to round it.

    Args:
      graph: from `export.lower`.
      operator: the operator.
      scales: the present scales of the tensors.
    """

    def __init__(self, graph: Graph, operator: TrainedKernel, scales: Mapping[str, float]) -> None:
        source = graph.tensors[operator.inputs[0]].quantization
        self._source = dataclasses.replace(source, scale=scales[operator.inputs[0]])
        self._target = graph.provenance.quantization[operator.output]
        # The optimized kernels round whole vectors of channels otherwise than the rest.
        end = len(operator.parameters) - len(operator.parameters) % VECTOR
        whole, rest = (np.unique(part) for part in np.split(operator.parameters, [end]))
        self._trained = np.concatenate([np.resize(whole, len(whole) + -len(whole) % VECTOR), rest])

    def different(self, output: QuantizationParameters, enough: float = np.inf) -> int:
        """How many of the channels some kernel does not compute as trained.

        Args:
          output: quantization parameters of the output.
          enough: of no use here: all are counted at once.
        """
        context = RequantizationContext(
            operator=DepthwiseConv2D,
            vector_product=False,
            source=self._source,
            target=dataclasses.replace(self._target, scale=output.scale),
        )
        codes = np.ones((len(self._trained), 1), np.int8)
        exact = channels.fit(codes, self._trained, context).exact
        return int(np.sum(~np.all([exact[target] for target in TARGETS], axis=0)))
