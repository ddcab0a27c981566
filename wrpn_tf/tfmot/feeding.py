"""Data as Keras's `fit` takes them, as batches of a model's inputs and what comes with them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

BATCH_SIZE = 32
"""Images in a batch of arrays: Keras's default."""


def batches(
    model: keras.Model, data: Any, steps: int | None = None, batch_size: int = BATCH_SIZE
) -> Iterator[tuple[list[Any], Any]]:
    """The batches of `data`, as `fit` would take them for `model`.

    Args:
      model: the model.
      data: an array of all inputs, a list or dictionary of arrays where the model has several; or
        batches, one after the other: a `tf.data.Dataset`, a generator or another iterable, a
        `keras.utils.Sequence`. A batch that is a tuple is ``(x, y)`` or ``(x, y, weights)``.
      steps: how many batches at most; None: all.
      batch_size: into how many images arrays are cut.

    Yields:
      The inputs in the order of `model.inputs`, and y, or None.

    Raises:
      ValueError: for data that do not fit the model, or do not end.
    """
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"steps is a positive number of batches or None; got {steps!r}.")
    for batch in itertools.islice(_elements(model, data, steps, batch_size), steps):
        x, y = batch, None
        if isinstance(batch, tuple) or (
            isinstance(batch, list) and len(batch) != len(model.inputs)
        ):
            if not 1 <= len(batch) <= 3:
                raise ValueError(
                    f"A batch is x, (x, y) or (x, y, weights); got {len(batch)} values, and the "
                    f"model has the inputs {', '.join(model.input_names)}."
                )
            x, y = batch[0], batch[1] if len(batch) > 1 else None
        yield _fitting(model, x), y


def _elements(model: keras.Model, data: Any, steps: int | None, size: int) -> Iterator[Any]:
    """Batches as they come."""
    if isinstance(data, str | bytes) or data is None:
        raise ValueError(f"Data are arrays or batches of them; got {data!r}.")
    if _is_whole(model, data):
        parts = _fitting(model, data)
        counts = {len(part) for part in parts}
        if len(counts) > 1:
            raise ValueError(f"Arrays have different numbers of images: {sorted(counts)}.")
        for start in range(0, counts.pop(), size):
            yield [part[start : start + size] for part in parts]
        return
    if isinstance(data, tf.data.Dataset):
        if steps is None and data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError("The dataset repeats without end; give steps=, a number of batches.")
        yield from data
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        for index in range(len(data)):
            yield data[index]
    elif isinstance(data, Iterable):
        yield from data
    else:
        raise ValueError(
            "Data are arrays, a tf.data.Dataset, a generator or a keras.utils.Sequence; got "
            f"{type(data).__name__}."
        )


def _is_whole(model: keras.Model, data: Any) -> bool:
    """Whether `data` are the inputs, and not batches of them."""
    if isinstance(data, Mapping):
        return True
    rank = model.inputs[0].shape.rank
    if isinstance(data, list) and len(data) == len(model.inputs) > 1:
        ranks = [tensor.shape.rank for tensor in model.inputs]
        return [_rank(part) for part in data] == ranks
    return rank is not None and _rank(data) in (rank, rank - 1)  # One image is a mistake: named.


def _rank(value: Any) -> int | None:
    """The rank of an array; None for anything else."""
    shape = getattr(value, "shape", None)
    return None if shape is None or isinstance(value, keras.Model) else len(shape)


def _fitting(model: keras.Model, x: Any) -> list[Any]:
    """Inputs in the order of the model's; raises ValueError where they do not fit."""
    names = model.input_names
    if isinstance(x, Mapping):
        nested = model._nested_inputs
        keys = sorted(nested) if isinstance(nested, dict) else names
        known = keys if set(x) == set(keys) else names
        if set(x) != set(known):
            raise ValueError(f"Inputs are {', '.join(map(str, x))}; expected {', '.join(keys)}.")
        parts = [x[key] for key in known]
    else:
        parts = tf.nest.flatten(x)
    if len(parts) != len(names):
        raise ValueError(
            f"A batch has {len(parts)} inputs; the model has {len(names)}: {', '.join(names)} (a "
            "tuple is x and y; several inputs are a list or a dictionary)."
        )
    for part, name, tensor in zip(parts, names, model.inputs, strict=True):
        shape, expected = getattr(part, "shape", None), tuple(tensor.shape)
        if shape is None or not tensor.shape[1:].is_compatible_with(shape[1:]):
            given = type(part).__name__ if shape is None else tuple(shape)
            unbatched = shape is not None and len(shape) == len(expected) - 1
            advice = "; batch the data" if unbatched else ""
            raise ValueError(f"Input {name!r} takes {expected}; a batch has {given}{advice}.")
    return parts
