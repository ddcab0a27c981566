"""Puts a finished training among the networks of `wrpn_tf.models.load_pretrained`.

    python -m train.publish --workdir=runs/w2a2 --name=resnet20-w2a2

Writes NAME.npz and NAME.json (see `wrpn_tf.models.published`) where this package is installed:
for an editable installation that is the source folder, and what is published is part of the next
wheel.
"""

import hashlib
import io
import json
import pathlib
import re
from typing import Any

import numpy as np
from absl import flags

from train import flags as train_flags
from train.config import (
    FIELD_DEFAULTS,
    LOCATION_FIELDS,
    REFERENCES,
    Config,
    UserError,
    pretrained_name,
)
from wrpn_tf.files import write_bytes

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the finished training.", required=True)
_NAME = flags.DEFINE_string("name", None, "What `load_pretrained` is to call it.", required=True)
_FOLDER = flags.DEFINE_string("folder", None, "Where to write; the package's own by default.")


def publish(workdir: str, name: str, folder: str | None = None) -> pathlib.Path:
    """Writes the two files of a network; returns the path of the .npz file.

    Raises:
        UserError: The workdir holds no finished training, the name is none or a network has it,
            or the network is not what it was after it has been read again.
        WriteError: The files cannot be written.
    """
    from train import networks
    from train.record import Record
    from wrpn_tf.models import published

    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
        raise UserError(f"--name must be lower-case letters, digits, dots and dashes, not {name!r}")
    target = pathlib.Path(folder or published.folder()) / f"{name}.npz"
    described = target.with_suffix(".json")
    if described.exists():
        raise UserError(f"{described} is a network already; give another name, or remove it first")
    path = pathlib.Path(workdir) / "record.json"
    config = Record.read_config(path)
    contents = json.loads(path.read_text(encoding="utf-8"))
    if "metrics" not in contents:
        raise UserError(f"{workdir}: the training has not finished; the same command resumes it")
    model = networks.load_network(workdir, "workdir")
    record = _record(config, contents, model)
    arrays = published.arrays_of(model)
    again = published.arrays_of(published.restore(record, arrays, config.front))
    if arrays.keys() != again.keys() or any(
        not np.array_equal(arrays[key], again[key]) for key in arrays
    ):
        raise UserError(f"{workdir}: codes and scales do not say all of a network of its method")
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    record["sha256"] = hashlib.sha256(stream.getvalue()).hexdigest()
    write_bytes(target, stream.getvalue())
    write_bytes(described, (json.dumps(record, indent=1) + "\n").encode())
    return target


def _record(config: Config, contents: dict[str, Any], model: Any) -> dict[str, Any]:
    """See `wrpn_tf.models.pretrained`."""
    from train import networks

    dataset = contents["dataset"]
    scale, zero_point = dataset["scale"], dataset["zero_point"]
    places = (*LOCATION_FIELDS, *REFERENCES)
    said = {
        key: value
        for key, value in contents["flags"].items()
        if value != FIELD_DEFAULTS.get(key) and (key not in places or pretrained_name(value))
    }
    quantization = networks.quantization(config) | {
        "rules": [rule.as_json() for rule in config.rules],
        "input_range": [scale * -zero_point, scale * (255 - zero_point)],
    }
    return {
        "arch": config.arch,
        "width": config.width,
        "num_classes": model.output_shape[-1],
        "input_shape": list(model.input_shape[1:]),
        "quantization": quantization if config.quantized else None,
        "dataset": {key: dataset[key] for key in ("name", "scale", "zero_point", "class_names")},
        "training": said,
        "test_accuracy": contents["metrics"]["test_accuracy"],
    }


def run() -> None:
    """Runs the program."""
    target = publish(_WORKDIR.value, _NAME.value, _FOLDER.value)
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    train_flags.run(run)
