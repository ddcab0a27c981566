"""What the launchers of several workers start, and when they start it again."""

import json
import os
import pathlib
import subprocess

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = {
    "python": """
        echo "$TF_CONFIG" > "$LOG/config-$RANDOM$RANDOM"
        echo "$@" >> "$LOG/arguments"
        exit "$(grep -q index.*1 <<< "$TF_CONFIG" && echo "$SECOND" || echo "$FIRST")"
    """,
    "scontrol": """
        [ "$1" = show ] && printf '%s\\n' node7 node9 || echo "$@" >> "$LOG/requeued"
    """,
    "srun": """
        for SLURM_PROCID in 0 1; do
            SLURM_PROCID=$SLURM_PROCID "$@" & tasks="$tasks $!"
        done
        for task in $tasks; do
            wait "$task" || { status=$?; [ "$status" -gt "${most:-0}" ] && most=$status; }
        done
        exit "${most:-0}"
    """,
}


def launch(
    folder: pathlib.Path, script: str, first: int, second: int, **environment: str
) -> tuple[int, list[dict], list[str]]:
    """Runs a launcher with stand-ins for a cluster's programs and for training.

    Args:
        folder: An empty one.
        script: The launcher.
        first: The status with which worker 0 ends.
        second: That of worker 1.
        **environment: For the launcher.

    Returns:
        The launcher's status, every worker's TF_CONFIG and every worker's arguments.
    """
    for name, text in PROGRAMS.items():
        program = folder / name
        program.write_text(f"#!/bin/bash\n{text}")
        program.chmod(0o755)
    log = folder / "log"
    log.mkdir()
    variables = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "LOG": str(log),
        "FIRST": str(first),
        "SECOND": str(second),
        **environment,
    }
    command = ["bash", str(EXAMPLES / script), "--width=2", "--abits=4"]
    status = subprocess.run(command, env=variables, check=False, capture_output=True).returncode
    configs = [json.loads(path.read_text()) for path in log.glob("config-*")]
    return status, configs, (log / "arguments").read_text().splitlines()


def slurm(
    folder: pathlib.Path, first: int, second: int, restarts: int = 0
) -> tuple[int, list[dict], list[str], bool]:
    """As `launch`, and whether the job was put back into the queue."""
    found = launch(
        folder,
        "slurm.sbatch",
        first,
        second,
        SLURM_JOB_ID="5",
        SLURM_JOB_NAME="job",
        SLURM_JOB_NODELIST="node[7,9]",
        SLURM_RESTART_COUNT=str(restarts),
        DATA="/data",
        RUNS="/runs",
    )
    return *found, (folder / "log" / "requeued").exists()


def test_slurm_tells_every_worker_of_all(tmp_path: pathlib.Path) -> None:
    status, configs, arguments, requeued = slurm(tmp_path, 0, 0)
    assert (status, requeued) == (0, False)
    cluster = {"worker": ["node7:2222", "node9:2222"]}
    assert [config["cluster"] for config in configs] == [cluster, cluster]
    assert sorted(config["task"]["index"] for config in configs) == [0, 1]
    expected = "-m train.imagenet --strategy=multiworker --data_dir=/data --workdir=/runs/job"
    assert arguments == [f"{expected} --width=2 --abits=4"] * 2


@pytest.mark.parametrize(
    ("first", "second", "restarts", "requeued"),
    [(1, 1, 0, False), (75, 137, 0, True), (1, 75, 3, True), (75, 137, 100, False)],
)
def test_slurm_requeues_what_lost_a_worker(
    tmp_path: pathlib.Path, first: int, second: int, restarts: int, requeued: bool
) -> None:
    status, _, _, was_requeued = slurm(tmp_path, first, second, restarts)
    assert (status, was_requeued) == (max(first, second), requeued)


@pytest.mark.parametrize(
    ("first", "second", "status", "starts"),
    [(0, 0, 0, 2), (1, 1, 1, 2), (0, 1, 1, 2), (75, 0, 75, 4), (75, 75, 75, 6)],
)
def test_two_workers_start_again_three_times(
    tmp_path: pathlib.Path, first: int, second: int, status: int, starts: int
) -> None:
    environment = {"PYTHON": "python", "PORT": "4000", "ATTEMPTS": "3"}
    ended, configs, arguments = launch(tmp_path, "two_workers.sh", first, second, **environment)
    assert (ended, len(arguments)) == (status, starts)
    for config in configs:
        assert config["cluster"] == {"worker": ["127.0.0.1:4000", "127.0.0.1:4001"]}
