"""Image data sets as arrays, each with the one affine map from pixels to real values.

The map has one scale and one zero point for all channels, `real = scale * (pixel - zero_point)`,
so that it is also the quantization of a deployed network's input tensor: the device takes image
codes as they are. Every scale is a power of two, so every real value is exact in float32.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from wrpn_tf.data.preparation import prepared_builder, quiet

_TEST_FRACTION = 0.2
_SPLIT_SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """What every image data set has, in memory or not.

    Attributes:
        name: The name that the loader knows it by.
        class_names: One name per class, in the order of the labels.
        scale: Real value of one pixel step, a power of two.
        zero_point: The pixel whose real value is 0.
    """

    name: str
    class_names: tuple[str, ...]
    scale: float
    zero_point: int

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """Returns the real values, float32 and exact, of uint8 images of any shape."""
        return (np.asarray(images, np.float32) - np.float32(self.zero_point)) * np.float32(
            self.scale
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        raise NotImplementedError

    @property
    def input_range(self) -> tuple[float, float]:
        """The real values of pixels 0 and 255."""
        return self.scale * -self.zero_point, self.scale * (255 - self.zero_point)

    @property
    def normalization(self) -> dict[str, list[float]]:
        """Mean and standard deviation in pixels, `real = (pixel - mean) / std`, one for all."""
        return {"mean": [float(self.zero_point)], "std": [1.0 / self.scale]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset(LabelledImages):
    """A labelled image data set in memory.

    Attributes:
        train_images: uint8 [N, H, W, C].
        train_labels: int64 [N], in [0, len(class_names)).
        test_images: uint8 [M, H, W, C].
        test_labels: int64 [M].
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    def head(self, train: int | None = None, test: int | None = None) -> "Dataset":
        """Returns the data set with only the first so many training and test images; None: all."""
        return dataclasses.replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads a data set by name.

    Args:
        name: One of `names()`.
        data_dir: Folder of prepared TensorFlow Datasets, only read. By default TFDS's own
            (`~/tensorflow_datasets` or $TFDS_DATA_DIR), where a missing data set is downloaded.
            'digits' comes with scikit-learn and ignores it.

    Returns:
        The data set with read-only arrays; one is kept, so that loading it again takes no time.

    Raises:
        ValueError: The name is unknown.
        FileNotFoundError: The data set is not under `data_dir` or cannot be downloaded.
        ImportError: The package that holds or reads the data set is not installed.
    """
    if name not in _LOADERS:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(names())}")
    return _load(name, None if data_dir is None else os.fspath(data_dir))


@functools.lru_cache(maxsize=1)
def _load(name: str, data_dir: str | None) -> Dataset:
    data = _LOADERS[name](data_dir)
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        array.flags.writeable = False  # Callers share it.
    return data


def names() -> tuple[str, ...]:
    """The names that `load` knows."""
    return tuple(sorted(_LOADERS))


def _digits(data_dir: str | os.PathLike[str] | None) -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8x8x1 (UCI optdigits' test set).

    The 17 grey levels 0..16 become the pixels round(255 / 16 * level), so that the range is that
    of any grey image. Real values are pixel / 128; the background is 0. A stratified fifth of the
    images, the same at every call, is the test set.
    """
    del data_dir
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError(
            "the data set 'digits' is part of scikit-learn: pip install scikit-learn"
        ) from error
    levels, labels = load_digits(return_X_y=True)
    images = np.rint(levels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images,
        labels.astype(np.int64),
        test_size=_TEST_FRACTION,
        random_state=_SPLIT_SEED,
        stratify=labels,
    )
    return Dataset(
        name="digits",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=tuple(str(digit) for digit in range(10)),
        scale=1 / 128,
        zero_point=0,
    )


def _cifar10(data_dir: str | os.PathLike[str] | None) -> Dataset:
    """CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images, 32x32x3.

    scale = 1/64 and zero_point = 121 are close to 1 / the training set's standard deviation
    (64 pixels over all channels) and to its mean (120 to 121).
    """
    arrays, class_names = _load_tfds("cifar10", data_dir)
    return Dataset(
        name="cifar10",
        train_images=arrays["train"]["image"],
        train_labels=arrays["train"]["label"].astype(np.int64),
        test_images=arrays["test"]["image"],
        test_labels=arrays["test"]["label"].astype(np.int64),
        class_names=class_names,
        scale=1 / 64,
        zero_point=121,
    )


def _load_tfds(
    name: str, data_dir: str | os.PathLike[str] | None
) -> tuple[dict[str, dict[str, np.ndarray]], tuple[str, ...]]:
    """Reads the whole train and test splits of a TFDS data set, in their stored order."""
    builder = prepared_builder(name, data_dir)
    with quiet():
        import tensorflow_datasets as tfds

        arrays = {
            split: tfds.as_numpy(
                builder.as_dataset(split=split, batch_size=-1, shuffle_files=False)
            )
            for split in ("train", "test")
        }
    return arrays, tuple(builder.info.features["label"].names)


_LOADERS: dict[str, Callable[[Any], Dataset]] = {"cifar10": _cifar10, "digits": _digits}
