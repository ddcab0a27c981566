"""Keras model to TFLite file, in one call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from export.alignment import disagreement
from export.flatbuffer.borders import with_borders
from export.flatbuffer.writer import to_flatbuffer
from export.lowering.network import lower
from export.realization.network import realize

_REMEDY = (
    "export.settle(model), called when training has ended and before the last evaluation, moves "
    "what can be moved; where it was called, this is what is left. export.prove names the channels."
)


def to_tflite(
    model: Any,
    metadata: Mapping[str, Any] | None = None,
    *,
    weights: str = "int8",
    io: str = "uint8",
) -> bytes:
    """The integer-only .tflite file of a quantized model.

    An int8 network without a float tensor, between an operator at each end that makes its borders
    uint8: pixels go in as they are, where the model was quantized with an `input_range`. MediaPipe
    and the Task Library take uint8 and float32, not int8, and code that writes the bytes of pixels
    into an int8 input gets wrong answers without an error; hence the default.

    Warns, once and in numbers, where channels give other codes for some inputs than what was
    trained, or than Keras: `export.settle`, at the end of training, is what mends that.

    Args:
      model: see `export.lower`.
      metadata: see `export.lower`; 'labels' are embedded in the file.
      weights: 'int8', 'int4' or 'int2', see `export.realize`. Files smaller than int8 are for
        LiteRT on CPUs only.
      io: type of the inputs and outputs: 'uint8'; 'int8', the pixel minus 128, without the two
        operators; or 'float32', real values.

    Raises:
      LoweringError: if the model has no integer form.
    """
    trained = lower(model, metadata)
    graph = realize(trained, weights=weights)
    if found := disagreement.sentences(model, trained, graph):
        warnings.warn(" ".join([*found, _REMEDY]), stacklevel=2)
    return with_borders(to_flatbuffer(graph), io)
