"""A file system without room for a checkpoint."""

import pathlib
import re
import subprocess
from collections.abc import Iterator

import pytest
import tf_keras as keras

from train.checkpoints import Checkpoints, saved_steps
from train.config import Config, UserError


@pytest.fixture
def small(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def checkpoints(folder: pathlib.Path) -> Checkpoints:
    """Of 320 kB each, momentum included."""
    network = keras.Sequential([keras.Input((200,)), keras.layers.Dense(200)])
    optimizer = keras.optimizers.SGD(momentum=0.9)
    optimizer.build(network.trainable_variables)
    config = Config(workdir=folder, dataset="digits", arch="digits_cnn")
    return Checkpoints(
        network, optimizer, folder, config=config, every=1, epoch_steps=100, is_chief=True
    )


def test_a_full_disk_leaves_the_checkpoints_before_intact(small: pathlib.Path) -> None:
    writer = checkpoints(small)
    writer.on_train_batch_end(0)
    writer.on_train_batch_end(1)
    message = r"cannot write the checkpoint of step 3 .*The checkpoint of step 2 is intact"
    (small / "filler").write_bytes(bytes(100_000))
    with pytest.raises(UserError, match=message):
        writer.on_train_batch_end(2)
    assert saved_steps(small) == [2, 1]
    assert not list(small.glob("ckpt-3*"))
    assert checkpoints(small).restore() == 2


def test_too_little_room_is_told_before_training(small: pathlib.Path) -> None:
    writer = checkpoints(small)
    with pytest.raises(UserError, match=re.escape(f"{small} has 1,048,576 bytes free; 4 chec")):
        writer.require_space()
