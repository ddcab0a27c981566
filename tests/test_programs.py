"""What all programs share: quick help, mistakes in one sentence, no TensorFlow before its time."""

import ast
import functools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import wrpn_tf
from train import flags
from train.config import ARRAY_FIELDS, JPEG_FIELDS, Config
from wrpn_tf.lazy import lazy_names

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = sorted(
    f"{package}.{path.stem}"
    for package in ("export", "train", "wrpn_tf")
    for path in (ROOT / package).glob("*.py")
    if '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8")
)
TRAININGS = {"train.cifar10", "train.digits", "train.imagenet"}
HEAVY = ("tensorflow", "keras", "tf_keras", "tensorflow_model_optimization", "matplotlib")
# A module that is None in sys.modules raises ImportError where it is imported.
FORBID = f"import sys; sys.modules.update(dict.fromkeys({HEAVY}))"
RUN = f"""{FORBID}
import runpy
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def python(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", *arguments],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def declared(program: str) -> Iterator[tuple[str, object]]:
    """The flags that a program's own file declares, with their defaults where they are literals."""
    for node in ast.walk(ast.parse((ROOT / f"{program.replace('.', '/')}.py").read_text())):
        call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and ".DEFINE_" in call:
            name, default = node.args[:2]
            literal = not call.endswith("alias") and isinstance(default, ast.Constant | ast.List)
            yield ast.literal_eval(name), ast.literal_eval(default) if literal else None


def test_all_programs_are_found():
    assert len(PROGRAMS) == 19


LINES = {
    "train.digits": [
        "  --epochs                  Passes over the training images. Default: 20.\n",
        "Schedule and optimizer:\n",
    ],
    "export.benchmark": ["python -m export.benchmark model.tflite [more.tflite ...] [--name=value"],
    "export.verify": ["  --workdir           Folder of the training. Required.\n"],
    "wrpn_tf.plot": ["python -m wrpn_tf.plot memory|cost_accuracy|codes [--name=value ...]\n"],
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_help(program):
    process = python(RUN, program, "--help")
    text, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert all(f"\n{line}" in f"\n{text}" for line in LINES.get(program, ()))
    lines = [line for line in text.splitlines()[1:] if not line.startswith("    python -m")]
    assert max(map(len, lines)) <= 80
    found = dict(re.findall(r"^  --(?:\[no\])?(\S+) +(.*(?:\n {6,}.*)*)", text, re.MULTILINE))
    expected = dict(declared(program))
    if program in TRAININGS:
        omitted = ARRAY_FIELDS if program == "train.imagenet" else JPEG_FIELDS
        expected |= dict.fromkeys(flags._HELP.keys() - set(omitted))
    assert found.keys() == expected.keys(), "these, and none of absl's"
    for name, default in expected.items():
        if default not in (None, []):
            shown = ",".join(default) if isinstance(default, list) else str(default)
            shown = shown.lower() if isinstance(default, bool) else shown
            assert " ".join(found[name].split()).endswith(f"Default: {shown}."), name


def wrong(program: str) -> Iterator[tuple[list[str], str]]:
    """Wrong command lines of a program, and the sentence about each."""
    yield ["--no_such_flag=1"], "there is no flag --no_such_flag; --help lists the flags"
    if "arguments=" not in (ROOT / f"{program.replace('.', '/')}.py").read_text():
        names = ("workdir", "model", "name", "output", "config", "model_graph", "budget")
        required = [f"--{name}=x" for name in names]
        known = (
            dict(declared(program)).keys() | (flags._HELP if program in TRAININGS else {}).keys()
        )
        given = [flag for flag in required if flag[2:-2] in known]
        sentence = "unexpected argument 'stray'; options are written --name=value"
        yield [*given, "stray"], sentence


VALUES = [
    ("train.digits", "--epoch=3", "there is no flag --epoch; did you mean --epochs?"),
    ("train.digits", "--epochs=many", "--epochs=many must be an integer"),
    ("train.digits", "--epochs", "--epochs needs a value: --epochs=..."),
    ("train.digits", "--workdir=", "--workdir needs a value: --workdir=..."),
    ("train.digits", "--flip=perhaps", "--flip=perhaps must be true or false"),
    ("train.digits", "--optimizer=lion", "--optimizer=lion must be one of sgd, adam"),
    ("train.digits", "--workdir=x --width=0.1", "--width=0.1 must be at least 0.25"),
    ("train.digits", "--workdir=x --decay_epochs=a", "--decay_epochs=a must be numbers: 30,60,90"),
    (
        "train.digits",
        "--epochs=3",
        "--workdir=... must be given: Folder of checkpoints, logs, model.h5 and record.json; an "
        "interrupted training in it is resumed.",
    ),
    (
        "train.digits",
        "--workdir=x --epochs=1 --warmup_epochs=2",
        "warmup_epochs (2.0) must not exceed epochs (1)",
    ),
    (
        "train.digits",
        "--workdir=x --decay_epochs=5",
        "--decay_epochs has no effect with --schedule=cosine; leave it out, or give "
        "--schedule=step",
    ),
    (
        "train.imagenet",
        "--epochs=60",
        "--decay_epochs=60,90,100 would come after the end with --epochs=60; give earlier ones, or "
        "--schedule=cosine",
    ),
    (
        "train.imagenet",
        "--temperature=2",
        "--temperature has no effect without --teacher; leave it out, or give one",
    ),
    (
        "train.choose",
        "--workdir=x --sample=9 --budget=cost:0.2 --output=rules.json",
        "--sample is for --images, and --workdir takes images of its own data set",
    ),
    (
        "train.choose",
        "--model=x.keras --images=README.md --data_dir=x --budget=cost:0.2 --output=rules.json",
        "--data_dir is for --workdir; a model has the images of --images",
    ),
    ("train.imagenet", "--config=vgg", "unknown config 'vgg'; --list prints all 59"),
    (
        "export.quantize",
        "--model=README.md --wbits=9",
        "--wbits must be 1 to 8, or 32 for no quantization",
    ),
    (
        "export.quantize",
        "--model=README.md --output=x.tflite",
        "--output needs --images, to calibrate with and to verify the file on",
    ),
    (
        "export.quantize",
        "--model=. --output=x.tflite",
        "--output needs --images, to calibrate with and to verify the file on",
    ),
    (
        "export.quantize",
        "--model=README.md --input_range=1,2",
        "--input_range=1,2 must be two numbers with 0 in between, what the pixels 0 and 255 are to "
        "the model: 0,255 or 0,1 or -1,1",
    ),
    (
        "export.quantize",
        "--model=README.md --images=docs/results",
        "docs/results has no image files (.jpg, .jpeg, .png, .bmp, .gif).",
    ),
    ("export.report", "--output=r.html", "give --workdir=… or --model=…"),
    ("export.report", "--output=r --workdir=docs", "--output=r must end in .html"),
    ("export.tflite", "--output=m.keras --workdir=x", "--output=m.keras must end in .tflite"),
    ("export.tflite", "--output=m.tflite --workdir=x --graph=g", "--graph=g must end in .npz"),
    ("export.edgetpu", "m.tflite --fix --output=m", "--output=m must end in .tflite"),
    (
        "export.report",
        "--output=r.html --workdir=docs --node_data=./r.html",
        "--output and --node_data must be different files",
    ),
    ("export.tflite", "--weights=int3", "--weights=int3 must be one of int8, int4, int2"),
    (
        "export.tflite",
        "--kernel_sets=cmsis",
        "--kernel_sets=cmsis must be one of xnnpack, optimized, optimized_arm, reference, "
        "reference_2_14, tflm",
    ),
    (
        "export.tflite",
        "--workdir=x --output=y --weights=int4 --kernel_sets=tflm",
        "--kernel_sets is for --weights=int8: int4 and int2 are XNNPACK's alone",
    ),
    (
        "export.tflite",
        "--workdir=x --output=y --graph=./y",
        "--output, --graph, --transport and --int8_twin must be different files",
    ),
    (
        "export.evaluate",
        "--model=x --folder=y --split=validation",
        "--split and --data_dir are those of --dataset, and --folder has neither",
    ),
    (
        "export.evaluate",
        "--model=x --folder=y --mean=a --std=1",
        "--mean and --std are numbers: could not convert string to float: 'a'",
    ),
    (
        "export.evaluate",
        "--model=x --folder=y --resize=squash --crop_fraction=0.9",
        "--crop_fraction is for --resize=crop; squash takes all of an image",
    ),
    (
        "export.prove",
        "--model_graph=x --kernel_sets=tflm",
        "--kernel_sets needs --workdir: a graph alone carries what was moved.",
    ),
    ("export.verify", "--images=0", "--images=0 must be a positive integer"),
    (
        "export.verify",
        "--workdir=x --model=README.md",
        "README.md is not a TFLite model: the identifier TFL3 is missing",
    ),
    (
        "export.verify",
        "--min_agreement=2",
        "--min_agreement=2 must be a number in the range [0, 1]",
    ),
    (
        "train.choose",
        "--workdir=x --output=y --budget=flash:2parsecs",
        "--budget=flash:2parsecs must be cost:SHARE or flash:SIZE, as cost:0.3 or flash:200KiB",
    ),
    (
        "train.choose",
        "--output=y --budget=cost:0.1",
        "give either --workdir=... or --model=... with --images=...",
    ),
    (
        "train.choose",
        "--output=y --budget=cost:0.1 --model=m --images=README.md",
        "README.md is no .npy file of an array [images, height, width, channels].",
    ),
    (
        "wrpn_tf.plot",
        "memory --model=x --output=m.svg",
        "--model is of the figure codes, not of memory",
    ),
    (
        "train.choose",
        "--workdir=x --output=y --budget=",
        "--budget needs a value: --budget=...",
    ),
    ("wrpn_tf.cost", "--wbits=9", "--wbits must be 1 to 8, or 32 for no quantization; got 9."),
    ("export.benchmark", "x.tflite --plot=x.svg", "--plot=x.svg must end in .png"),
    (
        "export.benchmark",
        "x.tflite --plot=README.md/x.png",
        "Cannot write README.md/x.png: Not a directory.",
    ),
    (
        "export.benchmark",
        "--threads=1",
        "name a .tflite file: python -m export.benchmark model.tflite",
    ),
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_wrong_command_line_is_one_sentence(program):
    cases = [*wrong(program), *((a.split(), text) for name, a, text in VALUES if name == program)]
    processes = [(python(RUN, program, *given), text) for given, text in cases]
    for process, sentence in processes:
        output, errors = process.communicate()
        assert (process.returncode, output, errors) == (1, "", f"error: {sentence}\n")


def test_a_path_of_a_flag_begins_at_home():
    process = python(RUN, "export.quantize", "--model=~/none.keras")
    _, errors = process.communicate()
    assert errors == f"error: --model: there is no file {Path.home()}/none.keras\n"


def test_importing_imports_nothing_heavy():
    names = "datasets.names(), jpegs.NAME, methods.METHODS, models.ARCHITECTURES, paper.COSTS"
    process = python(
        f"{FORBID}\nimport export, train.config, train.experiments, wrpn_tf\n"
        "from wrpn_tf.arithmetic.bits import OFF\n"
        f"from wrpn_tf import datasets, jpegs, methods, models, paper\n{names}"
    )
    assert process.communicate() == ("", "")
    assert process.returncode == 0


def test_keras_of_the_process_stays_what_it_was():
    process = python("""
import os
import wrpn_tf
import tensorflow as tf
before = dict(os.environ)
wrpn_tf.WRPNScheme
assert dict(os.environ) == before
import keras, tf_keras
assert tf.keras.Model is tf.compat.v2.keras.Model is keras.Model
import tensorflow_model_optimization.python.core.keras.compat as compat
assert compat.keras.Model is tf_keras.Model
""")
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def test_names_that_are_not_there():
    with pytest.raises(AttributeError, match=r"^module 'wrpn_tf' has no attribute 'quantise'$"):
        getattr(wrpn_tf, "quantise")  # noqa: B009
    get, names = lazy_names("wrpn_tf", {"new": "wrpn_tf.models"}, {"old": "new"})
    with pytest.raises(AttributeError, match=r"^wrpn_tf\.old is now wrpn_tf\.new$"):
        get("old")
    assert "new" in names() and "old" not in names()
    assert {"load_model", "models", "__version__"} <= set(dir(wrpn_tf))


def test_every_field_of_a_training_has_a_flag():
    assert flags._HELP.keys() == Config.__dataclass_fields__.keys() - {"dataset"}
    assert len(flags._HELP) == sum(map(len, flags._GROUPS.values()))


def test_a_reader_that_is_gone_is_no_mistake():
    program = "print('line', flush=True); import time; time.sleep(0.1); print('line')"
    code = f"from wrpn_tf import command_line\ncommand_line.run(lambda: exec({program!r}))"
    process = python(code)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


def test_an_interrupted_training_says_how_to_resume(tmp_path):
    workdir = tmp_path / "run"
    command = [sys.executable, "-m", "train.digits", f"--workdir={workdir}", "--epochs=1000"]
    process = subprocess.Popen(
        [*command, "--checkpoint_steps=1"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests are a job in a shell's background, SIGINT is ignored.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not list(workdir.glob("checkpoints/*.index")):
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == (
        "interrupted; the same command resumes from the last checkpoint in the workdir"
    )
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "command",
    [
        ["train.digits", "--workdir=none"],
        ["wrpn_tf.cost", "--arch=digits_cnn"],
    ],
)
def test_what_needs_tensorflow_says_so_without_it(command):
    hidden = """import importlib.machinery, sys
class Hidden(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in ("tensorflow", "tf_keras"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden)
import runpy
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
    process = python(hidden, *command)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert re.fullmatch(
        r"error: this needs (tensorflow|tf_keras), which is not installed: "
        r"install this package with its extra train, in a checkout pip install '\.\[train\]'\n",
        errors,
    )
