"""Accuracy of any .tflite image classifier over a TFDS split or class folders.

    python -m export.evaluate --model=model.tflite --dataset=imagenet2012 --split=validation
    python -m export.evaluate --model=model.tflite --folder=photos --resize=squash --format=json

Pixels become the input as the flags say (`real = (pixel - mean) / std`), else as the file's
metadata says, else as codes. A model whose class 0 is the background takes `--label_offset=1`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time

from absl import flags, logging

from export.flatbuffer import reader
from export.kernel_sets.rules import KERNEL_SETS
from export.tools import classifier
from export.tools.evaluation import Accuracy, evaluate, labels_of_classes
from wrpn_tf import command_line
from wrpn_tf.progress import ProgressLine
from wrpn_tf.terminal import printable

_MODEL = flags.DEFINE_multi_string(
    "model", [], "The .tflite file, if it is not named without a flag."
)
_DATASET = flags.DEFINE_string("dataset", None, "Name of a TFDS data set.")
_SPLIT = flags.DEFINE_string("split", "test", "Its split, or a slice of one: validation[:100].")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS data; default: TFDS's own.")
_FOLDER = flags.DEFINE_string("folder", None, "Instead: a folder of class folders of images.")
_RESIZE = flags.DEFINE_enum(
    "resize", "crop", ["crop", "squash"], "Central crop, or the whole image whatever its aspect."
)
_FRACTION = flags.DEFINE_float("crop_fraction", 0.875, "Share of the short side that is kept.")
_MEAN = flags.DEFINE_list("mean", None, "Mean in pixels: one, or one for each channel.")
_STD = flags.DEFINE_list("std", None, "Standard deviation in pixels.")
_OFFSET = flags.DEFINE_integer("label_offset", 0, "The class that is label 0.", 0)
_KERNEL_SETS = flags.DEFINE_enum("kernels", "xnnpack", KERNEL_SETS, "Kernels of the Interpreter.")
_PROCESSES = flags.DEFINE_integer("processes", os.cpu_count(), "Processes that run the model.", 1)
_FORMAT = flags.DEFINE_enum("format", "text", ["text", "json"], "What to print.")

_BATCH = 32
_BATCH_VALUES = 2**25  # Of larger images a batch has fewer.


def main(paths: list[str]) -> None:
    """Runs the program."""
    (path,) = command_line.model_files("export.evaluate", paths, _MODEL.value, most=1)
    _check_flags()
    logging.set_verbosity(logging.WARNING)  # TFDS reports at INFO what it reads.
    normalization = _normalization()
    model = reader.read_path(path)
    try:
        description = classifier.interface(model, normalization)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error

    from export.tools import images  # TensorFlow, which takes seconds: after the file was looked at

    if _FOLDER.value:
        data = images.from_folder(_FOLDER.value)
    else:
        data = images.from_tfds(_DATASET.value, _SPLIT.value, _DATA_DIR.value)
    mapping = labels_of_classes(description, data.class_names, _OFFSET.value)
    count = max(1, min(_BATCH, _BATCH_VALUES // math.prod(description.image_shape)))
    batches = data.batches(description.image_shape, _RESIZE.value, _FRACTION.value, count)
    started = time.perf_counter()
    with ProgressLine("top-1", data.count) as line:

        def show(accuracy: Accuracy) -> None:
            line.begin(f"top-1 {accuracy.top1:.2%}")
            line.reach(accuracy.images)

        accuracy = evaluate(
            model.content,
            description,
            batches,
            mapping,
            kernel_set=_KERNEL_SETS.value,
            processes=_PROCESSES.value,
            progress=show,
        )
    seconds = time.perf_counter() - started
    if _FORMAT.value == "json":
        record = {
            "model": path,
            "data": data.name,
            **dataclasses.asdict(accuracy),
            "classes": description.classes,
            "label_offset": _OFFSET.value,
            "image_shape": description.image_shape,
            "resize": _RESIZE.value,
            "crop_fraction": _FRACTION.value if _RESIZE.value == "crop" else None,
            "normalization": description.normalization,
            "input": description.dtype,
            "kernels": _KERNEL_SETS.value,
            "processes": _PROCESSES.value,
            "seconds": round(seconds, 3),
        }
        print(json.dumps(record, indent=1))
    else:
        print(
            f"{printable(path)} on {printable(data.name)}: {accuracy.images:,} images, "
            f"top-1 {accuracy.top1:.2%}, top-5 {accuracy.top5:.2%} ({seconds:.1f} s)"
        )


def _check_flags() -> None:
    """Raises ValueError for flags that do not go together."""
    if bool(_DATASET.value) == bool(_FOLDER.value):
        raise ValueError("give --dataset=NAME or --folder=PATH")
    if _FOLDER.value and (_SPLIT.present or _DATA_DIR.present):
        raise ValueError("--split and --data_dir are those of --dataset, and --folder has neither")
    if _RESIZE.value == "squash" and _FRACTION.present:
        raise ValueError("--crop_fraction is for --resize=crop; squash takes all of an image")
    if not 0 < _FRACTION.value <= 1:
        raise ValueError("--crop_fraction must be above 0 and at most 1")


def _normalization() -> classifier.Normalization | None:
    if _MEAN.value is None and _STD.value is None:
        return None
    try:
        mean, std = (tuple(float(v) for v in flag.value or ()) for flag in (_MEAN, _STD))
    except ValueError as error:
        raise ValueError(f"--mean and --std are numbers: {error}") from error
    if not mean or not std or any(value <= 0 for value in std):
        raise ValueError("--mean and --std go together, and --std is above 0")
    return mean, std


if __name__ == "__main__":
    command_line.run(main, arguments="model.tflite")
