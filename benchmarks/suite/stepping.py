"""Training steps, and how long they take: in every environment the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.suite.networks import Network

Step = Callable[[], None]
_WARM_UP = 2


def training_step(keras: Any, model: Any, network: Network) -> Step:
    """`warm_step` on the batch of a network."""
    images, labels = network.images(network.batch), network.labels(network.batch)
    return warm_step(keras, model, images, labels)


def warm_step(
    keras: Any, model: Any, images: np.ndarray, labels: np.ndarray, **options: Any
) -> Step:
    """The compiled training step of a model, traced and warm.

    Args:
      keras: the model's Keras.
      model: gives logits.
      images: a batch.
      labels: their classes.
      **options: of `compile`.
    """
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )

    def step() -> None:
        model.train_on_batch(images, labels)  # Gives the loss, and so waits for it.

    for _ in range(_WARM_UP):
        step()
    return step


def seconds(step: Step, count: int) -> float:
    """Mean time of some steps."""
    start = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - start) / count
