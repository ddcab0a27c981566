"""A tiny data set of JPEG files: coloured noise, one colour for each class."""

import pathlib

import numpy as np
import tensorflow as tf

CLASSES = ("n01", "n02", "n03", "n04")


def write(root: pathlib.Path, train: int = 64, val: int = 16, seed: int = 0) -> pathlib.Path:
    """Writes `train/<class>/*.JPEG` and `val/<class>/*.JPEG`, so many images in each."""
    random = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        for index in range(count):
            label = index % len(CLASSES)
            height, width = random.integers(40, 64, size=2)
            pixels = random.integers(0, 128, size=(height, width, 3))
            pixels[..., label % 3] += 60 + 30 * (label // 3)
            jpeg = tf.io.encode_jpeg(pixels.astype(np.uint8)).numpy()
            file = root / split / CLASSES[label] / f"{index:03d}.JPEG"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(jpeg)
    return root
