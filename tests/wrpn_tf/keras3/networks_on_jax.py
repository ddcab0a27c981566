"""A process on JAX: small networks, from training to a verified file. Run by `test_jax.py`."""

import json
import os

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np
from keras import layers

import export
import wrpn_tf

RANDOM = np.random.default_rng(0)


def shared(x):
    conv, relu = layers.Conv2D(2, 3, padding="same", name="conv"), layers.ReLU(name="relu")
    return relu(conv(relu(conv(x))))


def prelu(x):
    slopes = layers.PReLU("random_uniform", shared_axes=(1, 2), name="slopes")
    return slopes(layers.Conv2D(4, 3, name="conv")(x))


def tanh(x):
    return layers.Conv2D(4, 3, activation="tanh", name="conv")(x)


def towers(x, other):
    halves = [
        layers.Conv2D(4, 3, activation="relu", name=name)(image)
        for name, image in (("left", x), ("right", other))
    ]
    return layers.Concatenate(name="both")(halves)


def different(build, count):
    """How many integers of the file are not those of the trained model."""
    images = [keras.Input((6, 6, 2), name=f"image{index}") for index in range(count)]
    x = layers.Dense(3, name="logits")(layers.Flatten(name="flat")(build(*images)))
    quantized = wrpn_tf.quantize_model(keras.Model(images, x), 2, 4, input_range=(0, 1))
    pixels = [RANDOM.random((32, 6, 6, 2), np.float32) for _ in images]
    labels = RANDOM.integers(0, 3, 32)
    wrpn_tf.calibrate(quantized, pixels)
    quantized.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    quantized.fit(pixels, labels, batch_size=16, verbose=0)
    export.settle(quantized)
    verified = export.verify(quantized, export.to_tflite(quantized), pixels, labels)
    return [*map(str, verified.failures)], verified.different


NETWORKS = ((shared, 1), (prelu, 1), (tanh, 1), (towers, 2))
print(json.dumps({build.__name__: different(build, count) for build, count in NETWORKS}))
