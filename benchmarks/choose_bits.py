"""Chosen bits against equal bits for all layers, under the same budget and the same training.

    python -m benchmarks.choose_bits --seeds=0,1

Trains `digits_cnn` in float, chooses bits for budgets of cost with `wrpn_tf.choose_bits`, quantizes
and trains on; and does the same with every pair of weight and activation bits for all layers (but
the first and the last, which have 8) that keeps the budget and that no other pair exceeds in both.
Prints test accuracies as rows of a Markdown table, and for each seed the summed distortion that the
same cost has at width 1 and at width 2. A seed takes about four minutes on one CPU core.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from absl import app, flags

import wrpn_tf
from wrpn_tf.allocation.choosing import DEFAULT_CHOICES

_SEEDS = flags.DEFINE_list("seeds", ["0", "1"], "Seeds of trainings.")
_BUDGETS = flags.DEFINE_list("budgets", ["0.1", "0.15", "0.25"], "Budgets of cost.")
_EPOCHS = flags.DEFINE_integer("epochs", 10, "Epochs in float, and again with few bits.")
_IMAGES = flags.DEFINE_integer("images", 512, "Images that sensitivities are measured on.")


def main(_: list[str]) -> None:
    """Runs the benchmark."""
    data = wrpn_tf.datasets.load("digits")
    images = data.normalize(data.train_images[: _IMAGES.value])
    rows: dict[tuple[str, str], list[str]] = {}
    for seed in map(int, _SEEDS.value):
        for name, cell in _results(seed, data, images):
            rows.setdefault(name, []).append(cell)
            print(f"seed {seed}: {' '.join(name)}: {cell}", flush=True)
    for (budget, name), cells in rows.items():
        print(f"| {budget} | {name} | {' | '.join(cells)} |")


def _results(seed: int, data: Any, images: np.ndarray) -> Iterator[tuple[tuple[str, str], str]]:
    """Budget, way of choosing, and what came of it."""
    keras.utils.set_random_seed(seed)
    network = wrpn_tf.models.build("digits_cnn", num_classes=10, input_shape=data.image_shape)
    yield ("", "float"), f"{_trained(network, data):.2%}"
    whole = wrpn_tf.measure_cost(network).compute
    known: dict[Any, str] = {}

    def result(bits: Any, *uniform: int, rules: Any = ()) -> str:
        if bits not in known:
            quantized = wrpn_tf.quantize_model(
                network, *uniform, rules=rules, input_range=data.input_range
            )
            wrpn_tf.calibrate(quantized, images, batch_size=128)
            cost = wrpn_tf.measure_cost(quantized).compute / whole
            known[bits] = f"{_trained(quantized, data):.2%} at {cost:.3f}"
        return known[bits]

    for budget in _BUDGETS.value:
        for kind in ("mse", "kl"):
            choice = wrpn_tf.choose_bits(
                network, images, {"cost": float(budget)}, distortion=kind, batch_size=128
            )
            bits = ", ".join(f"{e.layers[0]} {e.part} {e.bits}" for e in choice.decisions)
            print(f"seed {seed}, {budget}, {kind}: {bits}")
            yield (budget, f"chosen by {kind}"), result(bits, rules=choice.rules)
        for w, a in _largest(network, float(budget) * whole):
            yield (budget, f"{a}/{w}"), result((w, a), w, a)
    _compare_widths(network, images)


def _trained(model: Any, data: Any) -> float:
    """Trains a model in place; returns its accuracy on the test images."""
    steps = _EPOCHS.value * (len(data.train_images) // 32)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        data.normalize(data.train_images),
        data.train_labels,
        batch_size=32,
        epochs=_EPOCHS.value,
        verbose=0,
    )
    test = data.normalize(data.test_images)
    return model.evaluate(test, data.test_labels, verbose=0)[1]


def _largest(network: Any, budget: float) -> list[tuple[int, int]]:
    """Weight and activation bits of all layers that keep a budget and are the most that do."""
    pairs = [
        pair
        for pair in itertools.product(DEFAULT_CHOICES, repeat=2)
        if wrpn_tf.measure_cost(network, weight_bits=pair[0], activation_bits=pair[1]).compute
        <= budget
    ]
    return [
        (w, a)
        for w, a in pairs
        if not any((v, b) != (w, a) and v >= w and b >= a for v, b in pairs)
    ]


def _compare_widths(network: Any, images: np.ndarray) -> None:
    """Prints the summed distortions of equal costs at width 1 and 2."""
    wide = wrpn_tf.widen(network, 2)
    factor = wrpn_tf.measure_cost(wide).compute / wrpn_tf.measure_cost(network).compute
    for budget in (0.3, 0.5, 0.8):
        sums = [
            wrpn_tf.choose_bits(model, images, {"cost": share}, batch_size=128).distortion
            for model, share in ((network, budget), (wide, budget / factor))
        ]
        print(f"cost {budget}: distortion {sums[0]:.2g} at width 1, {sums[1]:.2g} at width 2")


if __name__ == "__main__":
    app.run(main)
