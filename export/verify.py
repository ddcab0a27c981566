"""Verifies a .tflite file against the training it came from, on real data.

    python -m export.verify --workdir=runs/w2a4 --model=model.tflite

Checks that the kernels in the file are the trained codes; that LiteRT computes every integer of
every tensor as the NumPy executor does, with each kernel set; how each layer's codes differ from
the Keras evaluation graph fed the device's own input; and top-1 of both over the test images.
Exits with status 1 if a check fails.
"""

from __future__ import annotations

from absl import flags

from export.flatbuffer import reader
from export.kernel_sets.rules import TARGETS
from wrpn_tf import command_line

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the training.", required=True)
_MODEL = flags.DEFINE_multi_string(
    "model", [], "The .tflite file, if it is not named without a flag."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS data; default: as in training.")
_IMAGES = flags.DEFINE_integer(
    "images",
    1000,
    "Test images for the comparison tensor by tensor; top-1 uses all.",
    1,
)
_AGREEMENT = flags.DEFINE_float("min_agreement", 0.998, "Least share of equal top-1.", 0, 1)
_ACCURACY = flags.DEFINE_float("max_accuracy_gap", 0.001, "Largest gap in top-1 accuracy.", 0, 1)
_KERNEL_SETS = flags.DEFINE_multi_enum(
    "kernel_sets",
    list(TARGETS),
    list(TARGETS),
    "The kernels that the file was exported for; repeat the flag.",
)


def main(paths: list[str]) -> int:
    """Runs the program; returns 1 if a check fails."""
    (path,) = command_line.model_files("export.verify", paths, _MODEL.value, most=1)
    content = reader.read_path(path).content

    from rich.console import Console

    from export.verification.verifier import verify_graph
    from export.verification.workdir import Workdir
    from wrpn_tf.progress import ProgressLine

    workdir = Workdir.load(_WORKDIR.value)
    with ProgressLine(f"read {workdir.dataset}"):
        data = workdir.load_data(_DATA_DIR.value)
    verification = verify_graph(
        workdir.model,
        workdir.graph(reader.weights(content), tuple(_KERNEL_SETS.value)),
        content,
        data.test_images,
        data.test_labels,
        sample=_IMAGES.value,
        min_agreement=_AGREEMENT.value,
        max_accuracy_gap=_ACCURACY.value,
    )
    Console().print(verification)
    return 0 if verification.verified else 1


if __name__ == "__main__":
    command_line.run(main, arguments="model.tflite")
