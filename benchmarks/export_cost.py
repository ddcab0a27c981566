"""Time and memory from a quantized network to its file, step by step.

    python -m benchmarks.export_cost --network=VGG16
    python -m benchmarks.export_cost --network=MobileNetV2 --size=64 --front=keras --method=learned

A network of `keras.applications` or `tf_keras.applications` with random weights, calibrated on one
random image. Prints, for each step, seconds, CPU seconds and the resident memory before it and at
its most.
"""

from __future__ import annotations

import importlib
import pathlib
import resource
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from absl import flags

from wrpn_tf import command_line

_NETWORK = flags.DEFINE_enum(
    "network", "VGG16", ["VGG16", "ResNet50", "MobileNetV2"], "Which network."
)
_FRONT = flags.DEFINE_enum("front", "tf_keras", ["tf_keras", "keras"], "Which Keras it is of.")
_METHOD = flags.DEFINE_enum(
    "method", "dynamic", ["dynamic", "learned"], "Where the scales of its weights come from."
)
_SIZE = flags.DEFINE_integer("size", 224, "Height and width of images.", 32)
_WBITS = flags.DEFINE_integer("wbits", 4, "Weight bits.", 1, 8)
_ABITS = flags.DEFINE_integer("abits", 4, "Activation bits.", 1, 8)
_PAUSE = 0.02  # Seconds between two looks at the memory.

_Result = TypeVar("_Result")


class _Watch:
    """The largest resident memory, in MB, while it is entered."""

    def __enter__(self) -> _Watch:
        self.before = self.most = resident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.most = max(self.most, resident())

    def _look(self) -> None:
        while not self._ended.wait(_PAUSE):
            self.most = max(self.most, resident())


def resident() -> int:
    """Resident memory of this process, in MB; Linux only."""
    pages = int(pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() >> 20


def measured(name: str, step: Callable[[], _Result]) -> _Result:
    """What a step gives; prints what it takes."""
    clock, cpu = time.perf_counter(), time.process_time()
    with _Watch() as watch:
        result = step()
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    print(
        f"{name:10} {clock:6.1f} s, of CPU {cpu:6.1f}; "
        f"{watch.before:,} MB before, {watch.most:,} at most"
    )
    return result


def _realized(model: Any) -> Any:
    """The integer graph of a quantized model; prints how many channels are not exact."""
    import export

    trained = measured("lower", lambda: export.lower(model))
    graph = measured("realize", lambda: export.realize(trained))
    channels = sum(len(kernel.codes) for kernel in trained.kernels)
    counts = graph.provenance.inexact_channels.values()
    inexact = {name: sum(each[name] for each in counts) for name in ("xnnpack", "reference")}
    print(f"channels that are not exact, of {channels:,}: {inexact}")
    return graph


def main() -> None:
    """Runs the program."""
    import export
    import wrpn_tf

    keras = importlib.import_module(_FRONT.value)
    keras.utils.set_random_seed(0)
    shape = (_SIZE.value, _SIZE.value, 3)
    build = getattr(keras.applications, _NETWORK.value)
    model = build(weights=None, input_shape=shape, classifier_activation=None)
    quantized = measured(
        "quantize",
        lambda: wrpn_tf.quantize_model(
            model,
            _WBITS.value,
            _ABITS.value,
            input_range=(-1.0, 1.0),
            weight_method=_METHOD.value,
        ),
    )
    image = np.random.default_rng(0).uniform(-1, 1, (1, *shape)).astype(np.float32)
    measured("calibrate", lambda: wrpn_tf.calibrate(quantized, image))
    _realized(quantized)
    measured("settle", lambda: export.settle(quantized))
    graph = _realized(quantized)
    content = measured("to_tflite", lambda: export.to_tflite(quantized))
    proof = measured("prove", lambda: export.prove(graph))
    print(f"{len(content):,} bytes; against the file: {proof.failures(('xnnpack',))}")


if __name__ == "__main__":
    command_line.run(main)
