"""Time of a training step, quantized relative to float.

    python -m benchmarks.training_step --arch=resnet20 --width=1 --rounds=5

Float, TF-MOT's 8-bit scheme and this package's 2-bit weights with 4-bit activations, on the same
network and batch, interleaved in one process; prints the median ratio to float over the rounds.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from absl import flags
from rich.console import Console
from rich.table import Table

import wrpn_tf
from wrpn_tf import command_line

_ARCH = flags.DEFINE_string("arch", "resnet20", "Architecture, for 32x32 images.")
_WIDTH = flags.DEFINE_float("width", 1.0, "Factor on the filters.")
_BATCH = flags.DEFINE_integer("batch_size", 128, "Images per step.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds; each runs every program.", 1)
_STEPS = flags.DEFINE_integer("steps", 3, "Steps of a program in a round.", 1)

_SHAPE = (32, 32, 3)


def _step(model: keras.Model, batch: tuple[tf.Tensor, tf.Tensor]) -> Callable[[], None]:
    """The compiled training step of a model, traced and warm."""
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9, jit_compile=False),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    function = model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())

    def step() -> None:
        function(batches)

    step()
    step()
    return step


def main() -> None:
    """Runs the program."""
    random = np.random.default_rng(0)
    images = random.normal(size=(_BATCH.value, *_SHAPE)).astype(np.float32)
    batch = tf.constant(images), tf.constant(random.integers(0, 10, _BATCH.value))

    def network() -> keras.Model:
        return wrpn_tf.models.build(
            _ARCH.value, width=_WIDTH.value, num_classes=10, input_shape=_SHAPE, front="tf_keras"
        )

    quantized = wrpn_tf.quantize_model(network(), weight_bits=2, activation_bits=4)
    wrpn_tf.calibrate(quantized, [images])
    programs = {
        "float": _step(network(), batch),
        "TF-MOT, 8 bits": _step(tfmot.quantization.keras.quantize_model(network()), batch),
        "wrpn_tf, 2-bit weights, 4-bit activations": _step(quantized, batch),
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(_ROUNDS.value):
        for name, step in programs.items():
            start = time.perf_counter()
            for _ in range(_STEPS.value):
                step()
            seconds[name].append((time.perf_counter() - start) / _STEPS.value)

    table = Table(title=f"{_ARCH.value} {_WIDTH.value:g}x, batch {_BATCH.value}")
    for heading in ("program", "step / float step", "lowest", "highest"):
        table.add_column(heading, justify="left" if heading == "program" else "right")
    for name, times in seconds.items():
        ratios = [one / base for one, base in zip(times, seconds["float"], strict=True)]
        table.add_row(name, *(f"{f(ratios):.2f}" for f in (statistics.median, min, max)))
    Console().print(table)


if __name__ == "__main__":
    command_line.run(main, errors=())
