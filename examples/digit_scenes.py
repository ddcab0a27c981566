"""Small scenes for the examples: scikit-learn's digits of any size on a noisy canvas.

Nothing is downloaded. Digits of the training images are in training scenes only.
"""

import dataclasses

import numpy as np

import wrpn_tf

SIZE = 32
CLASSES = 10
INK = 64
"""Pixels of a digit from here on belong to it; the noise stays below."""

_MOST_DIGITS = 3
_DIGIT_SIZES = (8, 16)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenes:
    """Scenes with what is in them.

    Attributes:
        images: uint8 [N, 32, 32, 1].
        masks: int64 [N, 32, 32]: 0 for the background, else the digit plus 1.
        boxes: for each scene float32 [digits, 4]: top, left, bottom, right in pixels.
        labels: for each scene int64 [digits]: which digits the boxes hold.
    """

    images: np.ndarray
    masks: np.ndarray
    boxes: list[np.ndarray]
    labels: list[np.ndarray]


def make(count: int, split: str, seed: int = 0) -> Scenes:
    """Makes scenes of one to three digits, 8 to 16 pixels large, that do not overlap.

    Args:
        count: of scenes.
        split: whose digits: 'train' or 'test'.
        seed: decides everything.
    """
    data = wrpn_tf.datasets.load("digits")
    digits, names = (
        (data.train_images, data.train_labels)
        if split == "train"
        else (data.test_images, data.test_labels)
    )
    random = np.random.default_rng(seed)
    images = random.integers(0, INK // 2, (count, SIZE, SIZE)).astype(np.uint8)
    masks = np.zeros((count, SIZE, SIZE), np.int64)
    boxes, labels = [], []
    for image, mask in zip(images, masks, strict=True):
        found = []
        for _ in range(random.integers(1, _MOST_DIGITS + 1)):
            index = random.integers(len(digits))
            digit = _resized(digits[index, :, :, 0], random.integers(*_DIGIT_SIZES, endpoint=True))
            size = len(digit)
            top, left = random.integers(0, SIZE - size + 1, 2)
            place = np.s_[top : top + size, left : left + size]
            if mask[place].any():
                continue  # It would cover another one.
            ink = digit >= INK
            image[place] = np.where(ink, digit, image[place])
            mask[place] = np.where(ink, names[index] + 1, 0)
            rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
            box = (top + rows[0], left + columns[0], top + rows[-1] + 1, left + columns[-1] + 1)
            found.append((box, names[index]))
        boxes.append(np.array([box for box, _ in found], np.float32))
        labels.append(np.array([name for _, name in found], np.int64))
    return Scenes(images=images[..., None], masks=masks, boxes=boxes, labels=labels)


def _resized(digit: np.ndarray, size: int) -> np.ndarray:
    """A square image in another size, by the nearest pixels."""
    nearest = np.arange(size) * len(digit) // size
    return digit[nearest][:, nearest]
