"""Chooses bits for each layer of a float network under a budget, as rules.

    python -m train.choose --workdir=runs/float --budget=cost:0.15 --output=rules.json
    python -m train.choose --model=net.keras --images=x.npy --budget=flash:9KiB --output=r.json

Each kernel and each layer's activations are quantized alone; an integer program then finds the
bits of least summed distortion of the outputs. Prints them as a table. The file is for
`--rules` of the training programs and of `wrpn quantize`, and for `wrpn_tf.read_rules`.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import Any

from absl import flags

from export.tools import model_images
from wrpn_tf import command_line
from wrpn_tf.files import require_writable

_UNITS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2}

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished float training.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Its data set, where that has moved.")
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "Instead: a float model, a .keras or .h5 file, or pretrained:NAME of the package.",
)
_IMAGES = flags.DEFINE_string(
    "images",
    None,
    "With --model: an .npy file, uint8 pixels or floats as the model takes them, or a folder of "
    "image files.",
)
_RANGE = flags.DEFINE_list(
    "input_range", None, "Of pixels: what 0 and 255 are to the model, as 0,255 or 0,1 or -1,1."
)
_SAMPLE = flags.DEFINE_integer("sample", 512, "Images to take of --images, spread evenly.", 1)
_BUDGET = flags.DEFINE_list(
    "budget",
    None,
    "cost:SHARE of multiply-accumulates x (activation bits + weight bits) in float; flash:SIZE of "
    "the kernels, as 200KiB; or both, with a comma.",
    required=True,
)
_BITS = flags.DEFINE_list("bits", ["2", "3", "4", "6", "8"], "Bits to choose from.")
_DISTORTION = flags.DEFINE_enum(
    "distortion", "mse", ["mse", "kl"], "Of the outputs: mean squared error or KL divergence."
)
_OUTPUT = flags.DEFINE_string("output", None, "The JSON file of rules to write.", required=True)


def main() -> None:
    """Runs the program."""
    budget, bits = _budget(_BUDGET.value), _numbers(_BITS.value)
    if (_WORKDIR.value is None) == (_MODEL.value is None):
        raise ValueError("give either --workdir=... or --model=... with --images=...")
    if (_MODEL.value is None) != (_IMAGES.value is None):
        raise ValueError("--model and --images go together")
    if _WORKDIR.value is not None:
        for flag in (_RANGE, _SAMPLE):
            if flag.present:
                raise ValueError(
                    f"--{flag.name} is for --images, and --workdir takes images of its own data set"
                )
    elif _DATA_DIR.present:
        raise ValueError("--data_dir is for --workdir; a model has the images of --images")
    source, input_range = model_images.of_flags(_IMAGES.value, _RANGE.value)
    command_line.require_ending(_OUTPUT, ".json")
    require_writable(_OUTPUT.value)

    import wrpn_tf

    model, images = _of_file(source, input_range) if source else _of_workdir()
    choice = wrpn_tf.choose_bits(model, images, budget, bits, distortion=_DISTORTION.value)
    choice.show()
    wrpn_tf.write_rules(_OUTPUT.value, choice.rules)


def _of_workdir() -> tuple[Any, Any]:
    from train import networks, sources
    from train.record import Record

    config = Record.read_config(pathlib.Path(_WORKDIR.value) / "record.json")
    config = dataclasses.replace(config, data_dir=_DATA_DIR.value or config.data_dir)
    model = networks.load_network(_WORKDIR.value, "workdir")
    return model, sources.load(config).calibration()


def _of_file(
    source: model_images.ImageSource, input_range: tuple[float, float] | None
) -> tuple[Any, Any]:
    from train import networks

    model = networks.load_network(_MODEL.value, "model")
    if len(model.inputs) != 1:
        raise ValueError(
            f"{_MODEL.value} has {len(model.inputs)} inputs, and --images are of one: use "
            "wrpn_tf.choose_bits"
        )
    return model, source.read(tuple(model.inputs[0].shape[1:]), _SAMPLE.value, input_range)


def _budget(parts: list[str]) -> dict[str, float]:
    found = {}
    for part in parts:
        match = re.fullmatch(r"(\w+):(\d*\.?\d+)(\w*)", part.strip())
        if match is None or match[3] not in (_UNITS if match[1] == "flash" else {""}):
            raise ValueError(
                f"--budget={part} must be cost:SHARE or flash:SIZE, as cost:0.3 or flash:200KiB"
            )
        if match[1] in found:
            raise ValueError(f"--budget={','.join(parts)} names {match[1]} twice")
        found[match[1]] = float(match[2]) * _UNITS[match[3]]
    return found


def _numbers(parts: list[str]) -> list[int]:
    if not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"--bits must be numbers with commas; got {','.join(parts)}")
    return [int(part) for part in parts]


if __name__ == "__main__":
    command_line.run(main)
