"""Boxes around objects: an SSD-like head, trained at 4-bit weights and activations, as integers.

    python examples/detection.py --output=detection.tflite

Trains a float network on scenes of scikit-learn's digits, quantizes and fine-tunes it, exports it,
compares every integer with LiteRT's, and prints mAP at IoU .5, precision and recall of the float
network, of the quantized one and of the file. The file gives class scores and box offsets as
integers; `decode` and `suppress` are what the host does with them.
"""

import digit_scenes
import keras
import numpy as np
import tflite_files
from absl import app, flags
from keras import layers

import wrpn_tf

_EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs in float; half as many in few bits.", 1)
_SCENES = flags.DEFINE_integer("scenes", 3000, "Training scenes; a tenth as many to test.", 32)
_BITS = flags.DEFINE_integer("bits", 4, "Of weights and of activations.", 1, 8)
_OUTPUT = flags.DEFINE_string("output", "detection.tflite", "The file to write.")

_STRIDES = {4: (8.0, 10.0), 8: (13.0, 16.0)}
"""By stride of a level of features: the heights of its anchors in pixels."""

_PRECISION = 0.5
"""The probability from which on a box counts for precision and recall."""


def anchors() -> np.ndarray:
    """Centres and sizes (y, x, height, width) in pixels, float32 [A, 4], as the outputs' rows."""
    found = []
    for stride, heights in _STRIDES.items():
        centres = (np.arange(digit_scenes.SIZE // stride) + 0.5) * stride
        for y in centres:
            found += [(y, x, height, 0.75 * height) for x in centres for height in heights]
    return np.array(found, np.float32)


def network(filters: int = 24) -> keras.Model:
    """Maps images [N, 32, 32, 1] in [0, 1] to scores [N, A, 11] and boxes [N, A, 4].

    Scores are logits, of the background first. Boxes are offsets from the anchors, see `decode`.
    """
    image = keras.Input((digit_scenes.SIZE, digit_scenes.SIZE, 1), name="image")
    x = layers.MaxPooling2D()(_convolution(image, filters, 1, "stem"))
    fine = _convolution(_convolution(x, 2 * filters, 2, "fine1"), 2 * filters, 1, "fine2")
    coarse = _convolution(_convolution(fine, 4 * filters, 2, "coarse1"), 4 * filters, 1, "coarse2")
    outputs = []
    for name, size in {"scores": digit_scenes.CLASSES + 1, "boxes": 4}.items():
        levels = []
        for level, (features, heights) in enumerate(
            zip((fine, coarse), _STRIDES.values(), strict=True)
        ):
            channels = len(heights) * size
            x = layers.Conv2D(channels, 3, padding="same", name=f"{name}{level}")(features)
            levels.append(layers.Reshape((-1, size))(x))
        outputs.append(layers.Concatenate(axis=1, name=name)(levels))
    return keras.Model(image, outputs, name="ssd")


def _convolution(x, filters: int, strides: int, name: str):
    x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False, name=name)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [N, 4] (top, left, bottom, right) with others [M, 4]."""
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    far = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    both = np.clip(far - corner, 0, None).prod(-1)
    areas = [(each[:, 2:] - each[:, :2]).prod(-1) for each in (boxes, others)]
    return both / np.maximum(areas[0][:, None] + areas[1][None] - both, 1e-9)


def encode(scenes: digit_scenes.Scenes) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Targets and weights of `fit`: each anchor's class, offsets, and whether these count.

    An anchor is of the digit that it overlaps by half or most of all; a digit has its best anchor.
    Boxes count where there is a digit, and so much that background, which is most, does not win.
    """
    places = anchors()
    centres, halves = places[:, :2], places[:, 2:] / 2
    corners = np.concatenate([centres - halves, centres + halves], 1)
    count = len(scenes.images), len(places)
    classes, offsets = np.zeros(count, np.int64), np.zeros((*count, 4), np.float32)
    for row, (boxes, labels) in enumerate(zip(scenes.boxes, scenes.labels, strict=True)):
        shared = overlaps(corners, boxes)
        shared[shared.argmax(0), np.arange(len(boxes))] = 1
        mine = shared.argmax(1)
        classes[row] = np.where(shared.max(1) >= 0.5, labels[mine] + 1, 0)
        centres, sizes = (boxes[mine, :2] + boxes[mine, 2:]) / 2, boxes[mine, 2:] - boxes[mine, :2]
        offsets[row, :, :2] = (centres - places[:, :2]) / places[:, 2:]
        offsets[row, :, 2:] = np.log(sizes / places[:, 2:])
    objects = (classes > 0).astype(np.float32)
    offsets *= objects[..., None]
    return [classes, offsets], [0.2 + 1.8 * objects, 20 * objects]


def decode(scores: np.ndarray, offsets: np.ndarray) -> list[tuple]:
    """Detections of each scene: boxes [D, 4] in pixels, classes [D], probabilities [D].

    Args:
        scores: float32 [N, A, 11], logits.
        offsets: float32 [N, A, 4], from the anchors: of the centre in their size, of the logarithm
            of the size.
    """
    places = anchors()
    exponentials = np.exp(scores - scores.max(-1, keepdims=True))
    probabilities = (exponentials / exponentials.sum(-1, keepdims=True))[..., 1:]
    centres = places[:, :2] + offsets[..., :2] * places[:, 2:]
    halves = np.exp(offsets[..., 2:]) * places[:, 2:] / 2
    boxes = np.concatenate([centres - halves, centres + halves], -1)
    return [suppress(*scene) for scene in zip(boxes, probabilities, strict=True)]


def suppress(
    boxes: np.ndarray, probabilities: np.ndarray, least: float = 0.05, overlap: float = 0.45
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Non-maximum suppression: of boxes that overlap, whatever their class, the most probable.

    Args:
        boxes: float32 [A, 4].
        probabilities: float32 [A, 10].
        least: probability that a box must have.
        overlap: intersection over union from which on the less probable box goes.

    Returns:
        Boxes [D, 4], classes [D] and probabilities [D], the most probable first.
    """
    classes, best = probabilities.argmax(1), probabilities.max(1)
    order = [index for index in np.argsort(-best, kind="stable") if best[index] >= least]
    kept: list[int] = []
    for index in order:
        if not kept or overlaps(boxes[index][None], boxes[kept]).max() < overlap:
            kept.append(index)
    return boxes[kept], classes[kept], best[kept]


def quality(detections: list[tuple], scenes: digit_scenes.Scenes) -> tuple[float, float, float]:
    """Mean average precision at IoU .5 (area under the curve), precision and recall from .5 on."""
    average, true, false, total = [], 0, 0, 0
    for digit in range(digit_scenes.CLASSES):
        hits = []
        there = 0
        for (boxes, classes, probabilities), real, labels in zip(
            detections, scenes.boxes, scenes.labels, strict=True
        ):
            real = real[labels == digit]
            there += len(real)
            free = np.ones(len(real), bool)
            for box, probability in zip(
                boxes[classes == digit], probabilities[classes == digit], strict=True
            ):
                shared = overlaps(box[None], real)[0] * free
                hit = bool(shared.size and shared.max() >= 0.5)
                if hit:
                    free[shared.argmax()] = False
                hits.append((probability, hit))
        hits.sort(key=lambda each: -each[0])
        correct = np.cumsum([hit for _, hit in hits] or [0])
        precision = correct / np.arange(1, len(correct) + 1)
        best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
        recall = correct / max(there, 1)
        average.append(float(np.sum(np.diff(recall, prepend=0) * best_from_here)))
        sure = [hit for probability, hit in hits if probability >= _PRECISION]
        true, false, total = true + sum(sure), false + len(sure) - sum(sure), total + there
    return float(np.mean(average)), true / max(true + false, 1), true / total


def fit(model: keras.Model, scenes: digit_scenes.Scenes, epochs: int, rate: float) -> None:
    """Trains a model in place, with a cosine to 0."""
    targets, weights = encode(scenes)
    steps = epochs * -(-len(scenes.images) // 32)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)),
        [keras.losses.SparseCategoricalCrossentropy(from_logits=True), keras.losses.Huber()],
    )
    images = scenes.images / np.float32(255)
    model.fit(images, targets, sample_weight=weights, epochs=epochs, verbose=2)


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

    outputs = tflite_files.run(_OUTPUT.value, test.images)
    real = [
        (integers.astype(np.float32) - zero_point) * np.float32(scale)
        for integers, scale, zero_point in (outputs["scores"], outputs["boxes"])
    ]
    for name, result in {
        "float": model.predict(test_images, verbose=0),
        f"{_BITS.value}/{_BITS.value} in Keras": quantized.predict(test_images, verbose=0),
        "the file": real,
    }.items():
        figures = quality(decode(*result), test)
        print("{}: mAP .5 {:.3f}, precision {:.3f}, recall {:.3f}".format(name, *figures))
    print(f"integers compared: {verification.integers:,}, different: {verification.different:,}")


if __name__ == "__main__":
    app.run(main)
