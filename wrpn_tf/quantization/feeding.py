"""Data as Keras's `fit` takes them, as batches of a model's inputs and what comes with them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from wrpn_tf.fronts import front_of
from wrpn_tf.quantization.inspection import Model

BATCH_SIZE = 32
"""Images in a batch of arrays: Keras's default."""


def batches(
    model: Model, data: Any, steps: int | None = None, batch_size: int = BATCH_SIZE
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
                    f"model has the inputs {', '.join(front_of(model).input_names(model))}."
                )
            x, y = batch[0], batch[1] if len(batch) > 1 else None
        yield _fitting(model, x), y


def _elements(model: Model, data: Any, steps: int | None, size: int) -> Iterator[Any]:
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
    if hasattr(data, "cardinality"):  # A tf.data.Dataset, which says -1 where it has no end.
        if steps is None and data.cardinality() == -1:
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


def _is_whole(model: Model, data: Any) -> bool:
    """Whether `data` are the inputs, and not batches of them."""
    if isinstance(data, Mapping):
        return True
    rank = len(model.inputs[0].shape)
    if isinstance(data, list) and len(data) == len(model.inputs) > 1:
        ranks = [len(tensor.shape) for tensor in model.inputs]
        return [_rank(part) for part in data] == ranks
    return _rank(data) in (rank, rank - 1)  # One image is a mistake: named.


def _rank(value: Any) -> int | None:
    """The rank of an array; None for anything else."""
    shape = getattr(value, "shape", None)
    return None if shape is None or hasattr(value, "layers") else len(shape)


def _fitting(model: Model, x: Any) -> list[Any]:
    """Inputs in the order of the model's; raises ValueError where they do not fit."""
    names = front_of(model).input_names(model)
    if isinstance(x, Mapping):
        nested = front_of(model).nested_inputs(model)
        keys = sorted(nested) if isinstance(nested, dict) else names
        known = keys if set(x) == set(keys) else names
        if set(x) != set(known):
            raise ValueError(f"Inputs are {', '.join(map(str, x))}; expected {', '.join(keys)}.")
        parts = [x[key] for key in known]
    else:
        parts = _flat(x)
    if len(parts) != len(names):
        raise ValueError(
            f"A batch has {len(parts)} inputs; the model has {len(names)}: {', '.join(names)} (a "
            "tuple is x and y; several inputs are a list or a dictionary)."
        )
    for part, name, tensor in zip(parts, names, model.inputs, strict=True):
        shape, expected = getattr(part, "shape", None), tuple(tensor.shape)
        if shape is None or not _fits(tuple(shape)[1:], expected[1:]):
            given = type(part).__name__ if shape is None else tuple(shape)
            advice = "" if shape is None else _advice(tuple(shape), expected)
            raise ValueError(f"Input {name!r} takes {expected}; a batch has {given}{advice}.")
        if takes_integers(tensor) and _has_fractions(part):
            raise ValueError(
                f"Input {name!r} takes integers, which would cut the fractions of the data off; "
                "give pixels, 0 to 255."
            )
    return parts


def _advice(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> str:
    """What mends a batch of one axis too few."""
    if len(shape) != len(expected) - 1:
        return ""
    if expected[-1] == 1 and _fits(shape[1:], expected[1:-1]):
        return "; add the axis of channels, images[..., None]"
    return "; batch the data"


def takes_integers(tensor: Any) -> bool:
    """Whether an input of a model, of either Keras, is of an integer type."""
    return "int" in str(getattr(tensor.dtype, "name", tensor.dtype))


def _has_fractions(part: Any) -> bool:
    array = np.asarray(part)
    return array.dtype.kind == "f" and bool((array != np.trunc(array)).any())


def _flat(x: Any) -> list[Any]:
    """The arrays in lists and dictionaries, these in the order of their keys."""
    if isinstance(x, Mapping):
        x = [x[key] for key in sorted(x)]
    if not isinstance(x, list | tuple):
        return [x]
    return [part for item in x for part in _flat(item)]


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Whether a shape is what a model takes, without the batch."""
    return len(shape) == len(expected) and all(
        size is None or size == given for given, size in zip(shape, expected, strict=True)
    )
