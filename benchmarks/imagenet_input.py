"""Rate of ImageNet's input pipeline, relative to decoding and cropping alone.

    python -m benchmarks.imagenet_input --data_dir=DATA

Decode-and-crop alone is the floor that libjpeg sets: the same random windows of the same images,
read in the same order, dropped at once. The programs run interleaved in one process; prints CPU
time per image and the ratio of the rates, the median over the rounds.
"""

import os
import statistics
import sys
import time
from collections.abc import Iterator

import tensorflow as tf
from absl import app, flags
from rich.console import Console
from rich.table import Table

from train import jpeg_input
from wrpn_tf import jpegs

_DATA_DIR = flags.DEFINE_string("data_dir", None, "See train.imagenet.", required=True)
_SIZE = flags.DEFINE_integer("image_size", 224, "Height and width of the images.", 32)
_BATCH = flags.DEFINE_integer("batch_size", 64, "Images per batch.", 1)
_IMAGES = flags.DEFINE_integer("images", 1600, "Images of a program in a round.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds; each runs every program.", 1)


def _decode_alone(data: jpegs.JpegDataset) -> tf.data.Dataset:
    """Random windows of the images in a random order, without anything that follows."""
    zero = tf.zeros([2], tf.int64)

    def crop(position: tf.Tensor, element: tuple[tf.Tensor, ...]) -> tf.Tensor:
        seed = tf.random.split(tf.stack([tf.constant(1, tf.int64), position]), 3)[0]
        return jpeg_input.inception_crop(data.train.read(element[1]), seed)

    elements = data.train.elements(zero).repeat().enumerate().take(_IMAGES.value)
    return elements.map(crop, num_parallel_calls=os.cpu_count(), deterministic=True)


def _batches(data: jpegs.JpegDataset, color: float) -> tf.data.Dataset:
    corrupt = jpeg_input.CorruptImages(data.train.size)
    steps = max(1, _IMAGES.value // _BATCH.value)
    epochs = -(-steps * _BATCH.value // data.train.size) + 1
    return jpeg_input.training_batches(
        data, corrupt, batch_size=_BATCH.value, epochs=epochs, flip=True, color=color
    ).take(steps)


def _run(elements: Iterator, images: int) -> tuple[float, float]:
    """Seconds and CPU seconds for one image."""
    start, cpu = time.perf_counter(), os.times()
    for _ in elements:
        pass
    end = os.times()
    used = end.user + end.system - cpu.user - cpu.system
    return (time.perf_counter() - start) / images, used / images


def main(argv: list[str]) -> None:
    """Runs the program."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected argument {argv[1]!r}; options are written --name=value")
    data = jpegs.load_jpegs(_DATA_DIR.value, _SIZE.value)
    images = max(1, _IMAGES.value // _BATCH.value) * _BATCH.value
    programs = {
        "decode and crop": (_decode_alone(data), _IMAGES.value),
        "training batches, color=0": (_batches(data, 0.0), images),
        "training batches, color=0.4": (_batches(data, 0.4), images),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(_ROUNDS.value):
        for name, (elements, count) in programs.items():
            times[name].append(_run(iter(elements), count))
    table = Table(title=f"ImageNet input at {_SIZE.value} pixels, {os.cpu_count()} cores")
    for heading in ("program", "images/s", "CPU ms/image", "rate / decode and crop", "by CPU time"):
        table.add_column(heading, justify="left" if heading == "program" else "right")
    base = times["decode and crop"]
    for name, rows in times.items():
        wall = statistics.median(row[0] for row in rows)
        cpu = statistics.median(row[1] for row in rows)
        ratios = [b[0] / r[0] for b, r in zip(base, rows, strict=True)]
        shares = [b[1] / r[1] for b, r in zip(base, rows, strict=True)]
        table.add_row(
            name,
            f"{1 / wall:,.0f}",
            f"{1000 * cpu:.3f}",
            f"{statistics.median(ratios):.2f}",
            f"{statistics.median(shares):.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    app.run(main)
