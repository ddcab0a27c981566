"""A training's data, in memory or not, behind one face."""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf

from train import data as arrays
from train import jpeg_input
from train.config import Config, UserError
from wrpn_tf import datasets, jpegs

_CALIBRATION_IMAGES = 512
_CALIBRATION_BATCH = 128
_TEST_BATCH = 500

Batches = Callable[[tf.distribute.InputContext], tf.data.Dataset]


class Source(Protocol):
    """The batches of one training.

    Attributes:
        train_size: Number of training images.
    """

    train_size: int

    @property
    def data(self) -> datasets.LabelledImages:
        """The data set."""

    def test_steps(self, replicas: int) -> int:
        """Steps over the test images, with a batch for each replica in a step."""

    def training(self, first_step: int, epochs: int) -> Batches:
        """The batches from a step to the end of epoch `epochs - 1`, for each reader."""

    def test(self) -> Batches:
        """The test images, for each reader."""

    def calibration(self) -> list[np.ndarray]:
        """A few hundred training images as real values, in batches."""

    def check(self) -> None:
        """Raises UserError if what was read so far is not as it should be."""


class ArraySource:
    """Batches of a data set in memory."""

    def __init__(self, config: Config, data: datasets.Dataset) -> None:
        self.data = data
        self.train_size = len(data.train_images)
        self._config = config

    def training(self, first_step: int, epochs: int) -> Batches:
        """See `Source`."""
        config = self._config
        return lambda reader: arrays.training_batches(
            self.data,
            batch_size=config.batch_size,
            epochs=epochs,
            first_step=first_step,
            seed=config.seed,
            shift=config.shift,
            flip=config.flip,
            reader=reader,
        )

    def test(self) -> Batches:
        """See `Source`."""
        return lambda reader: arrays.test_batches(
            self.data, batch_size=_TEST_BATCH // reader.num_replicas_in_sync, reader=reader
        )

    def test_steps(self, replicas: int) -> int:
        """See `Source`."""
        return math.ceil(len(self.data.test_images) / (_TEST_BATCH // replicas * replicas))

    def calibration(self) -> list[np.ndarray]:
        """See `Source`."""
        chosen = np.random.default_rng(self._config.seed).permutation(self.train_size)
        images = self.data.normalize(self.data.train_images[chosen[:_CALIBRATION_IMAGES]])
        return np.array_split(images, math.ceil(len(images) / _CALIBRATION_BATCH))

    def check(self) -> None:
        """Nothing can be wrong any more."""


class JpegSource:
    """Batches of a data set of JPEG images."""

    def __init__(self, config: Config, data: jpegs.JpegDataset) -> None:
        self.data = data
        self.train_size = data.train.size
        self._config = config
        self._corrupt = jpeg_input.CorruptImages(data.train.size + data.test.size)

    def training(self, first_step: int, epochs: int) -> Batches:
        """See `Source`."""
        config = self._config
        return lambda reader: jpeg_input.training_batches(
            self.data,
            self._corrupt,
            batch_size=config.batch_size,
            epochs=epochs,
            first_step=first_step,
            seed=config.seed,
            flip=config.flip,
            color=config.color,
            reader=reader,
        )

    def test(self) -> Batches:
        """See `Source`."""
        return lambda reader: jpeg_input.test_batches(
            self.data,
            self._corrupt,
            batch_size=reader.get_per_replica_batch_size(self._config.batch_size),
            reader=reader,
        )

    def test_steps(self, replicas: int) -> int:
        """See `Source`."""
        return math.ceil(self.data.test.size / self._config.batch_size)

    def calibration(self) -> list[np.ndarray]:
        """See `Source`: the first images of epoch 0."""
        count = math.ceil(_CALIBRATION_IMAGES / self._config.batch_size)
        batches = self.training(0, 1)(arrays.ALONE).take(count)
        return [images for images, _, _ in batches.as_numpy_iterator()]

    def check(self) -> None:
        """See `Source`: raises if more than 0.1 % of the images are corrupt."""
        self._corrupt.check()


def load(config: Config) -> Source:
    """Finds the data set of a training, cut to `config.train_images` and `config.test_images`.

    Raises:
        UserError: It is not there, or smaller than a batch.
    """
    try:
        source = _jpegs(config) if config.dataset == jpegs.NAME else _arrays(config)
    except (OSError, ImportError, ValueError) as error:
        raise UserError(str(error)) from error
    if source.train_size < config.batch_size:
        raise UserError(
            f"batch_size ({config.batch_size}) must not exceed the number of training images "
            f"({source.train_size})"
        )
    return source


def _arrays(config: Config) -> Source:
    data = datasets.load(config.dataset, config.data_dir)
    return ArraySource(config, data.head(config.train_images or None, config.test_images or None))


def _jpegs(config: Config) -> Source:
    data = jpegs.load_jpegs(config.data_dir, config.image_size)
    return JpegSource(config, data.head(config.train_images or None, config.test_images or None))
