"""A ResNet that was published for the original CIFAR-10, on the images of a folder.

    python -m benchmarks.published_resnet --weights=resnet20-12fca82f.th --data_dir=…

The files are those of https://github.com/akamaster/pytorch_resnet_cifar10, which PyTorch reads.
Prints the top-1 that the file says, and that on the folder's test images; with `--epochs` that
after so many epochs on its training images, shifted and mirrored, too. So where the folder's images
are not quite the original's, it tells what that costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import app, flags
from tf_keras import layers

import wrpn_tf
from train.data import test_batches, training_batches

_WEIGHTS = flags.DEFINE_string("weights", None, "File of a published ResNet.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS with CIFAR-10.", required=True)
_EPOCHS = flags.DEFINE_integer("epochs", 0, "Epochs on the training images.", 0)
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 0.04, "Where its cosine begins.")
_WEIGHT_DECAY = flags.DEFINE_float("weight_decay", 5e-4, "Of kernels.")
_BATCH_SIZE = 128

# What images are normalized with there, of pixels from 0 to 1.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

State = Mapping[str, np.ndarray]


def main(_: list[str]) -> None:
    """Runs the benchmark."""
    data = wrpn_tf.datasets.load("cifar10", data_dir=_DATA_DIR.value)
    state, published = read(_WEIGHTS.value)
    model = build(state, data)
    epochs, steps = _EPOCHS.value, len(data.train_images) // _BATCH_SIZE
    rate = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE.value, max(1, epochs) * steps)
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    test = test_batches(data, batch_size=500)
    here = model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    print(f"{model.name}: {published:.2f} % as published, {here:.2%} on these images", flush=True)
    if epochs:
        model.fit(
            training_batches(data, batch_size=_BATCH_SIZE, epochs=epochs, shift=4, flip=True),
            steps_per_epoch=steps,
            epochs=epochs,
            validation_data=test,
            verbose=2,
        )


def read(path: str) -> tuple[State, float]:
    """The arrays of a published file, by name, and the top-1 in percent that it says."""
    try:
        import torch
    except ImportError:
        raise SystemExit("PyTorch, which reads the file, is missing: pip install torch") from None
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = {name.removeprefix("module."): x.numpy() for name, x in content["state_dict"].items()}
    return state, float(content["best_prec1"])


def build(state: State, data: wrpn_tf.datasets.Dataset) -> keras.Model:
    """The network of a state, from the real values of a data set to logits.

    As in the source, convolutions pad on all sides, and shortcuts that change the shape take every
    second pixel and have zeros for the new channels (He et al. 2015, option A).
    """
    blocks = len({name.split(".")[1] for name in state if name.startswith("layer1.")})
    image = keras.Input(data.image_shape, name="image")
    pixels = layers.Rescaling(1 / (255 * data.scale), data.zero_point / 255)(image)
    x = layers.Normalization(mean=_MEAN, variance=np.square(_DEVIATION))(pixels)
    x = layers.ReLU()(_convolution(x, state, "", 1, 1))
    for stage in (1, 2, 3):
        for block in range(blocks):
            name, strides = f"layer{stage}.{block}.", 2 if stage > 1 and not block else 1
            y = layers.ReLU()(_convolution(x, state, name, 1, strides))
            y = _convolution(y, state, name, 2, 1)
            if strides > 1:
                added = (y.shape[-1] - x.shape[-1]) // 2
                x = tf.pad(x[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [added, added]])
            x = layers.ReLU()(x + y)
    x = layers.GlobalAveragePooling2D()(x)
    weights = [state["linear.weight"].T, state["linear.bias"]]
    logits = layers.Dense(len(weights[1]), weights=weights, name="logits")(x)
    return keras.Model(image, logits, name=f"resnet{6 * blocks + 2}")


def _convolution(x: Any, state: State, block: str, index: int, strides: int) -> Any:
    """A 3x3 convolution with its batch normalization."""
    kernel = state[f"{block}conv{index}.weight"].transpose(2, 3, 1, 0)
    parts = ("weight", "bias", "running_mean", "running_var")
    statistics = [state[f"{block}bn{index}.{part}"] for part in parts]
    x = layers.Conv2D(
        kernel.shape[-1],
        3,
        strides,
        use_bias=False,
        kernel_regularizer=keras.regularizers.L2(_WEIGHT_DECAY.value / 2),
        weights=[kernel],
    )(layers.ZeroPadding2D()(x))
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, weights=statistics)(x)


if __name__ == "__main__":
    app.run(main)
