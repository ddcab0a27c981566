"""ImageNet as streams of JPEG bytes: from TensorFlow Datasets or from folders of files.

What does not fit in memory is read as `tf.data` streams. The pixel map is that of
`wrpn_tf.datasets`: one power-of-two scale and one zero point for all channels.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from wrpn_tf.data.datasets import Dataset, LabelledImages
from wrpn_tf.data.folders import list_images
from wrpn_tf.data.preparation import prepared_builder

if TYPE_CHECKING:  # The functions import it: `NAME` is needed without TensorFlow.
    import tensorflow as tf

    from wrpn_tf.data.records import RecordSplit

NAME = "imagenet2012"
_SCALE, _ZERO_POINT = 1 / 64, 115  # About 1 / standard deviation and mean, over all channels.
_CENTRAL = 0.875  # 224 of 256 pixels, as in nearly all published evaluations.


class Split(Protocol):
    """Labelled JPEG images in a stored order."""

    @property
    def size(self) -> int:
        """Number of images."""

    def has_files_for(self, readers: int) -> bool:
        """Whether `readers` can share the split by files instead of image by image."""

    def elements(
        self, seed: tf.Tensor | None = None, readers: int = 1, reader: int = 0
    ) -> tf.data.Dataset:
        """Streams (name, source, int64 label); `read` makes JPEG bytes of a source.

        Args:
            seed: int64 [2], decides the order; None keeps the stored one.
            readers: Above 1, the files are shared by so many readers; see `has_files_for`.
            reader: Which of them this is.
        """

    def read(self, source: tf.Tensor) -> tf.Tensor:
        """The JPEG bytes of a source."""


@dataclasses.dataclass(frozen=True, eq=False)
class FileSplit:
    """One JPEG file for each image; any order is possible and nothing is read to skip.

    Attributes:
        files: Paths, [N].
        labels: int64 [N].
    """

    files: np.ndarray
    labels: np.ndarray

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.files)

    def head(self, count: int | None) -> FileSplit:
        """The split with only the first `count` images; None: all."""
        return FileSplit(self.files[:count], self.labels[:count])

    def has_files_for(self, readers: int) -> bool:
        """No: sharing image by image already opens a reader's own files only."""
        return False

    def elements(
        self, seed: tf.Tensor | None = None, readers: int = 1, reader: int = 0
    ) -> tf.data.Dataset:
        """See `Split`."""
        import tensorflow as tf

        with tf.init_scope():  # Once, and not into the graph of every epoch.
            files, labels = tf.constant(self.files), tf.constant(self.labels)
        order = tf.range(self.size)
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(order, seed)
        return tf.data.Dataset.from_tensor_slices(order).map(
            lambda index: (files[index], files[index], labels[index])
        )

    def read(self, source: tf.Tensor) -> tf.Tensor:
        """The file's contents."""
        import tensorflow as tf

        return tf.io.read_file(source)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JpegDataset(LabelledImages):
    """A labelled data set of JPEG images that is read as streams.

    Attributes:
        train: The training images.
        test: The test images.
        image_size: Height and width in pixels of the images that a network sees.
    """

    train: FileSplit | RecordSplit
    test: FileSplit | RecordSplit
    image_size: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        return self.image_size, self.image_size, 3

    def head(self, train: int | None = None, test: int | None = None) -> JpegDataset:
        """Returns the data set with only the first so many training and test images; None: all."""
        return dataclasses.replace(self, train=self.train.head(train), test=self.test.head(test))

    def load_test_images(self, limit: int) -> Dataset:
        """The first `limit` test images in memory, without training images.

        Images that cannot be decoded are left out.
        """
        import tensorflow as tf

        split = self.test.head(limit)
        pairs = (
            split.elements()
            .map(
                lambda name, source, label: (
                    central_crop(split.read(source), self.image_size),
                    label,
                ),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            .ignore_errors()
        )
        images, labels = zip(*pairs.as_numpy_iterator(), strict=True)
        return Dataset(
            name=self.name,
            class_names=self.class_names,
            scale=self.scale,
            zero_point=self.zero_point,
            train_images=np.zeros((0, *self.image_shape), np.uint8),
            train_labels=np.zeros(0, np.int64),
            test_images=np.stack(images),
            test_labels=np.array(labels, np.int64),
        )


def central_crop(jpeg: tf.Tensor, image_size: int) -> tf.Tensor:
    """Decodes the central square, 7/8 of the short side, and resizes it; uint8 [size, size, 3]."""
    import tensorflow as tf

    shape = tf.io.extract_jpeg_shape(jpeg)
    side = tf.cast(tf.round(tf.cast(tf.reduce_min(shape[:2]), tf.float32) * _CENTRAL), tf.int32)
    corner = (shape[:2] - side) // 2
    window = tf.stack([corner[0], corner[1], side, side])
    return resize(tf.io.decode_and_crop_jpeg(jpeg, window, channels=3), image_size)


def resize(pixels: tf.Tensor, image_size: int) -> tf.Tensor:
    """Bilinear, half-pixel centres, rounded to the nearest pixel value: uint8 [size, size, 3]."""
    import tensorflow as tf

    # Of float32 with three channels TensorFlow's kernel is vectorized; the result is the same.
    resized = tf.image.resize(tf.cast(pixels, tf.float32), [image_size, image_size])
    resized.set_shape([image_size, image_size, 3])
    return tf.cast(resized + 0.5, tf.uint8)


def load_jpegs(data_dir: str | os.PathLike[str] | None, image_size: int) -> JpegDataset:
    """Finds ImageNet.

    Args:
        data_dir: A folder with `train/<class>/*.JPEG` and `val/<class>/*.JPEG` (see
            `wrpn_tf.data.folders`), or a folder of TensorFlow Datasets with `imagenet2012`,
            prepared or to be prepared from the archives in its `downloads/manual/`; None for TFDS's
            own.
        image_size: Height and width in pixels of the images that a network sees.

    Raises:
        FileNotFoundError: There is neither.
        ImportError: TFDS is needed and not installed.
        ValueError: The folder's contents are inconsistent, or TFDS's in another format than
            TFRecord.
    """
    from wrpn_tf.data.records import read_records

    folder = None if data_dir is None else pathlib.Path(data_dir).expanduser()
    names: tuple[str, ...]
    splits: Sequence[FileSplit | RecordSplit]
    if folder is not None and (folder / "train").is_dir():
        names, files = list_images(folder)
        splits = [FileSplit(*files[split]) for split in ("train", "val")]
    else:
        builder = _builder(folder)
        names = tuple(builder.info.features["label"].names)
        splits = [read_records(builder, split, len(names)) for split in ("train", "validation")]
    return JpegDataset(
        name=NAME,
        class_names=names,
        scale=_SCALE,
        zero_point=_ZERO_POINT,
        train=splits[0],
        test=splits[1],
        image_size=image_size,
    )


def wrong_label(error: tf.errors.OpError) -> str | None:
    """What reading found, if an error is that of a record whose label is no class; else None."""
    from wrpn_tf.data.records import WRONG_LABEL

    found = WRONG_LABEL.search(error.message)
    return found and found[0]


def _builder(folder: pathlib.Path | None) -> Any:
    try:
        return prepared_builder(NAME, folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}. The archives ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar "
            f"(image-net.org) belong in downloads/manual/ there. Folders of files are read too: "
            f"{folder or 'DATA_DIR'}/train/<class>/*.JPEG and val/<class>/*.JPEG"
        ) from error
