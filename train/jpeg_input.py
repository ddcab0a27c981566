"""Batches of a data set of JPEG images.

As in `train.data`, an epoch's order and augmentation are a function of (seed, epoch) alone.
"""

import os

import numpy as np
import tensorflow as tf

from train.config import UserError
from train.data import ALONE, to_real
from wrpn_tf.data.jpegs import JpegDataset, central_crop, resize

_CHUNK = 16  # Images that are decoded one after the other on one thread.
_CORRUPT_SHARE = 0.001
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma.
_DRAWS = 4  # Brightness, contrast, saturation, mirror.


class CorruptImages:
    """The images that could not be decoded, by name.

    Args:
        size: Number of images of the data set.
    """

    def __init__(self, size: int) -> None:
        self.names: set[str] = set()
        self._size = size

    def add(self, name: bytes) -> np.float32:
        """Notes an image, says so once, and returns its weight, 0."""
        text = name.decode(errors="replace")
        if text not in self.names:
            self.names.add(text)
            print(f"warning: {text} is not a readable JPEG image; skipped", flush=True)
        return np.float32(0)

    def check(self) -> None:
        """Raises UserError if more than 0.1 % of the images are corrupt, with their names."""
        if len(self.names) > _CORRUPT_SHARE * self._size:
            names = sorted(self.names)
            more = f" and {len(names) - 20} more" if len(names) > 20 else ""
            raise UserError(
                f"{len(names)} of {self._size:,} images are not readable JPEG images, more than "
                f"{_CORRUPT_SHARE:.1%}: {', '.join(names[:20])}{more}"
            )


def training_batches(
    data: JpegDataset,
    corrupt: CorruptImages,
    *,
    batch_size: int,
    epochs: int,
    first_step: int = 0,
    seed: int = 0,
    flip: bool = False,
    color: float = 0.0,
    reader: tf.distribute.InputContext = ALONE,
) -> tf.data.Dataset:
    """Yields the batches from `first_step` to the end of epoch `epochs - 1`.

    An image is cropped to a random window of 8 to 100 % of its area and an aspect ratio of 3/4 to
    4/3 (Szegedy et al. 2015, section 6), resized, mirrored and changed in color. One that cannot
    be decoded becomes a blank image of weight 0.

    Args:
        data: The data set.
        corrupt: Notes the images that cannot be decoded.
        batch_size: Images per step.
        epochs: The epoch to stop before.
        first_step: The step to begin with, counted from the start of epoch 0.
        seed: Decides order and augmentation, together with the epoch's number.
        flip: Half of the images are mirrored left to right.
        color: Factors of `change_colors` are 1 - color to 1 + color.
        reader: Which reader this is, and how many replicas there are. Readers share files, where
            there are at least 8 for each, else images; then the images of a step do not depend on
            the number of readers.

    Returns:
        Triples of float32 [batch, size, size, 3] real values, int64 [batch] labels and float32
        [batch] weights.
    """
    split, readers = data.train, reader.num_input_pipelines
    steps = split.size // batch_size
    first_epoch, skipped_steps = divmod(first_step, steps)
    by_file = split.has_files_for(readers)
    share = batch_size // readers

    def epoch_chunks(epoch: tf.Tensor) -> tf.data.Dataset:
        """What to decode, with random numbers for each image by its position in the epoch."""
        seeds = tf.random.split([tf.constant(seed, tf.int64), epoch], 3)
        skipped = tf.where(epoch == first_epoch, skipped_steps, 0)
        skipped = tf.cast(skipped, tf.int64)
        if by_file and readers > 1:
            elements = split.elements(seeds[0], readers, reader.input_pipeline_id).repeat()
            elements = elements.enumerate().take(steps * share).skip(skipped * share)
            seeds += [0, reader.input_pipeline_id]
        else:
            elements = split.elements(seeds[0]).enumerate()
            elements = elements.take(steps * batch_size).skip(skipped * batch_size)
            elements = elements.shard(readers, reader.input_pipeline_id)
        draws = tf.random.stateless_uniform([steps * batch_size, _DRAWS], seeds[2])

        def with_random(position: tf.Tensor, element: tuple[tf.Tensor, ...]) -> tuple:
            window = seeds[1] + position[:, None] * tf.constant([0, 1], tf.int64)
            return window, tf.gather(draws, position), *element

        return elements.batch(_CHUNK).map(with_random)

    def crop(source: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return resize(inception_crop(split.read(source), seed), data.image_size)

    chunks = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_chunks)
    decoded = _decode(chunks, crop, data.image_size, corrupt)
    per_replica = reader.get_per_replica_batch_size(batch_size)

    @tf.function(jit_compile=True)  # One pass over the pixels instead of ten.
    def real_values(pixels: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        if flip:
            mirror = draws[:, 3, None, None, None] < 0.5
            pixels = tf.where(mirror, tf.reverse(pixels, [2]), pixels)
        factors = 1 - color + 2 * color * draws[:, :3]
        return change_colors(data, pixels, factors) if color else to_real(data, pixels)

    def batch(pixels: tf.Tensor, draws: tf.Tensor, *rest: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return real_values(pixels, draws), *rest

    return decoded.rebatch(per_replica, drop_remainder=True).map(batch).prefetch(2)


def test_batches(
    data: JpegDataset,
    corrupt: CorruptImages,
    *,
    batch_size: int,
    reader: tf.distribute.InputContext = ALONE,
) -> tf.data.Dataset:
    """Yields a reader's share of the test images in order, as `training_batches` does."""
    elements = data.test.elements()
    elements = elements.shard(reader.num_input_pipelines, reader.input_pipeline_id)
    chunks = elements.map(lambda *element: ((), (), *element)).batch(_CHUNK)

    def crop(source: tf.Tensor, _: tuple[()]) -> tf.Tensor:
        return central_crop(data.test.read(source), data.image_size)

    def batch(pixels: tf.Tensor, _: tuple[()], *rest: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return to_real(data, pixels), *rest

    return _decode(chunks, crop, data.image_size, corrupt).rebatch(batch_size).map(batch)


def inception_crop(jpeg: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Decodes a random window of a JPEG image, and nothing else of it; uint8 [h, w, 3]."""
    return tf.io.decode_and_crop_jpeg(jpeg, sample_window(jpeg, seed), channels=3)


def sample_window(jpeg: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A random window of a JPEG image: int32 [top, left, height, width]."""
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(jpeg),
        tf.zeros([1, 0, 4]),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], size[:2]], 0)


def change_colors(data: JpegDataset, pixels: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Real values of pixels after a change of brightness, contrast and saturation.

    Each is a blend by a factor: with black, with the image's mean grey, and with each pixel's own
    grey, in this order.

    Args:
        data: Its pixel map and range are kept.
        pixels: uint8 [N, H, W, 3].
        factors: float32 [N, 3], each 1 for no change.
    """
    brightness, contrast, saturation = (factors[:, i, None, None, None] for i in range(3))
    values = tf.cast(pixels, tf.float32)
    grey = tf.reduce_sum(values * _GREY, axis=-1, keepdims=True)
    mean = tf.reduce_mean(grey, axis=[1, 2], keepdims=True)
    blended = saturation * values + (1 - saturation) * grey
    changed = brightness * (contrast * blended + (1 - contrast) * mean)
    return to_real(data, tf.clip_by_value(changed, 0.0, 255.0))


def _decode(chunks, decode, image_size: int, corrupt: CorruptImages) -> tf.data.Dataset:
    """Decodes chunks of (window, draws, name, source, label) in parallel and in order.

    tf.data can only drop what fails, which would shift all images after it. So a chunk in which
    something fails is decoded again image by image, each with a replacement.

    Args:
        chunks: What to decode, with an axis in front.
        decode: From (source, window) to uint8 pixels [size, size, 3].
        image_size: The size.
        corrupt: Notes what fails.

    Returns:
        Chunks of (pixels, draws, label, weight).
    """
    blank = tf.zeros([image_size, image_size, 3], tf.uint8)

    def good(window, draws, name, source, label):
        return decode(source, window), draws, label, tf.constant(1.0)

    def bad(window, draws, name, source, label):
        weight = tf.numpy_function(corrupt.add, [name], tf.float32)
        return blank, draws, label, tf.ensure_shape(weight, [])

    def one(*element):
        source = tf.data.Dataset.from_tensors(element)
        return source.map(good).ignore_errors().concatenate(source.map(bad)).take(1)

    def chunk(*columns):
        rows = tf.data.Dataset.from_tensor_slices(columns)
        fast = rows.map(good).batch(_CHUNK).ignore_errors()
        return fast.concatenate(rows.flat_map(one).batch(_CHUNK)).take(1)

    return chunks.interleave(
        chunk,
        cycle_length=2 * (os.cpu_count() or 1),
        block_length=1,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
