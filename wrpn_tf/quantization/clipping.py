"""How much of what k-bit activations receive lies above their range."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wrpn_tf.arithmetic.quantizer_state import ActivationState
from wrpn_tf.quantization.inspection import Model, named_output_quantizers


def clipped_shares(model: Model, images: np.ndarray) -> dict[str, float]:
    """The share of positive values that each k-bit activation clips at its upper bound.

    Args:
      model: from `quantize_model` or `quantize_apply`; evaluated as it is, quantized.
      images: one batch as the model takes it.

    Returns:
      By layer name, a share in [0, 1].
    """
    shares: dict[str, float] = {}
    entries = [
        (name, quantizer, quantizer.grid(variables))
        for name, (quantizer, variables) in named_output_quantizers(model).items()
        if isinstance(quantizer, ActivationState)
    ]

    def observer(name: str, top: float) -> Callable[[np.ndarray], bool]:
        def observe(values):
            positive = int(np.count_nonzero(values > 0))
            shares[name] = int(np.count_nonzero(values > top)) / max(1, positive)
            return True

        return observe

    try:
        for name, quantizer, grid in entries:
            quantizer.observer = observer(name, grid.scale * grid.high)
        model(images, training=False)
    finally:
        for _, quantizer, _ in entries:
            quantizer.observer = None
    return shares
