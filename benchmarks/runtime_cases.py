"""Writes what `benchmarks/runtime_check.py` compares other runtimes and processors with.

    python -m benchmarks.runtime_cases --output=runs/cases runs/digits runs/resnet20

For each workdir: the .tflite file with every tensor exposed, int8 images, and every integer that
the NumPy executor computes under each kernel's rule.
"""

import pathlib

import numpy as np
from absl import flags

from benchmarks import case_files
from export.verification.workdir import Workdir
from wrpn_tf import command_line

_OUTPUT = flags.DEFINE_string("output", None, "Folder to write into.", required=True)
_IMAGES = flags.DEFINE_integer("images", 20, "Images of a network.", 1)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS data; default: as in training.")


def main(paths: list[str]) -> None:
    """Runs the program."""
    if not paths:
        raise ValueError("name the workdirs of one or more trained networks")
    for path in paths:
        workdir = Workdir.load(path)
        graph, data = workdir.graph(), workdir.load_data(_DATA_DIR.value)
        images = (data.test_images[: _IMAGES.value].astype(np.int16) - 128).astype(np.int8)
        target_path = pathlib.Path(_OUTPUT.value) / pathlib.Path(path).name
        case_files.write(target_path, graph, images)
        print(f"{target_path}: {len(graph.tensors)} tensors, {len(images)} images")


if __name__ == "__main__":
    command_line.run(main, arguments="workdir ...")
