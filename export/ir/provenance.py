"""Where an integer graph comes from: the layers behind its tensors, and what was trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from wrpn_tf import QuantizationParameters

TRAINED = np.dtype(
    [(name, np.float64) for name in ("scale", "shift", "gain", "variance", "offset")]
    + [("digest", np.uint64)]
)
"""What one channel was trained to compute, and so what it is proven against:

``real = gain * (scale * input_scale * sum(codes * input steps) + shift) / sqrt(variance) + offset``

with `codes` as trained: before the code multiplier, and before they are negated where the gain is
negative. Batch normalization has its gamma in `gain`, its beta in `offset`, its variance with
epsilon in `variance`; `shift` is the layer's own bias less the mean. All are sums or copies of
trained float32 numbers, so that nothing was rounded. `digest` is that of the codes by
`export.kernel_sets.ideal.digest`.
"""


_LARGEST, _LEAST_VARIANCE = 2.0**130, 2.0**-150


def check_trained(trained: np.ndarray) -> None:
    """Raises ValueError where numbers cannot be sums or copies of trained float32 numbers.

    Args:
      trained: `TRAINED` ``[channels]``.
    """
    numbers = np.stack([trained[name] for name in ("scale", "shift", "gain", "variance", "offset")])
    if not (np.abs(numbers) < _LARGEST).all() or not (trained["variance"] > _LEAST_VARIANCE).all():
        raise ValueError("what was trained is not finite, or a variance is not positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitConvolution:
    """A convolution that is several operators.

    It has groups (`export.realization.grouped_convolutions`), or is a dense layer over its windows
    (`export.realization.im2col`).

    Attributes:
      source: the tensor that it read.
      parts: the outputs of the operators that have its kernel: of groups, the tensors that are
        concatenated to its output.
    """

    source: str
    parts: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
    """What is known of the training behind a graph; empty where nothing is.

    Attributes:
      layers: by tensor, the Keras layer whose output it is. Parts of a layer are not in it.
      quantization: by tensor, its quantization parameters as trained. Behind a ReLU `low` is 0,
        also where the codes of the tensor go further down.
      inexact_channels: by the output of an operator with a kernel, and by target
        (`export.kernel_sets.rules.TARGETS`), how many of its channels do not give the trained code
        for every possible input.
      split_convolutions: by output, the convolutions that are no longer one operator.
    """

    layers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    quantization: Mapping[str, QuantizationParameters] = dataclasses.field(default_factory=dict)
    inexact_channels: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    split_convolutions: Mapping[str, SplitConvolution] = dataclasses.field(default_factory=dict)

    def is_move(self, source: str, output: str) -> bool:
        """Whether an operator only brings a layer's codes to another grid.

        Args:
          source: the first tensor that it reads.
          output: the tensor that it writes, or that of the whole convolution where it was split.
        """
        split = self.split_convolutions.get(output)
        return self.layers.get(split.source if split else source) == self.layers[output]
