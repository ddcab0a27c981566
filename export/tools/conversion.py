"""Keras model to TFLite file, in one call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from export.alignment import disagreement
from export.flatbuffer.writer import to_flatbuffer
from export.lowering.network import lower
from export.realization.network import realize

_REMEDY = (
    "Call export.settle(model) when training has ended, before the last evaluation: it moves what "
    "can be moved. export.prove names the channels."
)


def to_tflite(
    model: Any, metadata: Mapping[str, Any] | None = None, *, weights: str = "int8"
) -> bytes:
    """The integer-only .tflite file of a quantized model.

    int8 input and output, no float tensor inside; the input's codes are pixel values minus 128
    where the model was quantized with an `input_range`.

    Warns, once and in numbers, where channels give other codes for some inputs than what was
    trained, or than Keras: `export.settle`, at the end of training, is what mends that.

    Args:
      model: see `export.lower`.
      metadata: see `export.lower`; 'labels' are embedded in the file.
      weights: 'int8', 'int4' or 'int2', see `export.realize`. Files smaller than int8 are for
        LiteRT on CPUs only.

    Raises:
      LoweringError: if the model has no integer form.
    """
    trained = lower(model, metadata)
    graph = realize(trained, weights=weights)
    if found := disagreement.sentences(model, trained, graph):
        warnings.warn(" ".join([*found, _REMEDY]), stacklevel=2)
    return to_flatbuffer(graph)
