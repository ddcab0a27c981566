"""Cost of ImageNet's input pipeline, stage by stage, relative to decoding and cropping alone.

    python -m benchmarks.imagenet_input --data_dir=DATA

Decode-and-crop alone is the floor that libjpeg sets: JPEG bytes in memory, random windows as
training samples them, pixels dropped at once. Each further program adds a stage to the one before;
the last two are the training's own batches. They run interleaved in one process; prints CPU time
per image and the ratio of the rates, medians over the rounds.
"""

import os
import statistics
import time
from collections.abc import Callable

import tensorflow as tf
from absl import flags
from rich.console import Console
from rich.table import Table

from train import jpeg_input
from wrpn_tf import command_line, jpegs

_DATA_DIR = flags.DEFINE_string("data_dir", None, "See train.imagenet.", required=True)
_SIZE = flags.DEFINE_integer("image_size", 224, "Height and width of the images.", 32)
_BATCH = flags.DEFINE_integer("batch_size", 64, "Images per batch.", 1)
_STEPS = flags.DEFINE_integer("steps", 20, "Batches of a program in a round.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds; each runs every program.", 1)

_FLOOR = "decode and crop alone"


def _decode_alone(data: jpegs.JpegDataset) -> tf.data.Dataset:
    """Random windows of images in memory."""
    split = data.train

    def sample(position: tf.Tensor, element: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        jpeg = split.read(element[1])
        return jpeg, jpeg_input.sample_window(jpeg, tf.stack([1, position]))

    sampled = split.elements(tf.zeros([2], tf.int64)).enumerate().map(sample)
    columns = next(iter(sampled.batch(split.size)))
    return _map(
        tf.data.Dataset.from_tensor_slices(columns).repeat(),
        lambda jpeg, window: tf.io.decode_and_crop_jpeg(jpeg, window, channels=3),
    )


def _streamed(data: jpegs.JpegDataset, *, resizes: bool) -> tf.data.Dataset:
    """The same from the files in a random order, with windows sampled on the way."""
    split = data.train

    def crop(position: tf.Tensor, element: tuple[tf.Tensor, ...]) -> tf.Tensor:
        pixels = jpeg_input.inception_crop(split.read(element[1]), tf.stack([1, position]))
        return jpegs.resize(pixels, data.image_size) if resizes else pixels

    return _map(split.elements(tf.zeros([2], tf.int64)).repeat().enumerate(), crop)


def _map(elements: tf.data.Dataset, function: Callable[..., tf.Tensor]) -> tf.data.Dataset:
    """Applies a function and drops all but a pixel."""

    def pixel(*element: tf.Tensor) -> tf.Tensor:
        return function(*element)[0, 0]

    mapped = elements.map(pixel, num_parallel_calls=os.cpu_count(), deterministic=True)
    return mapped.batch(_BATCH.value)


def _batches(data: jpegs.JpegDataset, color: float) -> tf.data.Dataset:
    corrupt = jpeg_input.CorruptImages(data.train.size)
    epochs = (_STEPS.value + 1) * _BATCH.value // data.train.size + 2
    return jpeg_input.training_batches(
        data, corrupt, batch_size=_BATCH.value, epochs=epochs, flip=True, color=color
    )


def _run(batches: tf.data.Dataset) -> tuple[float, float]:
    """Seconds and CPU seconds for one image; the first batch, which compiles, does not count."""
    iterator = iter(batches.take(_STEPS.value + 1))
    next(iterator)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in iterator:
        pass
    used, passed = time.process_time() - cpu, time.perf_counter() - start
    images = _STEPS.value * _BATCH.value
    return passed / images, used / images


def main() -> None:
    """Runs the program."""
    data = jpegs.load_jpegs(_DATA_DIR.value, _SIZE.value)
    programs = {
        _FLOOR: _decode_alone(data),
        "+ read, shuffle, sample windows": _streamed(data, resizes=False),
        "+ resize": _streamed(data, resizes=True),
        "training batches, color=0": _batches(data, 0.0),
        "training batches, color=0.4": _batches(data, 0.4),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(_ROUNDS.value):
        for name, batches in programs.items():
            times[name].append(_run(batches))
    table = Table(title=f"ImageNet input at {_SIZE.value} pixels, {os.cpu_count()} cores")
    for heading in ("program", "images/s", "CPU ms/image", "rate / alone", "by CPU time"):
        table.add_column(heading, justify="left" if heading == "program" else "right")
    base = times[_FLOOR]
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
    command_line.run(main, errors=())
