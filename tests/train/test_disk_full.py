"""A file system without room for a checkpoint, a line of metrics, logs or a model."""

import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import tensorflow as tf
import tf_keras as keras

from train import flags
from train.callbacks import MetricsLines
from train.checkpoints import Checkpoints, saved_steps
from train.config import Config, UserError
from train.finishing import save_model
from wrpn_tf import command_line
from wrpn_tf.files import WriteError
from wrpn_tf.models.namespaces import keras_named


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


def test_a_line_of_metrics_without_room_is_one_sentence(small: pathlib.Path) -> None:
    lines = MetricsLines(small / "metrics.jsonl", 0, 64, 1, float)
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    network.compile("sgd", "mse")
    lines.set_model(network)
    lines.on_epoch_begin(0)
    (small / "filler").write_bytes(bytes(shutil.disk_usage(small).free))
    with pytest.raises(WriteError, match=r"Cannot write \S+/metrics\.jsonl: No space left on dev"):
        lines.on_epoch_end(0)


def test_logs_without_room_are_one_sentence(
    small: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program() -> None:
        (small / "filler").write_bytes(bytes(shutil.disk_usage(small).free))
        writer = tf.summary.create_file_writer(str(small / "logs"))
        with writer.as_default(step=0):
            tf.summary.scalar("loss", 1.0)
        writer.flush()

    monkeypatch.setattr(command_line.app, "run", lambda start, flags_parser: start([]))
    message = rf"error: Cannot write {small}/logs/events\S+: No space left on device\.$"
    with pytest.raises(SystemExit, match=message):
        flags.run(program)


@pytest.mark.parametrize(("front", "name"), [("tf_keras", "model.h5"), ("keras", "model.keras")])
def test_a_model_without_room_leaves_the_one_before(
    small: pathlib.Path, front: str, name: str
) -> None:
    package = keras_named(front)
    network = package.Sequential([package.Input((400,)), package.layers.Dense(400)])
    (small / name).write_bytes(bytes(500_000))
    with pytest.raises(WriteError, match=rf"Cannot write {small / name}: No space left on device"):
        save_model(network, small / name)
    assert [path.name for path in small.iterdir()] == [name]
    assert (small / name).stat().st_size == 500_000
