"""Training batches: a function of (seed, epoch), and the augmentation itself."""

import numpy as np
import pytest
import tensorflow as tf

from train.data import test_batches as evaluation_batches
from train.data import training_batches
from wrpn_tf import datasets


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    return datasets.load("digits").head(130)


def collect(data: datasets.Dataset, **options: object) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(training_batches(data, batch_size=32, **options).as_numpy_iterator())  # type: ignore[arg-type]


def test_batches_do_not_depend_on_where_training_began(digits: datasets.Dataset) -> None:
    options = {"seed": 3, "shift": 2, "flip": True}
    whole = collect(digits, epochs=3, **options)
    assert len(whole) == 12
    for first_step in (4, 5, 11):
        rest = collect(digits, epochs=3, first_step=first_step, **options)
        for (images, labels), (same_images, same_labels) in zip(
            whole[first_step:], rest, strict=True
        ):
            np.testing.assert_array_equal(images, same_images)
            np.testing.assert_array_equal(labels, same_labels)
    assert (whole[0][1] != whole[4][1]).any()
    assert (collect(digits, epochs=1, seed=4)[0][1] != whole[0][1]).any()


def test_two_readers_share_the_batch_of_each_step(digits: datasets.Dataset) -> None:
    whole = collect(digits, epochs=1, shift=2)
    readers = [
        collect(digits, epochs=1, shift=2, reader=tf.distribute.InputContext(2, index, 4))
        for index in range(2)
    ]
    for step, (images, _) in enumerate(whole):
        parts = [
            part for reader in readers for part, _ in reader[2 * step : 2 * step + 2]
        ]  # Each reader has two replicas, with a quarter of the batch for each.
        assert {len(part) for part in parts} == {8}
        assert sorted(map(bytes, np.concatenate(parts))) == sorted(map(bytes, images))


def test_without_augmentation_an_epoch_is_a_permutation(digits: datasets.Dataset) -> None:
    data = digits.head(128)
    images = np.concatenate([images for images, _ in collect(data, epochs=1)])
    ours = sorted(image.tobytes() for image in images)
    assert ours == sorted(image.tobytes() for image in data.normalize(data.train_images))


def test_images_are_shifted_and_mirrored_windows_of_the_padded_original() -> None:
    data = datasets.load("digits").head(32)
    zero_point = 7
    data = datasets.dataclasses.replace(data, zero_point=zero_point)
    (images, labels), *_ = collect(data, epochs=1, shift=2, flip=True)
    padded = np.pad(data.train_images, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=zero_point)
    windows = {}
    for top in range(5):
        for left in range(5):
            crop = padded[:, top : top + 8, left : left + 8]
            for mirrored, view in ((False, crop), (True, crop[:, :, ::-1])):
                for image, label in zip(data.normalize(view), data.train_labels, strict=True):
                    windows[image.tobytes()] = (label, top, left, mirrored)
    found = [windows[image.tobytes()] for image in images]
    assert [label for label, *_ in found] == labels.tolist()
    assert len({(top, left) for _, top, left, _ in found}) > 8
    assert {mirrored for *_, mirrored in found} == {False, True}


def test_evaluation_sees_every_image_once_in_order(digits: datasets.Dataset) -> None:
    pairs = list(evaluation_batches(digits, batch_size=100).as_numpy_iterator())
    np.testing.assert_array_equal(
        np.concatenate([images for images, _ in pairs]), digits.normalize(digits.test_images)
    )
    np.testing.assert_array_equal(
        np.concatenate([labels for _, labels in pairs]), digits.test_labels
    )
