"""Checkpoints: whose they are, how many stay, and what the loss of a worker leaves."""

import contextlib
import pathlib
import shutil
import types
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from train.checkpoints import Checkpoints, restore_network, saved_steps
from train.config import Config, UserError


def checkpoints(folder: pathlib.Path, *, epoch_steps: int = 100, **flags: Any) -> Checkpoints:
    config = Config(workdir=folder, dataset="digits", arch="digits_cnn", **flags)
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.SGD()
    optimizer.build(network.trainable_variables)
    return Checkpoints(
        network, optimizer, folder, config=config, every=1, epoch_steps=epoch_steps, is_chief=True
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


def test_the_last_step_of_an_epoch_is_saved_behind_its_validation(tmp_path: pathlib.Path) -> None:
    writer = checkpoints(tmp_path, epoch_steps=2)
    for batch in (0, 1):
        writer.on_train_batch_end(batch)
        assert saved_steps(tmp_path) == [1]
    writer.on_epoch_end(0)
    assert saved_steps(tmp_path) == [2, 1]
    (tmp_path / "ckpt-2.index").unlink()
    writer.on_epoch_end(0)
    assert saved_steps(tmp_path) == [1]  # What is saved is not written again.


def test_room_is_for_what_is_to_come(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three that stay, one that is being written and the model; SGD has momenta and a count."""
    writer = checkpoints(tmp_path)
    for count in (4, 3, 2, 1, 1):
        for missing in (1, 0):
            free = count * (24 + 24 + 8) + 24 - missing
            usage = types.SimpleNamespace(free=free)
            monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
            refused = pytest.raises(UserError, match=f"has {free} bytes free; {count} checkpoints")
            with refused if missing else contextlib.nullcontext():
                writer.require_space()
        monkeypatch.undo()
        writer.on_train_batch_end(0)


def test_what_is_not_finite_is_not_saved(tmp_path: pathlib.Path) -> None:
    writer = checkpoints(tmp_path)
    writer.on_train_batch_end(0)
    writer._network.set_weights([np.ones((2, 2)), np.array([0, np.nan])])
    with pytest.raises(
        UserError, match=r"bias\S* is no longer finite after step 2; The .* step 1 is"
    ):
        writer.on_train_batch_end(1)
    assert saved_steps(tmp_path) == [1]


def test_a_training_does_not_begin_anew_beside_a_checkpoint_that_cannot_be_read(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = checkpoints(tmp_path)
    assert writer.restore() == 0
    with pytest.raises(UserError, match="there is no checkpoint in"):
        restore_network(writer._network, tmp_path, writer._config)
    (tmp_path / "ckpt-1.index").write_bytes(b"cut short")
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read; to start anew, remove"):
        writer.restore()
    assert f"cannot read checkpoint {tmp_path / 'ckpt-1'}: " in capsys.readouterr().err


def test_a_training_is_restored_whole_and_a_network_alone(tmp_path: pathlib.Path) -> None:
    reader = checkpoints(tmp_path)
    more = tf.train.Checkpoint(**reader._parts, more=tf.Variable(1.0))
    tf.train.CheckpointManager(more, tmp_path, 3).save(5)
    assert restore_network(reader._network, tmp_path, reader._config) == 5
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read"):
        reader.restore()
