"""Batches of a data set in memory.

An epoch's order and augmentation are a function of (seed, epoch) alone, so that a training that is
resumed at any step sees what an uninterrupted one would have seen.
"""

import tensorflow as tf

from wrpn_tf.data.datasets import Dataset, LabelledImages

ALONE = tf.distribute.InputContext()
"""The one reader of a training without distribution."""


def training_batches(
    data: Dataset,
    *,
    batch_size: int,
    epochs: int,
    first_step: int = 0,
    seed: int = 0,
    shift: int = 0,
    flip: bool = False,
    reader: tf.distribute.InputContext = ALONE,
) -> tf.data.Dataset:
    """Yields the batches from `first_step` to the end of epoch `epochs - 1`.

    Every epoch has `len(data.train_images) // batch_size` steps. Of the batch of each step a
    reader among several gets its share, in batches for one replica each.

    Args:
        data: The data set; its images stay uint8 until they are in a batch.
        batch_size: Images per step.
        epochs: The epoch to stop before.
        first_step: The step to begin with, counted from the start of epoch 0.
        seed: Decides order and augmentation, together with the epoch's number.
        shift: Images move by up to this many pixels in each direction; the border that appears
            has the real value 0. 4 with `flip` is the usual CIFAR augmentation.
        flip: Half of the images are mirrored left to right.
        reader: Which reader this is, and how many replicas there are.

    Returns:
        Pairs of float32 [batch, H, W, C] real values and int64 [batch] labels.
    """
    count = len(data.train_images)
    steps = count // batch_size
    first_epoch, skipped_steps = divmod(first_step, steps)
    height, width, _ = data.image_shape
    labels = tf.constant(data.train_labels)
    images = tf.pad(
        tf.constant(data.train_images),
        [[0, 0], [shift, shift], [shift, shift], [0, 0]],
        constant_values=data.zero_point,
    )

    def epoch_plan(epoch: tf.Tensor) -> tf.data.Dataset:
        """Which image comes when, how far it is cropped (top, left), whether it is mirrored."""
        seeds = tf.random.split([tf.constant(seed, tf.int64), epoch], 3)
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seeds[0])
        corner = tf.random.stateless_uniform([count, 2], seeds[1], 0, 2 * shift + 1, tf.int32)
        mirror = tf.random.stateless_uniform([count], seeds[2]) < (0.5 if flip else 0.0)
        plan = tf.data.Dataset.from_tensor_slices((order, corner, mirror))
        skipped = tf.where(epoch == first_epoch, skipped_steps * batch_size, 0)
        plan = plan.take(steps * batch_size).skip(tf.cast(skipped, tf.int64))
        plan = plan.shard(reader.num_input_pipelines, reader.input_pipeline_id)
        return plan.batch(reader.get_per_replica_batch_size(batch_size))

    def batch(
        index: tf.Tensor, corner: tf.Tensor, mirror: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        rows = corner[:, :1] + tf.range(height)
        columns = corner[:, 1:] + tf.where(
            mirror[:, None], tf.range(width - 1, -1, -1), tf.range(width)
        )
        pixels = tf.gather(images, index)
        pixels = tf.gather(pixels, rows, axis=1, batch_dims=1)
        pixels = tf.gather(pixels, columns, axis=2, batch_dims=1)
        return to_real(data, pixels), tf.gather(labels, index)

    plans = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_plan)
    return plans.map(batch, num_parallel_calls=1).prefetch(2)


def test_batches(
    data: Dataset, *, batch_size: int, reader: tf.distribute.InputContext = ALONE
) -> tf.data.Dataset:
    """Yields a reader's share of the test images in order: float32 real values, int64 labels."""
    pairs = tf.data.Dataset.from_tensor_slices((data.test_images, data.test_labels))
    pairs = pairs.shard(reader.num_input_pipelines, reader.input_pipeline_id)
    pairs = pairs.batch(batch_size)
    return pairs.map(lambda pixels, label: (to_real(data, pixels), label))


def to_real(data: LabelledImages, pixels: tf.Tensor) -> tf.Tensor:
    """`LabelledImages.normalize` on tensors; exact, because the scale is a power of two.

    Args:
        data: Says what pixels stand for.
        pixels: uint8 or float32 of any shape, 0 to 255.

    Returns:
        float32 of the same shape.
    """
    return (tf.cast(pixels, tf.float32) - data.zero_point) * data.scale
