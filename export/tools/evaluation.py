"""Accuracy of a classifier over labelled images, in several processes."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import queue
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from export.runtime.isolation import Isolated
from export.tools.classifier import Classifier, Interface

BEST = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Shares of the images whose label was the best class, or among the best five."""

    images: int
    top1: float
    top5: float


def labels_of_classes(
    description: Interface, class_names: Sequence[str], offset: int
) -> np.ndarray:
    """The data set's label for each class of the model, -1 where there is none.

    By name where the file names its classes, all names of the data set are among them and `offset`
    is 0, else by position: class ``offset`` is label 0.

    Raises:
      ValueError: the numbers of classes do not fit, or some of the names are the file's and have
        another position there.
    """
    mapping = np.full(description.classes, -1, np.int64)
    labels = (description.labels or ())[: description.classes]
    positions = {name: index for index, name in enumerate(labels)}
    unknown = [name for name in class_names if name not in positions]
    if not offset and not unknown:
        mapping[[positions[name] for name in class_names]] = np.arange(len(class_names))
        return mapping
    if description.classes - offset != len(class_names):
        raise ValueError(
            f"the model has {description.classes} classes, the data set {len(class_names)}: "
            "--label_offset says which class is label 0 (1 where class 0 is the background)"
        )
    moved = [
        name
        for label, name in enumerate(class_names)
        if name in positions and labels[label : label + 1] != (name,)
    ]
    if not offset and moved:
        raise ValueError(
            f"the file has the class {moved[0]!r} at another position than the data set, and none "
            f"named {unknown[0]!r}: give all classes the file's names, {', '.join(labels[:10])}"
            f"{', …' if len(labels) > 10 else ''}"
        )
    mapping[offset:] = np.arange(len(class_names))
    return mapping


def evaluate(
    content: bytes,
    description: Interface,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    mapping: np.ndarray,
    *,
    kernel_set: str = "xnnpack",
    processes: int = 1,
    progress: Callable[[Accuracy], None] = lambda _: None,
) -> Accuracy:
    """Counts right classes.

    Args:
      content: the bytes of the .tflite file.
      description: what it takes and gives.
      batches: (uint8 ``[N, height, width, channels]``, int64 ``[N]``).
      mapping: the label of each class.
      kernel_set: 'xnnpack', 'optimized' or 'reference'.
      processes: how many processes run the model.
      progress: called with the accuracy so far after each batch.

    Raises:
      ValueError: the model cannot be run, or there are no images, or some without a label.
    """
    images = first = among = 0
    with contextlib.ExitStack() as stack:
        workers: queue.SimpleQueue[Isolated] = queue.SimpleQueue()
        for _ in range(processes):
            worker = Isolated(Classifier, content, description, kernel_set, BEST)
            workers.put(stack.enter_context(worker))
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(processes))

        def classify(pixels: np.ndarray) -> np.ndarray:
            worker = workers.get()
            try:
                return worker(pixels)
            finally:
                workers.put(worker)

        pending: collections.deque[tuple[concurrent.futures.Future, np.ndarray]]
        pending = collections.deque()

        def count() -> Accuracy:
            nonlocal images, first, among
            future, labels = pending.popleft()
            hits = mapping[future.result()] == labels[:, None]
            images += len(labels)
            first += int(hits[:, 0].sum())
            among += int(hits.any(axis=1).sum())
            return Accuracy(images=images, top1=first / images, top5=among / images)

        for pixels, labels in batches:
            if labels.min() < 0:
                raise ValueError(
                    f"an image has the label {labels.min()}: this split has no labels, as the "
                    "test images of ImageNet; take another, as --split=validation"
                )
            pending.append((pool.submit(classify, pixels), labels))
            if len(pending) > 2 * processes:
                progress(count())
        while pending:
            progress(count())
    if not images:
        raise ValueError("there are no images")
    return Accuracy(images=images, top1=first / images, top5=among / images)
