"""A class for every pixel: a small U-Net, trained at 4-bit weights and activations, as integers.

    python examples/segmentation.py --output=segmentation.tflite

Trains a float network on scenes of scikit-learn's digits, quantizes and fine-tunes it, exports it,
compares every integer with LiteRT's, and prints the mean IoU of the float network, of the quantized
one and of the file. What the file gives is argmaxed as it is: integers order as logits do.
"""

import digit_scenes
import keras
import numpy as np
import tflite_files
from absl import app, flags
from keras import layers

import wrpn_tf

_EPOCHS = flags.DEFINE_integer("epochs", 12, "Epochs in float; half as many in few bits.", 1)
_SCENES = flags.DEFINE_integer("scenes", 2000, "Training scenes; a tenth as many to test.", 32)
_BITS = flags.DEFINE_integer("bits", 4, "Of weights and of activations.", 1, 8)
_OUTPUT = flags.DEFINE_string("output", "segmentation.tflite", "The file to write.")


def network(filters: int = 16) -> keras.Model:
    """Maps images [N, 32, 32, 1] in [0, 1] to logits [N, 32, 32, 11]."""
    image = keras.Input((digit_scenes.SIZE, digit_scenes.SIZE, 1), name="image")
    fine = _convolution(image, filters, "fine")
    middle = _convolution(layers.MaxPooling2D()(fine), 2 * filters, "middle")
    x = _convolution(layers.MaxPooling2D()(middle), 4 * filters, "coarse")
    x = layers.Conv2DTranspose(2 * filters, 2, strides=2, activation="relu", name="up_middle")(x)
    x = _convolution(layers.Concatenate()([x, middle]), 2 * filters, "merged_middle")
    x = layers.Conv2DTranspose(filters, 2, strides=2, activation="relu", name="up_fine")(x)
    x = _convolution(layers.Concatenate()([x, fine]), filters, "merged_fine")
    logits = layers.Conv2D(digit_scenes.CLASSES + 1, 1, name="logits")(x)
    return keras.Model(image, logits, name="u_net")


def _convolution(x, filters: int, name: str):
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def mean_iou(predicted: np.ndarray, masks: np.ndarray) -> float:
    """Intersection over union of a class's pixels, averaged over the classes that are there.

    Args:
        predicted: int64 [N, H, W], classes.
        masks: int64 [N, H, W], the true ones.
    """
    found = []
    for each in np.unique(masks):
        one, other = predicted == each, masks == each
        found.append((one & other).sum() / (one | other).sum())
    return float(np.mean(found))


def fit(model: keras.Model, scenes: digit_scenes.Scenes, epochs: int, rate: float) -> None:
    """Trains a model in place, with a cosine to 0."""
    steps = epochs * -(-len(scenes.images) // 32)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(scenes.images / np.float32(255), scenes.masks, epochs=epochs, verbose=2)


def main(_: list[str]) -> None:
    """Runs the program."""
    keras.utils.set_random_seed(0)
    scenes = digit_scenes.make(_SCENES.value, "train")
    test = digit_scenes.make(_SCENES.value // 10, "test", seed=1)
    images, test_images = scenes.images / np.float32(255), test.images / np.float32(255)

    model = network()
    fit(model, scenes, _EPOCHS.value, 3e-3)
    quantized = wrpn_tf.quantize_model(model, _BITS.value, _BITS.value, input_range=(0, 1))
    wrpn_tf.calibrate(quantized, [images[:256]])
    fit(quantized, scenes, -(-_EPOCHS.value // 2), 1e-3)

    names = ["background", *map(str, range(digit_scenes.CLASSES))]
    verification = tflite_files.deploy(quantized, _OUTPUT.value, names, test_images[:20])

    (integers, _, _), *_ = tflite_files.run(_OUTPUT.value, test.images).values()
    for name, logits in {
        "float": model.predict(test_images, verbose=0),
        f"{_BITS.value}/{_BITS.value} in Keras": quantized.predict(test_images, verbose=0),
        "the file": integers,
    }.items():
        print(f"mean IoU, {name}: {mean_iou(logits.argmax(-1), test.masks):.3f}")
    print(f"integers compared: {verification.integers:,}, different: {verification.different:,}")


if __name__ == "__main__":
    app.run(main)
