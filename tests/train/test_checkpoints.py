"""Checkpoints: whose they are, how many stay, and what the loss of a worker leaves."""

import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from train.checkpoints import Checkpoints, saved_steps
from train.config import Config, UserError


def checkpoints(folder: pathlib.Path, **flags: Any) -> Checkpoints:
    config = Config(workdir=folder, dataset="digits", arch="digits_cnn", **flags)
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.SGD()
    optimizer.build(network.trainable_variables)
    return Checkpoints(
        network, optimizer, folder, config=config, every=1, epoch_steps=100, is_chief=True
    )


def test_a_checkpoint_knows_the_flags_of_its_training(tmp_path: pathlib.Path) -> None:
    checkpoints(tmp_path, wbits=2, abits=4).on_train_batch_end(0)
    assert checkpoints(tmp_path, wbits=2, abits=4, log_steps=1).restore() == 1
    with pytest.raises(UserError, match=r"ckpt-1 is the checkpoint of .* --wbits=2, not 4; give"):
        checkpoints(tmp_path, wbits=4, abits=4).restore()


def test_checkpoints_without_flags_are_restored(tmp_path: pathlib.Path) -> None:
    """As earlier versions wrote them."""
    reader = checkpoints(tmp_path)
    reader._network.set_weights([np.ones((2, 2)), np.ones(2)])
    earlier = tf.train.Checkpoint(**reader._parts)
    tf.train.CheckpointManager(earlier, tmp_path, 3).save(5)
    reader._network.set_weights([np.zeros((2, 2)), np.zeros(2)])
    assert reader.restore() == 5
    assert all((weight == 1).all() for weight in reader._network.get_weights())


def test_three_stay_whatever_was_killed(tmp_path: pathlib.Path) -> None:
    for step in (1, 2, 3, 4):
        writer = checkpoints(tmp_path)
        writer._step = step - 1
        (tmp_path / "checkpoint").unlink(missing_ok=True)  # Killed before it was written.
        writer.on_train_batch_end(0)
    assert saved_steps(tmp_path) == [4, 3, 2]
    (tmp_path / "ckpt-9.index").touch()
    (tmp_path / "ckpt-7.data-00000-of-00001").touch()
    (tmp_path / "ckpt-8_temp").mkdir()
    (tmp_path / "ckpt-8_temp" / "part").touch()
    writer.on_train_batch_end(1)
    assert saved_steps(tmp_path) == [5, 4, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint",
        *(f"ckpt-{step}.{end}" for step in (3, 4, 5) for end in ("data-00000-of-00001", "index")),
    ]


@pytest.mark.parametrize(
    "lost", [tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError]
)
def test_the_loss_of_a_worker_is_not_taken_for_a_full_disk(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, lost: type[tf.errors.OpError]
) -> None:
    def fail(manager: tf.train.CheckpointManager, step: int, **_: Any) -> None:
        pathlib.Path(manager.directory, f"ckpt-{step}.data-00000-of-00001").touch()
        raise lost(None, None, "Socket closed")

    writer = checkpoints(tmp_path)
    writer.on_train_batch_end(0)
    monkeypatch.setattr(tf.train.CheckpointManager, "save", fail)
    with pytest.raises(lost):
        writer.on_train_batch_end(1)
    assert saved_steps(tmp_path) == [1]
    assert not list(tmp_path.glob("ckpt-2*"))
