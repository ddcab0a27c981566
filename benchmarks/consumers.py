"""Does an exported classifier work in the libraries that users have? One table.

    python -m export.tflite --workdir=runs/w2a4 --output=model.tflite
    python -m benchmarks.consumers --workdir=runs/w2a4 --model=model.tflite \
        --environments=runs/consumers

For each library: top-1 on test images, and on how many of them the class is the one that Keras
has. LiteRT and TensorFlow are those of this environment. Each other library gets a virtual
environment in the folder `--environments`, which pip fills from PyPI the first time. What pip does
not have for this Python, and what a library says of a file that it does not take, is in its row.
`--python=python3.11` makes the environments with another Python: not all libraries follow new ones.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import tempfile

import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from benchmarks.suite import environments
from export.flatbuffer import reader
from export.verification.workdir import Workdir
from wrpn_tf import command_line
from wrpn_tf.terminal import cell, printable

_SCRIPT = pathlib.Path(__file__).with_name("consumer_classes.py")

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the finished training.", required=True)
_MODEL = flags.DEFINE_string("model", None, "The .tflite file exported of it.", required=True)
_ENVIRONMENTS = flags.DEFINE_string(
    "environments", "runs/consumers", "Folder for the libraries' virtual environments."
)
_PYTHON = flags.DEFINE_string("python", sys.executable, "The Python that makes the environments.")
_IMAGES = flags.DEFINE_integer("images", 300, "The first so many test images.", 1)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS data; default: as in training.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Consumer:
    """A library that classifies images with .tflite files.

    Attributes:
      title: its name.
      function: of `consumer_classes.py`.
      packages: what pip installs for it; empty: it is in this environment.
    """

    title: str
    function: str
    packages: tuple[str, ...] = ()


# Both old runtimes were built for NumPy 1 and do not say so to pip.
_OLD_RUNTIME = ("tflite-runtime==2.14.0", "numpy<2")
CONSUMERS = (
    Consumer(title="MediaPipe Tasks", function="mediapipe", packages=("mediapipe==1.2.3",)),
    Consumer(title="MediaPipe Tasks", function="mediapipe", packages=("mediapipe==0.10.35",)),
    Consumer(
        title="TFLite Task Library",
        function="task_library",
        packages=("tflite-support==0.4.4", "numpy<2"),
    ),
    Consumer(title="Interpreter", function="tflite_runtime", packages=_OLD_RUNTIME),
    Consumer(title="Interpreter", function="litert"),
    Consumer(title="Interpreter", function="tensorflow"),
    Consumer(title="code for PyCoral, on the CPU", function="pycoral", packages=_OLD_RUNTIME),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classified:
    """What a library made of the images.

    Attributes:
      package: name and version.
      top1: a class for each image, -1: none; None: it does not take the file.
      problem: why.
    """

    package: str
    top1: np.ndarray | None = None
    problem: str = ""


def classify(
    consumer: Consumer, model: str, images: str, folder: pathlib.Path, python: str
) -> Classified:
    """Has a library classify images, in its own environment, which is made if it is not there.

    Args:
      consumer: the library.
      model: path of the .tflite file.
      images: path of the uint8 ``[images, height, width, channels]`` as .npy file.
      folder: that of the environments.
      python: what makes them.
    """
    package = (consumer.packages or (consumer.function,))[0]
    try:
        if consumer.packages:
            python = environments.python(folder, consumer.packages, python)
        else:
            python = sys.executable
        said = environments.run(python, str(_SCRIPT), consumer.function, model, images)
    except environments.UnavailableError as error:
        return Classified(package=package, problem=str(error))
    found = json.loads(said.splitlines()[-1])
    name = package.partition("==")[0].replace("litert", "ai-edge-litert")
    return Classified(package=f"{name} {found['version']}", top1=np.array(found["top1"]))


def main() -> None:
    """Runs the program."""
    model = reader.read_path(_MODEL.value)
    types = [model.main.tensors[index].type for index in model.main.inputs]
    if types not in (["UINT8"], ["INT8"]):
        raise ValueError(f"{_MODEL.value}: expected one input of uint8 or int8")
    workdir = Workdir.load(_WORKDIR.value)
    data = workdir.load_data(_DATA_DIR.value)
    images, labels = (each[: _IMAGES.value] for each in (data.test_images, data.test_labels))
    keras = workdir.model.predict(data.normalize(images), verbose=0).argmax(axis=1)

    table = Table(title=cell(f"{_MODEL.value} on {len(images)} test images"), title_justify="left")
    for heading in ("library", "package", "top-1", "same top-1 as Keras"):
        table.add_column(heading)
    table.add_row("Keras", "", f"{(keras == labels).mean():.2%}", "")
    with tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/images.npy"
        np.save(path, images)
        folder = pathlib.Path(_ENVIRONMENTS.value)
        for consumer in CONSUMERS:
            found = classify(consumer, _MODEL.value, path, folder, _PYTHON.value)
            top1, same = "none", printable(found.problem)
            if found.top1 is not None:
                top1 = f"{(found.top1 == labels).mean():.2%}"
                same = f"{int((found.top1 == keras).sum())} of {len(images)}"
                if none := int((found.top1 < 0).sum()):
                    same += f"; {none} without a class"
            table.add_row(consumer.title, found.package, top1, cell(same))
    Console().print(table)


if __name__ == "__main__":
    command_line.run(main)
