"""Setting activation scales from data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wrpn_tf.fronts import front_of
from wrpn_tf.quantization.feeding import BATCH_SIZE, batches
from wrpn_tf.quantization.inspection import (
    Model,
    input_quantizers,
    named_output_quantizers,
    output_quantizers,
)

_VALUES_PER_BATCH = 65536
_ROOM = 0.5  # Widths of the input range that augmentation may leave it by; [0, 1] by mean and
# deviation of ImageNet leaves (-1, 1) by 0.8.
_NEAR = 0.01  # The same: images of [0, 1] are 0.004 of (0, 255).


def calibrate(
    model: Model, data: Any, steps: int | None = None, *, batch_size: int = BATCH_SIZE
) -> None:
    """Sets the output scales and ranges of a quantized model from data, in place.

    All activations are taken unquantized, with quantized weights and the statistics of each batch
    in batch normalization, as the first training step sees them. A k-bit scale becomes that of
    least squared error over a sample of up to 65,536 values a batch; an 8-bit range becomes the
    smallest that covers the sample's minimum and maximum, and [0, 1] where all of it is 0. Fixed
    scales and ranges stay, and so do the moving statistics of batch normalization.

    Args:
      model: from `quantize_model` or `quantize_apply`.
      data: what `fit` takes: an array (or a list or dictionary of them, one for each input), or
        batches of x, ``(x, y)`` or ``(x, y, weights)``: a `tf.data.Dataset`, a generator, a list of
        arrays, a `keras.utils.Sequence`. A few hundred images are enough.
      steps: how many batches to take at most; None: all there are.
      batch_size: images in a batch of an array.

    Raises:
      ValueError: if there are no batches, they do not end or do not fit the model, a layer's
        output is not finite, or inputs leave the model's `input_range` by more than half of its
        width, or are far smaller.
    """
    front, entries = front_of(model, "calibrate"), output_quantizers(model)
    names = list(named_output_quantizers(model))
    samples: list[list[np.ndarray]] = [[] for _ in entries]
    saved = model.get_weights()
    random = np.random.default_rng(0)

    def observer(values: list[np.ndarray]) -> Callable[[np.ndarray], bool]:
        def observe(batch):
            flat = np.ravel(batch)
            if flat.size > _VALUES_PER_BATCH:
                chosen = flat[random.integers(flat.size, size=_VALUES_PER_BATCH)]
                flat = np.append(chosen, [flat.min(), flat.max()])
            values.append(flat)
            return False

        return observe

    try:
        for (quantizer, _), values in zip(entries, samples, strict=True):
            quantizer.observer = observer(values)
        count = 0
        for inputs, _ in batches(model, data, steps, batch_size):
            model(front.packed_inputs(model, inputs), training=True)
            count += 1
    finally:
        for quantizer, _ in entries:
            quantizer.observer = None
        model.set_weights(saved)
    if not count:
        raise ValueError("Calibration needs at least one batch of inputs; got none.")
    wrong = [
        name
        for name, values in zip(names, samples, strict=True)
        if not all(np.isfinite(part).all() for part in values)
    ]
    if wrong:
        raise ValueError(
            f"With these data the outputs of {', '.join(wrong)} are NaN or infinite; look at the "
            "data and at the model's weights."
        )
    seen = {id(entry[0]): values for entry, values in zip(entries, samples, strict=True)}
    for name, quantizer in input_quantizers(model).items():
        if quantizer.fixed:
            _check_range(name, seen[id(quantizer)], quantizer.fixed)
    for (quantizer, variables), values in zip(entries, samples, strict=True):
        quantizer.calibrate(np.concatenate(values), variables)


def _check_range(name: str, values: Sequence[np.ndarray], fixed: tuple[float, float]) -> None:
    """Raises ValueError for inputs that cannot be what an input range was given for."""
    least, most = float(min(map(np.min, values))), float(max(map(np.max, values)))
    largest, (low, high) = max(-least, most), fixed
    width = high - low
    is_cut = max(low - least, most - high) > _ROOM * width
    if is_cut or 0 < largest < _NEAR * width:
        raise ValueError(
            f"The data of input {name!r} reach from {least:.4g} to {most:.4g}, and its input_range "
            f"is {low:g} to {high:g}, outside of which they are cut off; give them as the float "
            "model takes them, not as pixels of another range, or quantize with a range of its own "
            f"for this input: input_range={{{name!r}: …}}."
        )
