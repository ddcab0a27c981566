"""JPEG images in the TFRecord files of TensorFlow Datasets."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import tensorflow as tf

_OPEN_RECORDS = 16
_SHUFFLED_RECORDS = 2048  # About 230 MB of ImageNet's JPEG bytes.
_PARSED_RECORDS = 16  # Together; a call for each would take a fifth of the time that decoding does.
_ENOUGH_FILES = 8  # For each reader: below, their shares would differ too much.

WRONG_LABEL = re.compile(r"label -?\d+ of \S+ is out of range 0 to \d+")
"""What TensorFlow's error says of a record whose label is no class."""


@dataclasses.dataclass(frozen=True, eq=False)
class RecordSplit:
    """Images in TFRecord files; order comes from shuffled files and windows shuffled within.

    Attributes:
        files: The TFRecord files.
        size: Number of images.
        parse: From serialized records, [N], to names, JPEG bytes and int64 labels.
        is_cut: Whether the files have more: then they are read in their order, up to `size`.
    """

    files: tuple[str, ...]
    size: int
    parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]
    is_cut: bool = False

    def head(self, count: int | None) -> "RecordSplit":
        """The split with only the first `count` images; None: all."""
        if count is None or count >= self.size:
            return self
        return dataclasses.replace(self, size=count, is_cut=True)

    def has_files_for(self, readers: int) -> bool:
        """Whether every reader gets at least 8 files, and all of them."""
        return not self.is_cut and len(self.files) >= _ENOUGH_FILES * readers

    def elements(
        self, seed: tf.Tensor | None = None, readers: int = 1, reader: int = 0
    ) -> tf.data.Dataset:
        """See `Split`."""
        files = tf.constant(self.files)
        if seed is not None and not self.is_cut:
            files = tf.random.experimental.stateless_shuffle(files, seed)
        shard = tf.data.Dataset.from_tensor_slices(files).shard(readers, reader)
        cycle = 1 if seed is None or self.is_cut else _OPEN_RECORDS
        records = shard.interleave(
            tf.data.TFRecordDataset,
            cycle_length=cycle,
            block_length=_OPEN_RECORDS,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        ).take(self.size)
        if seed is not None:
            records = _shuffle(records, seed)
        parsed = records.batch(_PARSED_RECORDS).map(
            self.parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return parsed.unbatch()

    def read(self, source: tf.Tensor) -> tf.Tensor:
        """The source itself."""
        return source


def _shuffle(records: tf.data.Dataset, seed: tf.Tensor) -> tf.data.Dataset:
    """Shuffles within windows; `Dataset.shuffle` takes no tensor as seed beside a global seed."""

    def reorder(window: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        order = tf.range(tf.size(values))
        window_seed = seed + tf.stack([tf.constant(0, tf.int64), window])
        return tf.gather(values, tf.random.experimental.stateless_shuffle(order, window_seed))

    windows = records.batch(_SHUFFLED_RECORDS).enumerate()
    return windows.map(reorder).prefetch(1).unbatch()


def read_records(builder: Any, split: str, classes: int) -> RecordSplit:
    """Finds a prepared split of ImageNet.

    Args:
        builder: From `wrpn_tf.data.preparation`.
        split: Its name.
        classes: Reading a label that is not below fails with `WRONG_LABEL`.

    Raises:
        ValueError: It is in another format than TFRecord, or there is no such split.
    """
    import tensorflow_datasets as tfds

    if builder.info.file_format is not tfds.core.file_adapters.FileFormat.TFRECORD:
        raise ValueError(
            f"{builder.data_path} is in the format {builder.info.file_format.value}, "
            "not in tfrecord; prepare it with tfds build --file_format=tfrecord"
        )
    if split not in builder.info.splits:
        raise ValueError(
            f"{builder.data_path} has no split {split!r}, only {', '.join(builder.info.splits)}; "
            "remove that folder and prepare it with the archives of both"
        )
    fields = builder.info.features.tf_example_spec

    def parse(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        examples = tf.io.parse_example(records, fields)
        names, labels = examples["file_name"], examples["label"]
        _require_classes(labels, names, classes)
        return names, examples["image"], labels

    info = builder.info.splits[split]
    return RecordSplit(tuple(map(str, info.filepaths)), info.num_examples, parse)


def _require_classes(labels: tf.Tensor, names: tf.Tensor, classes: int) -> None:
    """Fails with `WRONG_LABEL` for the first label that is no class."""
    wrong = (labels < 0) | (labels >= classes)
    first = tf.argmax(wrong)
    text = f"label {{}} of {{}} is out of range 0 to {classes - 1}"
    message = tf.strings.format(text, (labels[first], names[first]))
    tf.debugging.Assert(~tf.reduce_any(wrong), [message])
