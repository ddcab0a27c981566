"""What both sides of a verification are fed: real values for Keras, codes for the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

import wrpn_tf
from export.ir.graph import IntegerGraph
from export.verification import comparison

_BATCH = 100


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Images as both sides take them.

    Attributes:
      reals: what Keras is fed, in the order of the model's inputs.
      codes: int8 ``[images, ...]`` by input name.
      labels: what came with them, or None.
    """

    reals: list[np.ndarray]
    codes: dict[str, np.ndarray]
    labels: np.ndarray | None

    def cut(self, size: int) -> Iterator[Batch]:
        """The same images in batches of at most `size`, without labels."""
        for start in range(0, len(self.reals[0]), size):
            piece = slice(start, start + size)
            codes = {name: codes[piece] for name, codes in self.codes.items()}
            yield Batch(reals=[part[piece] for part in self.reals], codes=codes, labels=None)


def read(model: Any, graph: IntegerGraph, images: Any, steps: int | None = None) -> Iterator[Batch]:
    """Images, in batches.

    Args:
      model: the model.
      graph: its integers.
      images: see `export.verify`.
      steps: how many batches at most.

    Raises:
      ValueError: for data that do not fit the model.
    """
    quantizers = wrpn_tf.named_output_quantizers(model)
    for values, labels in wrpn_tf.batches(model, images, steps, batch_size=_BATCH):
        reals, codes = [], {}
        for name, tensor, value in zip(graph.inputs, model.inputs, values, strict=True):
            layer = graph.provenance.layers[name]
            array = np.asarray(value)
            if array.dtype.kind == "f" and np.isnan(array).any():
                raise ValueError(f"The images of input {name!r} hold NaN.")
            dtype = np.dtype(getattr(tensor.dtype, "as_numpy_dtype", tensor.dtype))
            has_pixels = not quantizers[layer][0].has_free_scale and dtype != np.uint8
            if array.dtype == np.uint8 and has_pixels:
                codes[name] = (array.astype(np.int16) - 128).astype(np.int8)
                reals.append(comparison.dequantize(codes[name], graph.tensors[name]))
                continue
            reals.append(array.astype(dtype))
            on_grid = wrpn_tf.infer_layer(model, layer, [reals[-1]])
            codes[name] = comparison.quantize(on_grid, graph.tensors[name])
        yield Batch(reals=reals, codes=codes, labels=None if labels is None else np.asarray(labels))
