"""Checkpoints while another worker is lost."""

import pathlib
from typing import Any

import pytest
import tensorflow as tf
import tf_keras as keras

from train.checkpoints import Checkpoints, saved_steps


@pytest.mark.parametrize(
    "lost", [tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError]
)
def test_the_loss_of_a_worker_is_not_taken_for_a_full_disk(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, lost: type[tf.errors.OpError]
) -> None:
    def fail(manager: tf.train.CheckpointManager, step: int, **_: Any) -> None:
        pathlib.Path(manager.directory, f"ckpt-{step}.data-00000-of-00001").touch()
        raise lost(None, None, "Socket closed")

    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.SGD()
    optimizer.build(network.trainable_variables)
    writer = Checkpoints(network, optimizer, tmp_path, every=1, is_chief=True)
    writer.on_train_batch_end(0)
    monkeypatch.setattr(tf.train.CheckpointManager, "save", fail)
    with pytest.raises(lost):
        writer.on_train_batch_end(1)
    assert saved_steps(tmp_path) == [1]
    assert not list(tmp_path.glob("ckpt-2*"))
