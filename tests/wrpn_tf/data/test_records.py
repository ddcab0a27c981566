"""Images in TFRecord files: which of them a split has, whatever their order."""

import pathlib

import tensorflow as tf

from wrpn_tf.data.records import RecordSplit


def test_a_cut_split_has_its_first_images_in_every_epoch(tmp_path: pathlib.Path) -> None:
    files = []
    for number in range(8):
        files.append(str(tmp_path / f"{number}.tfrecord"))
        with tf.io.TFRecordWriter(files[-1]) as writer:
            for index in range(3):
                writer.write(f"{3 * number + index:02}".encode())

    def parse(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return records, records, tf.zeros(tf.size(records), tf.int64)

    def names(split: RecordSplit, epoch: int) -> list[int]:
        elements = split.elements(tf.constant([0, epoch], tf.int64))
        return [int(name) for name, *_ in elements.as_numpy_iterator()]

    whole = RecordSplit(tuple(files), 24, parse)
    assert whole.head(24) is whole
    cut = whole.head(7)
    orders = [names(cut, epoch) for epoch in (0, 1)]
    assert [sorted(order) for order in orders] == [list(range(7))] * 2
    assert orders[0] != orders[1]
    assert sorted(names(whole, 0)) == list(range(24))
    assert (whole.has_files_for(1), cut.has_files_for(1)) == (True, False)
