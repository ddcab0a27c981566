"""Broken workdirs and two trainings in one: a sentence, and nothing is lost."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import pytest

from train import callbacks, trainer
from train.config import Config, UserError
from train.lock import locked
from train.record import Record
from wrpn_tf.files import WriteError

HOLD = """
import sys, time
from train.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def config(workdir: pathlib.Path, **changes: Any) -> Config:
    base = Config(
        workdir=workdir,
        dataset="digits",
        arch="digits_cnn",
        width=0.5,
        epochs=2,
        batch_size=64,
        train_images=320,
        wbits=2,
        abits=4,
    )
    return dataclasses.replace(base, **changes)


class Interrupted(Exception):
    """Stands for the end of the process."""


@pytest.fixture(name="workdir")
def workdir_fixture(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Of a training with 2-bit weights that was interrupted in its second epoch."""

    def stop(self: Any, batch: int, logs: Any = None) -> None:
        self._step += 1
        if self._step == 8:
            raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(callbacks.StopOnNonFinite, "on_train_batch_end", stop)
        with pytest.raises(Interrupted):
            trainer.train(config(tmp_path / "run"), verbose=0)
    return tmp_path / "run"


def test_without_its_record_a_training_is_still_known(workdir: pathlib.Path) -> None:
    (workdir / "record.json").unlink()
    with pytest.raises(UserError, match=r"ckpt-5 is the checkpoint .* --wbits=2, not 4"):
        trainer.train(config(workdir, wbits=4), verbose=0)
    assert not (workdir / "model.h5").exists()
    (workdir / "record.json").unlink(missing_ok=True)
    trainer.train(config(workdir), verbose=0)
    assert (workdir / "model.h5").exists()


@pytest.mark.parametrize("line", [b"{}", b"{", b"[]", b"\xff\0", b'{"step": "x"}', b"[" * 100_000])
def test_a_bad_line_of_metrics_is_named(tmp_path: pathlib.Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    good = b'{"kind": "train", "step": 3}\n'
    path.write_bytes(good + line + b"\n" + good)
    with pytest.raises(UserError, match=r"metrics\.jsonl:2 is no line of metrics; remove"):
        callbacks.MetricsLines(path, 3, 64, 1, float)
    assert path.read_bytes() == good + line + b"\n" + good
    path.write_bytes(good + b'{"kind": "train", "step": 4}\n' + line)  # Killed while it wrote.
    callbacks.MetricsLines(path, 3, 64, 1, float)
    assert path.read_bytes() == good


def test_lines_of_metrics_and_of_epochs(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From step 3 on, in epochs of 4; a step takes 2 seconds; the learning rate is the step's."""
    path, now, done = tmp_path / "metrics.jsonl", [0.0], [3]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    iterations = types.SimpleNamespace(numpy=lambda: done[0])
    model = types.SimpleNamespace(optimizer=types.SimpleNamespace(iterations=iterations))
    entries: list[dict] = []
    record = types.SimpleNamespace(add_epoch=lambda **entry: entries.append(entry))
    found = [
        callbacks.MetricsLines(path, 3, 64, 2, float),
        callbacks.RecordEpochs(record, float, verbose=True, epochs=5),
    ]
    names = {"loss": 1, "accuracy": 2, "val_loss": 3, "val_accuracy": 4}
    for each in found:
        each.set_model(model)
    for epoch, steps in ((0, 1), (1, 4)):
        now[0] += 100  # Validation, in which no image is trained on.
        for each in found:
            each.on_epoch_begin(epoch)
        for batch in range(steps):
            now[0] += 2
            done[0] += 1
            for each in found:
                each.on_train_batch_end(batch, {"loss": 0.5})
        for each in found:
            each.on_epoch_end(epoch, names)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    step = {"kind": "train", "loss": 0.5, "images_per_second": 32.0}
    end = {"kind": "epoch", **names}
    assert lines == [
        step | {"step": 4, "epoch": 1, "learning_rate": 3},
        end | {"step": 4, "epoch": 1, "learning_rate": 3},
        step | {"step": 6, "epoch": 2, "learning_rate": 5},
        step | {"step": 8, "epoch": 2, "learning_rate": 7},
        end | {"step": 8, "epoch": 2, "learning_rate": 7},
    ]
    told = {"train_loss": 1, "train_accuracy": 2, "test_loss": 3, "test_accuracy": 4}
    assert entries == [
        told | {"epoch": 1, "steps": 1, "learning_rate": 3, "seconds": 2},
        told | {"epoch": 2, "steps": 4, "learning_rate": 7, "seconds": 8},
    ]
    assert "epoch 2/5: loss 1.0000, accuracy 2.0000" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change", [{"flags": []}, {"flags": {"epochs": 1}}, {"history": 3}, {"metrics": "good"}]
)
def test_a_record_of_something_else_is_named(tmp_path: pathlib.Path, change: dict) -> None:
    run = Config(workdir=tmp_path, dataset="digits", arch="digits_cnn")
    (tmp_path / "record.json").write_text(json.dumps({"flags": run.as_json()} | change))
    with pytest.raises(UserError, match=r"record\.json is not the record of a training"):
        Record.open(run)


def test_metrics_that_are_no_file_are_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.mkdir()
    with pytest.raises(WriteError, match=rf"Cannot write {path}: Is a directory\."):
        callbacks.MetricsLines(path, 3, 64, 1, float)


def test_a_second_training_is_refused_until_the_first_is_killed(tmp_path: pathlib.Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        start = time.monotonic()
        with pytest.raises(UserError, match=f"another process is training in {tmp_path}; wait"):
            trainer.train(config(tmp_path), verbose=0)
        assert time.monotonic() - start < 20
    finally:
        holder.kill()
        holder.communicate()
    with locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(
    "put", [pathlib.Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/none/none")]
)
def test_what_is_no_lock_is_named(tmp_path: pathlib.Path, put: Callable[..., None]) -> None:
    put(tmp_path / ".lock")
    with pytest.raises(UserError, match=r"/\.lock cannot be opened as a lock \(.*\); remove it"):
        with locked(tmp_path):
            pass


def test_whatever_a_lock_holds_it_is_one(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".lock").write_bytes(b"\xff\0")
    with locked(tmp_path), pytest.raises(UserError, match="another process is training in"):
        with locked(tmp_path):
            pass


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path):
        pass
    assert "cannot be locked (No locks available)" in capsys.readouterr().err
