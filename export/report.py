"""Writes an HTML report: accuracy lost by layer, and verdicts of devices.

    python -m export.report --workdir=runs/w2a4 --output=report.html --float=runs/float
    python -m export.report --model=net-w4a4.keras --images=images.npy --output=report.html

Curves of the training, codes, scales, zero codes and clipping of each layer, cost and memory beside
float, the signal-to-noise ratio of each layer's output, the verification of the .tflite file, and
the verdicts for Edge TPU and Ethos-U; in one file without links. `--node_data=FILE` also writes
each tensor's error for Google's Model Explorer, to lay over the .tflite file.
"""

from __future__ import annotations

import json
import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from export.tools import model_images
from wrpn_tf import command_line
from wrpn_tf.files import require_writable, write_bytes

if TYPE_CHECKING:
    import numpy as np

_OUTPUT = flags.DEFINE_string("output", None, "The .html file to write.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished training.")
_MODEL = flags.DEFINE_string("model", None, "A quantized model, .keras or .h5, with --images.")
_IMAGES = flags.DEFINE_string(
    "images",
    None,
    "With --model: an .npy file, uint8 pixels or floats as the model takes them, or a folder of "
    "image files.",
)
_LABELS = flags.DEFINE_string("labels", None, "With --images: an .npy file of class numbers.")
_FLOAT = flags.DEFINE_string(
    "float", None, "Workdir or model file of a float network to stand beside it."
)
_SAMPLE = flags.DEFINE_integer("sample", 256, "Images to take, spread evenly.", 1)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS data; default: as in training.")
_NODE_DATA = flags.DEFINE_string(
    "node_data", None, "Also write each tensor's error as this .json file for Model Explorer."
)


def main() -> None:
    """Runs the program."""
    if bool(_WORKDIR.value) == bool(_MODEL.value):
        raise ValueError("give --workdir=… or --model=…")
    if bool(_MODEL.value) != bool(_IMAGES.value):
        raise ValueError("--model and --images go together; a workdir has its own")
    if _LABELS.value and not _IMAGES.value:
        raise ValueError("--labels are those of --images")
    command_line.require_ending(_OUTPUT, ".html")
    if _NODE_DATA.value and os.path.abspath(_NODE_DATA.value) == os.path.abspath(_OUTPUT.value):
        raise ValueError("--output and --node_data must be different files")
    for flag in (_WORKDIR, _MODEL, _FLOAT):
        if flag.value and not pathlib.Path(flag.value).exists():
            raise ValueError(f"--{flag.name}: there is no {flag.value}")
    source = model_images.find(_IMAGES.value) if _IMAGES.value else None
    require_writable(*filter(None, [_OUTPUT.value, _NODE_DATA.value]))

    import wrpn_tf
    from export.reporting import facts, page

    if source is not None:
        model = wrpn_tf.load_model(_MODEL.value)
        images, labels = _given(model, source)
        curves: Mapping[str, Sequence[float]] = {}
    else:
        model, images, labels = _trained()
        curves = _curves(pathlib.Path(_WORKDIR.value) / "record.json")
    floats = {}
    if _FLOAT.value:
        floats[pathlib.Path(_FLOAT.value).name] = wrpn_tf.load_model(_FLOAT.value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # The page has the unproven channels.
        found = facts.gather(model, images, labels, curves=curves, floats=floats)
    if _NODE_DATA.value:
        text = json.dumps(facts.node_data(found), indent=1)
        write_bytes(_NODE_DATA.value, text.encode())
        print(f"Wrote {_NODE_DATA.value}")
    write_bytes(_OUTPUT.value, page.render(found).encode())
    print(f"Wrote {_OUTPUT.value}")


def _given(model: Any, source: model_images.ImageSource) -> tuple[np.ndarray, np.ndarray | None]:
    """Images of --images and labels of --labels."""
    import numpy as np

    import wrpn_tf

    if len(model.inputs) != 1:
        raise ValueError(f"{_MODEL.value} has {len(model.inputs)} inputs; a report is of one")
    states = wrpn_tf.input_quantizers(model).values()
    input_range = next((state.fixed for state in states), None)
    if source.are_pixels and input_range is None:
        raise ValueError(
            f"{_IMAGES.value} holds pixels, and the model has no input_range; give floats"
        )
    images = source.read(tuple(model.inputs[0].shape[1:]), _SAMPLE.value, input_range)
    if not _LABELS.value:
        return images, None
    try:
        labels = np.load(_LABELS.value, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"--labels: cannot read {_LABELS.value}: {error}") from error
    if not isinstance(labels, np.ndarray):
        raise ValueError(f"--labels: {_LABELS.value} is no .npy file of an array")
    if labels.shape != (source.count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"--labels: {source.count} images need as many class numbers; got {labels.dtype} "
            f"{list(labels.shape)}"
        )
    return images, labels[source.chosen(_SAMPLE.value)]


def _trained() -> tuple[Any, np.ndarray, np.ndarray]:
    """The model of the workdir, and test images and labels."""
    import numpy as np

    from export.verification.workdir import Workdir

    workdir = Workdir.load(_WORKDIR.value)
    data = workdir.load_data(_DATA_DIR.value)
    count = len(data.test_images)
    chosen = np.linspace(0, count - 1, min(_SAMPLE.value, count)).astype(int)
    return workdir.model, data.normalize(data.test_images[chosen]), data.test_labels[chosen]


def _curves(record: pathlib.Path) -> dict[str, list[float]]:
    """Accuracies after each epoch."""
    history = json.loads(record.read_text(encoding="utf-8")).get("history", [])
    curves = {
        name: [float(epoch[key]) for epoch in history if key in epoch]
        for name, key in (("training", "train_accuracy"), ("test", "test_accuracy"))
    }
    return {name: values for name, values in curves.items() if values}


if __name__ == "__main__":
    command_line.run(main)
