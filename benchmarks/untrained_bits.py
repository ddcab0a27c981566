"""Chosen bits against equal bits for all layers of a network that is not trained after it.

    python -m benchmarks.untrained_bits --data_dir=…

Quantizes a published float network for CIFAR-10 and calibrates it on training images, with every
pair of `--uniform` for all layers (but the first and the last, which have 8 bits), and with bits
that `wrpn_tf.choose_bits` finds for the same cost, for each kind of distortion. Prints the top-1 on
the test images as rows of a Markdown table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import keras
from absl import app, flags

import wrpn_tf
from wrpn_tf.allocation.choosing import solve
from wrpn_tf.allocation.sensitivity import Distortion, measure_distortions, read_tensors
from wrpn_tf.arithmetic.bits import OFF

_NETWORK = flags.DEFINE_string("network", "resnet20", "Published float network, of CIFAR-10.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS with CIFAR-10.", required=True)
_UNIFORM = flags.DEFINE_list(
    "uniform", ["8/8", "6/6", "5/5", "4/6", "4/4"], "Bits of activations and weights of all layers."
)
_IMAGES = flags.DEFINE_integer("images", 512, "Training images to calibrate and measure on.")
_TEST_IMAGES = flags.DEFINE_integer("test_images", 10_000, "Test images.")
_CHOICES = range(2, 9)


def main(_: list[str]) -> None:
    """Runs the benchmark."""
    data = wrpn_tf.datasets.load("cifar10", data_dir=_DATA_DIR.value)
    images = data.normalize(data.train_images[: _IMAGES.value])
    network = wrpn_tf.models.load_pretrained(_NETWORK.value)

    def accuracy(*bits: int, rules: Sequence[wrpn_tf.Rule] = ()) -> float:
        quantized = wrpn_tf.quantize_model(network, *bits, rules, input_range=data.input_range)
        wrpn_tf.calibrate(quantized, images, batch_size=128)
        return _accuracy(quantized, data)

    print(f"float: {_accuracy(network, data):.2%}", flush=True)
    tensors, whole = read_tensors(network), wrpn_tf.measure_cost(network).compute
    batches = [inputs for inputs, _ in wrpn_tf.batches(network, images, batch_size=128)]
    measured = {
        kind: measure_distortions(network, batches, _CHOICES, kind) for kind in get_args(Distortion)
    }
    print("| cost | equal bits (A/W) | top-1 |", *(f"chosen, {kind} |" for kind in measured))
    for pair in _UNIFORM.value:
        activation_bits, weight_bits = map(int, pair.split("/"))
        planned = wrpn_tf.measure_cost(
            network, weight_bits=weight_bits, activation_bits=activation_bits
        )
        cost = planned.compute / whole
        chosen = [
            accuracy(OFF, OFF, rules=solve(tensors, distortions, {"cost": cost}).rules)
            for distortions in measured.values()
        ]
        equal = accuracy(weight_bits, activation_bits)
        print(
            f"| {cost:.3f} | {pair} | {equal:.2%} |",
            *(f"{each:.2%} |" for each in chosen),
            flush=True,
        )


def _accuracy(model: Any, data: wrpn_tf.datasets.Dataset) -> float:
    """Top-1 on the test images."""
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    test = data.normalize(data.test_images[: _TEST_IMAGES.value])
    labels = data.test_labels[: _TEST_IMAGES.value]
    return model.evaluate(test, labels, batch_size=250, verbose=0)[1]


if __name__ == "__main__":
    app.run(main)
