"""Labelled images from a TensorFlow Datasets split or a tree of class folders, made to one size."""

from __future__ import annotations

import dataclasses
import difflib
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from export.tools.image_files import ENDINGS, image_files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images:
    """Labelled images, not loaded yet.

    Attributes:
      name: where they come from, for messages.
      class_names: by label.
      count: how many images there are.
      elements: tf.data of (uint8 ``[H, W, C]``, int64 label).
      paths: the files that they are read from, where that is known.
    """

    name: str
    class_names: tuple[str, ...]
    count: int
    elements: tf.data.Dataset
    paths: tuple[str, ...] = ()

    def batches(
        self, shape: tuple[int, int, int], resize: str, crop_fraction: float, batch: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of (uint8 ``[N, *shape]``, int64 ``[N]``), in a fixed order.

        Args:
          shape: (height, width, channels); channels 1 or 3.
          resize: 'crop': the central `crop_fraction` of the image, in the target's aspect;
            'squash': all of it, whatever its aspect. Bilinear, antialiased. Images that have the
            target's size are taken as they are.
          crop_fraction: in (0, 1].
          batch: images in a batch.

        Raises:
          ValueError: an image cannot be read; it is named.
        """
        elements = self.elements.map(
            lambda image, label: (_fit(image, shape, resize, crop_fraction), label),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        try:
            yield from elements.batch(batch).prefetch(2).as_numpy_iterator()
        except tf.errors.OpError as error:
            for path in self.paths:
                _check_readable(path)
            raise ValueError(f"Cannot read the images of {self.name}: {error.message}") from error


def from_tfds(name: str, split: str, data_dir: str | None) -> Images:
    """A split of a prepared TFDS data set; the split may be a slice, as 'validation[:100]'.

    Raises:
      ValueError: the data set or the split is not there, or has no image and label.
    """
    import tensorflow_datasets as tfds  # takes a second, and folders do without

    try:
        builder = tfds.builder(name, data_dir=data_dir)
        if not builder.is_prepared():
            raise ValueError(
                f"data set {name!r} is not prepared: nothing at {builder.data_path}; prepare it "
                f"with: tfds build {name} --data_dir={data_dir or builder.data_path}"
            )
        elements = builder.as_dataset(split=split, as_supervised=True, shuffle_files=False)
        names = tuple(builder.info.features["label"].names)
        count = builder.info.splits[split].num_examples
    except tfds.core.DatasetNotFoundError as error:
        near = difflib.get_close_matches(name, tfds.list_builders(), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"TensorFlow Datasets knows no data set {name!r}{hint}") from error
    except (KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"Cannot read {split!r} of data set {name!r}: {error}") from error
    return Images(name=f"{name}, {split}", class_names=names, count=count, elements=elements)


def from_folder(folder: str) -> Images:
    """A tree of folders, one for each class, labelled in the order of their names.

    Raises:
      ValueError: there are no such folders, or no images in them.
    """
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise ValueError(f"There is no folder {folder}.")
    homes = (path for path in root.iterdir() if not path.name.startswith("."))
    classes = sorted(path for path in homes if path.is_dir())
    found = [(str(path), label) for label, home in enumerate(classes) for path in image_files(home)]
    if not found:
        raise ValueError(
            f"{folder} has no images in class folders; expected {folder}/CLASS/NAME.jpg (or "
            f"{', '.join(ENDINGS[1:])})"
        )
    paths, labels = zip(*found, strict=True)
    return _from_paths(folder, tuple(path.name for path in classes), list(paths), list(labels))


def from_files(name: str, paths: Sequence[str]) -> Images:
    """Image files without classes, all labelled 0."""
    return _from_paths(name, (), list(paths), [0] * len(paths))


def _from_paths(
    name: str, class_names: tuple[str, ...], paths: list[str], labels: list[int]
) -> Images:
    elements = tf.data.Dataset.from_tensor_slices((paths, np.array(labels, np.int64)))
    return Images(
        name=name,
        class_names=class_names,
        count=len(paths),
        elements=elements.map(_load, num_parallel_calls=tf.data.AUTOTUNE),
        paths=tuple(paths),
    )


def _load(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.io.decode_image(tf.io.read_file(path), expand_animations=False), label


def _check_readable(path: str) -> None:
    try:
        _load(tf.constant(path), tf.constant(0))
    except tf.errors.OpError as error:
        raise ValueError(f"Cannot read the image {path}.") from error


def _fit(
    image: tf.Tensor, shape: tuple[int, int, int], resize: str, crop_fraction: float
) -> tf.Tensor:
    """An image of the target's shape."""
    height, width, channels = shape
    image = _with_channels(image, channels)
    size = tf.shape(image)[:2]

    def resized() -> tf.Tensor:
        target = tf.constant([height, width])
        if resize == "crop":
            ratio = tf.reduce_max(target / size) / crop_fraction
            larger = tf.maximum(
                tf.cast(tf.round(tf.cast(size, ratio.dtype) * ratio), size.dtype), target
            )
            whole = tf.image.resize(image, larger, antialias=True)
            top, left = tf.unstack((larger - target) // 2)
            result = whole[top : top + height, left : left + width]
        else:
            result = tf.image.resize(image, target, antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(result), 0, 255), tf.uint8)

    fitted = tf.cond(tf.reduce_all(size == [height, width]), lambda: image, resized)
    return tf.ensure_shape(fitted, shape)


def _with_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Grey as RGB, RGB as grey; transparency left out."""
    given = tf.shape(image)[-1]
    if channels == 3:
        return tf.cond(given < 3, lambda: tf.repeat(image[..., :1], 3, -1), lambda: image[..., :3])
    return tf.cond(
        given < 3, lambda: image[..., :1], lambda: tf.image.rgb_to_grayscale(image[..., :3])
    )
