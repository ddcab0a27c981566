import subprocess
import sys
from pathlib import Path

import pytest

from wrpn_tf import console

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "import sys; from wrpn_tf.console import main; main()"


def wrpn(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Runs the command as its installed script does: without the current folder on the path."""
    start = f"import sys; sys.path[0] = {str(ROOT)!r}\n{COMMAND}"
    return subprocess.run(
        [sys.executable, "-c", start, *words], cwd=cwd, capture_output=True, text=True
    )


def test_every_program_is_a_command():
    programs = {
        f"{package}.{path.stem}"
        for package in ("export", "train", "wrpn_tf")
        for path in (ROOT / package).glob("*.py")
        if '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8")
    }
    assert set(console.PROGRAMS.values()) == programs


def test_overview_has_a_line_for_each_command():
    lines = console.overview().splitlines()
    assert "  verify          Verifies a .tflite file against the training it came from, " in (
        "\n".join(lines)
    )
    for command in console.PROGRAMS:
        assert sum(line.startswith(f"  {command} ") for line in lines) == 1
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["train", "cifar10", "--wbits=2"], "train cifar10"),
        (["export", "--workdir=c"], "export"),
        (["c"], "c"),
        (["train"], None),
        (["trains"], None),
        ([], None),
    ],
)
def test_command_of(words, command):
    assert console.command_of(words) == command


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "no command"),
        (["exprot"], "there is no command 'exprot' (did you mean export?)"),
        (["train"], "wrpn train needs one of digits, cifar10, imagenet, sweep"),
    ],
)
def test_wrong_commands(words, problem):
    with pytest.raises(SystemExit) as ended:
        console.main(words)
    assert ended.value.code == f"error: {problem}; wrpn --help lists the commands"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["tr"], ["train"]),
        (["train", ""], ["cifar10", "digits", "imagenet", "sweep"]),
        (["train", "x"], []),
        (["nothing", ""], []),
        (["verify", "--mo"], ["--model="]),
        (["verify", "--model", "=", "f"], []),
        (["train", "digits", "--per"], ["--per_channel"]),
    ],
)
def test_completion(typed, expected):
    process = wrpn("complete", *typed)
    assert (process.stdout.split(), process.returncode) == (expected, 0)


def test_completion_script_is_bash():
    script = wrpn("completion").stdout
    assert "complete -o default -F _wrpn wrpn" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_users_modules_do_not_shadow_programs(tmp_path):
    for name in ("export", "train"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')\n")
    process = wrpn("verify", "--help", cwd=tmp_path)
    first, example = process.stdout.splitlines()[0], process.stdout.splitlines()[4]
    assert first == "wrpn verify model.tflite [--name=value ...]"
    assert example == "    wrpn verify --workdir=runs/w2a4 --model=model.tflite"
    process = wrpn("edgetpu", "none.tflite", cwd=tmp_path)
    assert "none.tflite" in process.stderr and "not this one" not in process.stderr


def test_a_program_prints_no_line_of_tensorflow():
    process = wrpn("cost", "--arch=digits_cnn", "--format=csv")
    assert (process.stderr, process.returncode) == ("", 0)
