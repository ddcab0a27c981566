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
    "what can be moved; where it was called, this is what is left, and for layers of 8-bit weights "
    "7 leave more room. export.prove names the channels."
)


def to_tflite(
    model: Any,
    metadata: Mapping[str, Any] | None = None,
    *,
    weights: str = "int8",
    io: str = "int8",
) -> bytes:
    """The integer-only .tflite file of a quantized model.

    The int8 network of `export.lower`, without a float tensor: it takes and gives the codes that
    `export.execute` does. A file that others are to feed is written with ``io="uint8"``, the
    default of the programs: MediaPipe and the Task Library take uint8 and float32, not int8, and
    code that writes the bytes of pixels into an int8 input gets wrong answers without an error.

    Warns, once and in numbers, where channels give other codes for some inputs than what was
    trained, or than Keras: `export.settle`, at the end of training, is what mends that.

    Args:
      model: see `export.lower`.
      metadata: see `export.lower`; 'labels' are embedded in the file.
      weights: 'int8', 'int4' or 'int2', see `export.realize`. Files smaller than int8 are for
        LiteRT on CPUs only.
      io: type of the inputs and outputs: 'int8', the codes of the graph, of a pixel p the code
        p - 128 where the model was quantized with an `input_range`; or an operator more at each
        end: 'uint8', pixels as they are; 'float32', real values.

    Raises:
      LoweringError: if the model has no integer form.
    """
    trained = lower(model, metadata)
    graph = realize(trained, weights=weights)
    if found := disagreement.sentences(model, trained, graph):
        warnings.warn(" ".join([*found, _REMEDY]), stacklevel=2)
    return with_borders(to_flatbuffer(graph), io)
