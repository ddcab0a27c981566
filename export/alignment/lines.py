"""Settling of lines: output scales at which codes become the same in every kernel and in Keras.

A line is what has no weights and no offset that trains: a Rescaling, or a tensor that is wanted on
another grid, as of a concatenation. A device's bias is a whole number of accumulator steps: a 127th
of an input code. Where that puts a threshold on the wrong side of an accumulator, it does not at
another output scale, a hair away. And where two scales have a simple ratio, as 0.5 or 0.9, many
values lie so near to the middle between two codes that Keras's float32 decides; there, none do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from export.alignment.bias_candidates import threshold_margin
from export.alignment.kernel_scales import distance
from export.ir.graph import Graph
from export.ir.operators import DepthwiseConv2D
from export.ir.trained import TrainedKernel
from export.kernel_sets import ideal
from export.kernel_sets.requantization import VECTOR
from export.kernel_sets.rules import TARGETS
from export.realization import channels
from export.realization.accumulator_range import AccumulatorRange
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
        self._codes = np.ones((len(self._trained), 1), np.int8)
        rows = self._codes * ideal.signs(self._trained)
        self._accumulators = AccumulatorRange(rows, source.low, source.high)

    def different(self, output: QuantizationParameters, enough: float = np.inf) -> int:
        """How many of the channels are not computed as trained, by some kernel or by Keras.

        By Keras: not surely, where a value comes near to the middle between two codes.

        Args:
          output: quantization parameters of the output.
          enough: a number from which on it need not be counted further.
        """
        context = RequantizationContext(
            operator=DepthwiseConv2D,
            vector_product=False,
            source=self._source,
            target=dataclasses.replace(self._target, scale=output.scale),
        )
        slope, _ = ideal.line(self._trained, self._source.scale)
        margin = threshold_margin(context, slope)
        wrong = distance(context, self._accumulators, self._trained) < margin
        if np.count_nonzero(wrong) < enough:
            exact = channels.fit(self._codes, self._trained, context).exact
            wrong |= ~np.all([exact[target] for target in TARGETS], axis=0)
        return int(np.count_nonzero(wrong))
