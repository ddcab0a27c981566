"""Time of a training step, quantized relative to float.

    python -m benchmarks.training_step --arch=resnet20 --width=1 --rounds=5
    KERAS_BACKEND=jax python -m benchmarks.training_step --fronts=keras

Float and this package's 2-bit weights with 4-bit activations, in tf_keras and in Keras 3, on the
same network and batch, interleaved in one process, also with packed activations; in tf_keras also
2-bit weights alone (with the 8-bit ranges of an integer-only network), fixed scales, and TF-MOT's
8-bit scheme. Prints the median ratio to the first float network over the rounds, and that
network's time. On JAX there is Keras 3 alone. Keras 3 compiles steps with XLA by default, tf_keras
does not.
"""

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

import wrpn_tf
from benchmarks.suite.stepping import seconds, warm_step
from wrpn_tf import command_line

_ARCH = flags.DEFINE_string("arch", "resnet20", "Architecture.")
_SIZE = flags.DEFINE_integer("image_size", 32, "Height and width of the images.", 8)
_WIDTH = flags.DEFINE_float("width", 1.0, "Factor on the filters.")
_BATCH = flags.DEFINE_integer("batch_size", 128, "Images per step.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds; each runs every program.", 1)
_STEPS = flags.DEFINE_integer("steps", 3, "Steps of a program in a round.", 1)
_JIT = flags.DEFINE_bool("jit", None, "Whether XLA compiles the steps; left out: Keras decides.")
_FRONTS = flags.DEFINE_list("fronts", ["tf_keras", "keras"], "Of 'tf_keras' and 'keras'.")

_LABELS = {"tf_keras": "tf_keras", "keras": "Keras 3"}


def _programs(front: str, images: np.ndarray, labels: np.ndarray) -> dict[str, Callable]:
    """Training steps of a front's networks, by name."""
    if front == "keras":
        import keras
    else:
        import tf_keras as keras

    def network() -> Any:
        return wrpn_tf.models.build(
            _ARCH.value,
            width=_WIDTH.value,
            num_classes=10,
            input_shape=images.shape[1:],
            front=front,
        )

    def quantized(activation_bits: int = 4, **options: Any) -> Any:
        model = wrpn_tf.quantize_model(network(), 2, activation_bits, **options)
        wrpn_tf.calibrate(model, [images])
        return model

    models = {"float": network(), "2-bit weights, 4-bit activations": quantized()}
    if keras.backend.backend() == "tensorflow":
        models["2-bit weights, 4-bit activations, packed"] = quantized()
        wrpn_tf.pack_activations(models["2-bit weights, 4-bit activations, packed"])
    if front == "tf_keras":
        import tensorflow_model_optimization as tfmot

        models["2-bit weights alone"] = quantized(32)
        models["2-bit weights, 4-bit activations, fixed scales"] = quantized(method="calibrated")
        models["TF-MOT, 8 bits"] = tfmot.quantization.keras.quantize_model(network())
    options = {} if _JIT.value is None else {"jit_compile": _JIT.value}
    return {
        f"{_LABELS[front]}, {name}": warm_step(keras, model, images, labels, **options)
        for name, model in models.items()
    }


def main() -> None:
    """Runs the program."""
    random = np.random.default_rng(0)
    images = random.normal(size=(_BATCH.value, _SIZE.value, _SIZE.value, 3)).astype(np.float32)
    labels = random.integers(0, 10, _BATCH.value)
    programs: dict[str, Callable] = {}
    for front in _FRONTS.value:
        programs |= _programs(front, images, labels)
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(_ROUNDS.value):
        for name, step in programs.items():
            times[name].append(seconds(step, _STEPS.value))

    first = next(iter(times))
    title = f"{_ARCH.value} {_WIDTH.value:g}x, batch {_BATCH.value}"
    table = Table(title=title, caption=f"{first}: {statistics.median(times[first]):.3f} s")
    for heading in ("program", "step / first", "lowest", "highest"):
        table.add_column(heading, justify="left" if heading == "program" else "right")
    for name, own in times.items():
        ratios = [one / base for one, base in zip(own, times[first], strict=True)]
        table.add_row(name, *(f"{f(ratios):.2f}" for f in (statistics.median, min, max)))
    Console().print(table)


if __name__ == "__main__":
    command_line.run(main, errors=())
