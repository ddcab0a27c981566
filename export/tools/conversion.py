"""Keras model to TFLite file, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tf_keras as keras

from export.flatbuffer.writer import to_flatbuffer
from export.lowering.network import lower
from export.realization.network import realize


def to_tflite(
    model: keras.Model, metadata: Mapping[str, Any] | None = None, *, weights: str = "int8"
) -> bytes:
    """The integer-only .tflite file of a quantized model.

    int8 input and output, no float tensor inside; the input's codes are pixel values minus 128
    where the model was quantized with an `input_range`.

    Args:
      model: see `export.lower`.
      metadata: see `export.lower`; 'labels' are embedded in the file.
      weights: 'int8', 'int4' or 'int2', see `export.realize`. Smaller than int8 is slower wherever
        XNNPACK does not take it: everywhere but in dense layers and 1x1 convolutions.

    Raises:
      LoweringError: if the model has no integer form.
    """
    return to_flatbuffer(realize(lower(model, metadata), weights=weights))
