"""What `export.settle` takes and moves, over random small networks.

    python -m benchmarks.settling --networks=500
    python -m benchmarks.settling --mobilenet

The first settles random networks: one to three layers with kernels of 1 to 8 bits, with batch
normalization, a bias or neither, with outputs of 2 to 8 bits, some with a residual sum. It prints
the CPU time of the slowest and the median, each by itself and for each channel.

The second settles a MobileNetV2 with 4-bit weights and activations and random calibrated weights,
and prints how many of 500 random images have another top-1 then, how many have one in the file of
the network as it was, and how many if the first layers alone are settled.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import flags
from tf_keras import layers

import export
import wrpn_tf
from export.runtime.runner import Runner
from wrpn_tf import command_line

_NETWORKS = flags.DEFINE_integer("networks", 500, "How many random networks to settle.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first of them.")
_MOBILENET = flags.DEFINE_boolean("mobilenet", False, "Settle a MobileNetV2 instead.")
_IMAGES = 500


def random_network(seed: int) -> keras.Model:
    """A quantized network with random weights, calibrated on random images."""
    random = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    size, channels = int(random.integers(6, 17)), int(random.integers(1, 5))
    image = x = keras.Input((size, size, channels), name="image")
    for index in range(int(random.integers(1, 4))):
        x = _block(random, x, f"_{index}")
    x = layers.Flatten()(x) if random.random() < 0.5 else layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(int(random.integers(2, 11)), name="logits")(x))
    randomize(model, random)
    bits = [int(random.integers(1, 9)), int(random.integers(2, 9))]
    model = wrpn_tf.quantize_model(model, *bits, input_range=(0, 1))
    wrpn_tf.calibrate(model, random.uniform(0, 1, (64, size, size, channels)).astype(np.float32))
    return model


def _block(random: np.random.Generator, x, name: str):
    source, filters = x, int(random.integers(2, 17))
    after = str(random.choice(["normalization", "bias", "nothing"]))
    options = {"padding": "same", "use_bias": after == "bias"}
    if random.random() < 0.3:
        x = layers.DepthwiseConv2D(3, name=f"depthwise{name}", **options)(x)
    else:
        x = layers.Conv2D(filters, int(random.choice([1, 3])), name=f"conv{name}", **options)(x)
    if after == "normalization":
        x = layers.BatchNormalization(name=f"bn{name}")(x)
    if source.shape == x.shape and random.random() < 0.5:
        x = layers.Add(name=f"add{name}")([x, source])
    return layers.ReLU(name=f"relu{name}")(x) if random.random() < 0.7 else x


def randomize(model: keras.Model, random: np.random.Generator) -> None:
    """Weights that use the whole of every layer's range."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            count = layer.gamma.shape[0]
            gamma = random.uniform(0.5, 1.5, count) * random.choice([-1, 1], count)
            beta, mean = random.normal(0, 0.3, (2, count))
            layer.set_weights([gamma, beta, mean, random.uniform(0.5, 1.5, count)])
        elif layer.weights:
            layer.set_weights([random.normal(0, 0.3, weight.shape) for weight in layer.weights])


def settle_networks(count: int, first: int) -> None:
    """Prints the CPU time of settling random networks."""
    seconds, each, recoded, channels = {}, {}, 0, 0
    for seed in range(first, first + count):
        model = random_network(seed)
        started = time.process_time()
        report = export.settle(model)
        seconds[seed] = time.process_time() - started
        each[seed] = seconds[seed] / report.channels
        recoded, channels = recoded + report.recoded, channels + report.channels
        keras.backend.clear_session()
    print(f"{count} networks, {channels:,} channels; another code for some input: {recoded:,}")
    for what, values in (("a network", seconds), ("a channel", each)):
        slowest = max(values, key=lambda seed: values[seed])
        print(
            f"CPU time of {what}: median {statistics.median(values.values()):.3f} s, slowest "
            f"{values[slowest]:.3f} s (seed {slowest})"
        )


def settle_mobilenet() -> None:
    """Prints what settling does to the results of a deep network that was not trained."""
    random = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, classes=10, classifier_activation=None
    )
    randomize(model, random)
    model = wrpn_tf.quantize_model(model, 4, 4, input_range=(-1, 1))
    # Low frequencies, so that images differ in more than noise.
    coarse = random.uniform(0, 255, (_IMAGES, 4, 4, 3)).astype(np.float32)
    pixels = np.rint(tf.image.resize(coarse, (32, 32))).astype(np.uint8)
    images = pixels / np.float32(127.5) - 1
    wrpn_tf.calibrate(model, images[:256], batch_size=256)
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if isinstance(inner, layers.BatchNormalization):
            inner.momentum = 0.0
    for _ in range(2):  # Statistics, then the ranges with them.
        model(images[:256], training=True)
    trained = model.get_weights()
    start = model.predict(images, verbose=0).argmax(axis=1)
    (name,) = export.lower(model).inputs
    codes = (pixels.astype(np.int16) - 128).astype(np.int8)
    (logits,) = Runner(export.to_tflite(model))({name: codes}).values()
    started = time.process_time()
    report = export.settle(model)
    seconds = time.process_time() - started
    settled = model.get_weights()
    print(f"{report.recoded:,} of {report.channels:,} channels recoded, {seconds:.1f} s of CPU")
    print(f"Another top-1 of {_IMAGES} images than before settling:")
    print(f"  in the file, not settled: {np.mean(logits.argmax(axis=1) != start):.1%}")
    for count in (None, 1, 2, 3):
        model.set_weights(settled)
        kept = 0
        for weight, old, new in zip(model.weights, trained, settled, strict=True):
            kept += not np.array_equal(old, new)
            if count is not None and kept > count:
                weight.assign(old)
        found = model.predict(images, verbose=0).argmax(axis=1)
        what = "all layers" if count is None else f"the first {count} arrays that move"
        print(f"  in Keras, settled, {what}: {np.mean(found != start):.1%}")


def main() -> None:
    """Runs the program."""
    if _MOBILENET.value:
        settle_mobilenet()
    else:
        settle_networks(_NETWORKS.value, _SEED.value)


if __name__ == "__main__":
    command_line.run(main)
