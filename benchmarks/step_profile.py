"""Where the time of a training step goes: operations in float, quantized, and packed.

    python -m benchmarks.step_profile --arch=mobilenet_v2 --image_size=224 --batch_size=16

Milliseconds of a step by type of operation, by TensorFlow's profiler, summed over the threads that
operations run beside each other in: shares say more than sums. In tf_keras, without XLA.
"""

from __future__ import annotations

import collections
import pathlib
import tempfile
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

import wrpn_tf
from benchmarks.suite.stepping import warm_step
from wrpn_tf import command_line

_ARCH = flags.DEFINE_string("arch", "resnet20", "Architecture.")
_SIZE = flags.DEFINE_integer("image_size", 32, "Height and width of the images.", 8)
_BATCH = flags.DEFINE_integer("batch_size", 128, "Images per step.", 1)
_WBITS = flags.DEFINE_integer("wbits", 4, "Weight bits.", 1, 8)
_ABITS = flags.DEFINE_integer("abits", 4, "Activation bits.", 1, 8)
_STEPS = flags.DEFINE_integer("steps", 5, "Steps to take the mean of.", 1)
_ROWS = flags.DEFINE_integer("rows", 20, "Types of operations to show, the longest first.", 1)


def milliseconds(model: Any, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Of each type of operation in a training step."""
    import tensorflow as tf
    import tf_keras

    # The profiler's own reader is a package of 100 MB; of TensorFlow, this module has the format.
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    step = warm_step(tf_keras, model, images, labels)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(_STEPS.value):
            step()
        tf.profiler.experimental.stop()
        (file,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    found: dict[str, float] = collections.defaultdict(float)
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            if ":" in name and "::" not in name and " " not in name:  # 'node:Operation'
                operation = name.rsplit(":", maxsplit=1)[1].removeprefix("_MklNative")
                found[operation] += event.duration_ps / 1e9 / _STEPS.value
    return found


def main() -> None:
    """Runs the program."""
    shape = (_SIZE.value, _SIZE.value, 3)
    random = np.random.default_rng(0)
    images = random.normal(size=(_BATCH.value, *shape)).astype(np.float32)
    labels = random.integers(0, 10, _BATCH.value)
    networks = [
        wrpn_tf.models.build(_ARCH.value, num_classes=10, input_shape=shape, front="tf_keras")
        for _ in range(3)
    ]
    for index in (1, 2):
        networks[index] = wrpn_tf.quantize_model(networks[index], _WBITS.value, _ABITS.value)
        wrpn_tf.calibrate(networks[index], [images])
    wrpn_tf.pack_activations(networks[2])
    found = [milliseconds(network, images, labels) for network in networks]

    title = f"{_ARCH.value}, {_SIZE.value} pixels, batch {_BATCH.value}: ms of a step"
    table = Table(title=title)
    bits = f"{_WBITS.value}/{_ABITS.value}"
    for heading in ("operation", "float", bits, "difference", f"{bits}, packed", "difference"):
        table.add_column(heading, justify="left" if heading == "operation" else "right")

    def row(name: str, times: list[float]) -> None:
        whole, quantized, packed = times
        more = f"{quantized - whole:+.1f}", f"{packed - quantized:+.1f}"
        table.add_row(name, *(f"{x:.1f}" for x in times[:2]), more[0], f"{packed:.1f}", more[1])

    by_name = {
        name: [operations.get(name, 0.0) for operations in found] for name in set().union(*found)
    }
    for name in sorted(by_name, key=lambda name: -max(by_name[name]))[: _ROWS.value]:
        row(name, by_name[name])
    table.add_section()
    row("all", [sum(operations.values()) for operations in found])
    Console().print(table)


if __name__ == "__main__":
    command_line.run(main, errors=())
