"""Trainings that are killed: alone, at random steps, and one of two workers."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jpeg_folders
import numpy as np
import pytest

import wrpn_tf

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 24  # Three epochs of 64 images in batches of 8.
FLAGS = (
    "--arch=resnet8 --image_size=32 --wbits=2 --abits=4 --batch_size=8 --epochs=3 --bn_images=16 "
    "--schedule=cosine --warmup_epochs=1 --deterministic --checkpoint_steps=3 --log_steps=1"
).split()

pytestmark = pytest.mark.skipif(
    "WRPN_TF_SLOW" not in os.environ,
    reason="starts five trainings, minutes of two cores: set WRPN_TF_SLOW=1",
)


def start(data: pathlib.Path, workdir: pathlib.Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "train.imagenet", *FLAGS]
    return subprocess.Popen([*command, f"--data_dir={data}", f"--workdir={workdir}"], cwd=ROOT)


def steps_done(workdir: pathlib.Path) -> int:
    """The last step in `metrics.jsonl`; a last line that is being written does not count."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return 0
    lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
    return json.loads(lines[-1])["step"] if lines else 0


def kill_after(step: int, data: pathlib.Path, workdir: pathlib.Path) -> int:
    """Starts a training, kills it once it has done a step, and returns the last step it did."""
    process = start(data, workdir)
    try:
        while steps_done(workdir) < step:
            assert process.poll() is None, f"it ended by itself before step {step}"
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return steps_done(workdir)


def weights(workdir: pathlib.Path) -> list[np.ndarray]:
    return wrpn_tf.load_model(workdir / "model.h5").get_weights()


def test_killed_at_three_random_steps(tmp_path: pathlib.Path) -> None:
    data = jpeg_folders.write(tmp_path / "data")
    chosen = sorted(np.random.default_rng().choice(np.arange(1, STEPS - 1), 3, replace=False))
    killed = [kill_after(int(step), data, tmp_path / "killed") for step in chosen]
    print(f"killed after steps {killed} of {STEPS}")
    assert start(data, tmp_path / "killed").wait() == 0
    assert start(data, tmp_path / "straight").wait() == 0
    expected, actual = weights(tmp_path / "straight"), weights(tmp_path / "killed")
    print(f"{len(expected)} weight arrays")
    for left, right in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(left, right)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    path = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def test_a_killed_worker_is_started_again_and_the_training_ends(tmp_path: pathlib.Path) -> None:
    data = jpeg_folders.write(tmp_path / "data")
    workdir = tmp_path / "workers"
    command = ["examples/two_workers.sh", *FLAGS, f"--data_dir={data}", f"--workdir={workdir}"]
    environment = os.environ | {"PYTHON": sys.executable, "PORT": "23640", "ATTEMPTS": "5"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        while steps_done(workdir) < 7:
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.01)
        os.kill(children(children(process.pid)[1])[0], signal.SIGKILL)
        _, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "worker 1 ended with status 137; starting it again" in errors
    assert steps_done(workdir) == STEPS
    assert weights(workdir)
